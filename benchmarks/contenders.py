"""Who is measured. A peer is one function and one line in the table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ours
from benchmarks.measuring import Asked, measure_client


@dataclass(frozen=True, slots=True)
class Load:
    """What every contender is given. ``folder`` is for what it leaves behind."""

    items: int
    concurrency: int
    base_url: str
    manifest: Path
    folder: Path


def bare_loop(load: Load) -> Asked:
    arguments = [load.base_url, str(load.items), str(load.concurrency)]
    return measure_client([sys.executable, "-m", "benchmarks.bare_loop", *arguments])


def mediabatch(load: Load) -> Asked:
    options = ("--concurrency", str(load.concurrency))
    return ours.ask(ours.Order(load.manifest, load.items, load.base_url, load.folder / "out", options))


CONTENDERS: dict[str, Callable[[Load], Asked]] = {
    "bare aiohttp loop": bare_loop,
    "mediabatch": mediabatch,
}
"""In the order of a round; the first is what the others are compared with."""
