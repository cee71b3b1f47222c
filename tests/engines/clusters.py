"""A real Ray cluster of several nodes, all of them on this machine, and small."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MEMORY_BYTES = 80 * 1024 * 1024  # of a node's object store; the least that Ray takes is 75 MB


class SmallCluster:
    """A head without CPUs, and nodes with one each: one worker a node."""

    def __init__(self, nodes: int) -> None:
        import ray
        from ray.cluster_utils import Cluster

        self._ray = ray
        head = {"num_cpus": 0, "object_store_memory": MEMORY_BYTES, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        for _ in range(nodes):
            self.add_node()
        ray.init(address=self.address, log_to_driver=False, logging_level=logging.FATAL)

    @property
    def address(self) -> str:
        address: str = self._cluster.address
        return address

    def add_node(self, **environment: str) -> None:
        self.nodes.append(
            self._cluster.add_node(num_cpus=1, object_store_memory=MEMORY_BYTES, env_vars=environment)
        )

    def kill_node(self, which: int = 0) -> None:
        """The oldest, as a machine that loses its power."""
        self._cluster.remove_node(self.nodes.pop(which), allow_graceful=False)

    def end(self) -> None:
        self._ray.shutdown()
        self._cluster.shutdown()


@contextmanager
def small_cluster(nodes: int) -> Iterator[SmallCluster]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cluster = SmallCluster(nodes)
    try:
        yield cluster
    finally:
        cluster.end()
