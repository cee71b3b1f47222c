"""Workers on a Ray cluster: started, talked to, and given up when they are gone.

Ray places processes and carries messages, and nothing else. The command owns the run; workers are actors with
one CPU each, which live as long as it does. What they say and do stands in `worker.py` and `spreading.py`,
which know no Ray.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import anyio

from pipeline.engines.messages import Said, Setup, Told
from pipeline.engines.process import prepare_process
from pipeline.engines.reaching import limits_of
from pipeline.engines.spreading import Handle, Spread, WorkerLost, WorkersUnfit
from pipeline.engines.work import Engine, Running, Work
from pipeline.engines.worker import Worker
from pipeline.errors import UsageError

KNOCKS_S = 10.0
MISSING_EXTRA = "--engine ray needs an extra: pip install 'mediabatch[ray]'"


def on_ray(address: str | None) -> Engine:
    """An engine on the cluster at this address; without one, on the cluster of this machine, else on one that
    ends with the run.

    Raises:
        UsageError: Ray is not installed, or is not spoken to like that.
    """
    if find_spec("ray") is None:
        raise UsageError(MISSING_EXTRA)
    if address is not None and address.startswith("ray://"):
        raise UsageError(
            f"--ray-address {address}: Ray's client does not do here; run mediabatch on a machine of the "
            "cluster, with the address of its head, for instance 10.0.0.1:6379, or auto"
        )

    @asynccontextmanager
    async def engine(work: Work) -> AsyncIterator[Running]:
        limits = await limits_of(work.plan, work.world)
        if address is not None:
            await _knock(address)
        cluster = _Cluster(address)  # here, for Ray sets handlers of signals, which the main thread alone may
        try:
            yield Spread(work, limits, cluster.hire, cluster.workers)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(cluster.leave)

    return engine


async def _knock(address: str) -> None:
    """Where nobody listens, Ray takes most of a minute to find out, and exits.

    Raises:
        UsageError: nobody listens there.
    """
    host, _, port = address.rpartition(":")
    if not host:  # a word of Ray's own, such as auto
        return
    try:
        with anyio.fail_after(KNOCKS_S):
            stream = await anyio.connect_tcp(host, int(port))
            await stream.aclose()
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(f"--ray-address {address}: no Ray cluster answers there: {error}") from None


class _Cluster:
    """The cluster, joined. ``workers``: as many as it has CPUs."""

    def __init__(self, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        self._ray: Any = importlib.import_module("ray")
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            try:
                self._ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (RuntimeError, ValueError, OSError, SystemExit) as error:
                reason = str(error).strip().partition("\n")[0]
                raise UsageError(f"--engine ray: no cluster at {address or 'hand'}: {reason}") from None
        self.workers = max(1, int(self._ray.cluster_resources().get("CPU", 0)))
        self._actor: Any = self._ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Asker)

    async def hire(self, setup: Setup) -> Handle:
        hired = _Hired(self._ray, self._actor.remote())
        theirs, ours = await hired.version(), _version()
        if theirs != ours:
            hired.end()
            raise WorkersUnfit(
                f"a worker of the cluster has mediabatch {theirs}, this machine {ours}: install the same on "
                "every machine of the cluster"
            )
        await hired.begin(setup)
        return hired

    def leave(self) -> None:
        if self._is_ours:
            self._ray.shutdown()


class _Hired:
    """A worker on the cluster."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._actor = actor

    async def version(self) -> str:
        return str(await self._heard(self._actor.version.remote()))

    async def begin(self, setup: Setup) -> None:
        await self._heard(self._actor.begin.remote(setup))

    async def talk(self, told: Told) -> Said:
        said: Said = await self._heard(self._actor.talk.remote(told))
        return said

    async def _heard(self, answer: Any) -> Any:
        """
        Raises:
            WorkerLost: it is gone.
            whatever it raised: a bug of ours.
        """
        errors = self._ray.exceptions
        try:
            return await answer
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError as error:
            raise WorkerLost(_reason(error)) from None

    def end(self) -> None:
        with suppress(Exception):
            self._ray.kill(self._actor)


class _Asker:
    """The actor: a worker in an event loop of its own, as on one machine."""

    def __init__(self) -> None:
        self._at_work: Future[tuple[asyncio.AbstractEventLoop, Worker]] = Future()

    def version(self) -> str:
        """Of mediabatch here. What is said otherwise, only the same version is sure to understand."""
        return _version()

    def begin(self, setup: Setup) -> None:
        prepare_process()
        threading.Thread(target=self._live, args=[setup], name="mediabatch", daemon=True).start()

    def talk(self, told: Told) -> Said:
        loop, worker = self._at_work.result()
        return asyncio.run_coroutine_threadsafe(worker.talk(told), loop).result()

    def _live(self, setup: Setup) -> None:
        backend = {"use_uvloop": find_spec("uvloop") is not None}
        anyio.run(self._work, setup, backend_options=backend)

    async def _work(self, setup: Setup) -> None:
        worker = Worker(setup)
        self._at_work.set_result((asyncio.get_running_loop(), worker))
        with suppress(Exception):  # it is told to whoever talks to it
            await worker.execute()
        await anyio.sleep_forever()


def _version() -> str:
    return version("mediabatch")


def _reason(error: Exception) -> str:
    """Of Ray's many lines the first, and the last where that names an error."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    last = lines[-1] if len(lines) > 1 and "Error" in lines[-1] else ""
    return f"{lines[0]} {last}".strip() if lines else type(error).__name__
