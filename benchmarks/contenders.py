"""Who is measured: the real command, and the bare loop beside it (others: `peers`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import ours, work
from benchmarks.measuring import Asked, measure_client

LOOP: Final = "bare aiohttp loop"
OURS: Final = "mediabatch"


@dataclass(frozen=True, slots=True)
class Load:
    """What every contender is given. ``folder`` is for what it leaves behind; with ``images`` the bodies
    carry them inline (`images`), and the manifest names them.
    """

    items: int
    concurrency: int
    base_url: str
    manifest: Path
    folder: Path
    images: Path | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """``ask`` does the load, or what its slowness allows of it. ``own_requests``: what it asks besides."""

    ask: Callable[[Load], Asked]
    own_requests: int = 0


def _bare_loop(load: Load) -> Asked:
    command = [sys.executable, "-m", "benchmarks.bare_loop"]
    command += [load.base_url, str(load.items), str(load.concurrency)]
    if load.base_url.startswith("https:"):
        command += ["--ca-file", str(work.AUTHORITY)]
    if load.images is not None:
        command += ["--images", str(load.images)]
    return measure_client(command)


def _mediabatch(load: Load) -> Asked:
    options = ("--concurrency", str(load.concurrency))
    out = load.folder / "out"
    return ours.ask(ours.Order(load.manifest, load.items, load.base_url, out, options))


CONTENDERS: dict[str, Contender] = {LOOP: Contender(_bare_loop), OURS: Contender(_mediabatch)}
"""In the order of a round; the first is what the others are compared with."""
