"""Where a run executes: in this process, or on a Ray cluster.

An engine places work, and nothing else: items travel through the same `analyze` and come to the same ledger
and store. The process that owns the run (the command) reads the manifest, tells ids and repeats apart, keeps
the ledger and makes the parts, whichever engine it is; with Ray, the asking alone happens elsewhere.

    work.py         what an engine is given, and the run under way that it makes of it
    reaching.py     the endpoints of a plan, open
    local.py        in this process

    ray.py          workers on a cluster: started, talked to, lost
    spreading.py    … rows to workers, what they recorded into the ledger: the owner's side
    worker.py       … a process that asks: the other side
    leasing.py      … its share of what is global
    coordinator.py  … and who hands that out: requests and tokens a minute, slots, holds, outages, money
    messages.py     … what the two sides say to each other

A new engine is one new file, and one line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.engines.local import in_this_process
from pipeline.engines.work import Engine, Running, Work

__all__ = ["ENGINES", "Engine", "Running", "Work", "in_this_process"]


def _local(address: str | None) -> Engine:
    return in_this_process


def _ray(address: str | None) -> Engine:
    from pipeline.engines.ray import on_ray

    return on_ray(address)


ENGINES: Mapping[str, Callable[[str | None], Engine]] = {"local": _local, "ray": _ray}
"""By name: what makes one, of the address of a cluster. Raises UsageError where its extra is missing."""
