"""Many nights on several processors: which seeds broke a promise, and how."""

from __future__ import annotations

import gc
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

CHUNK_SEEDS = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed whose night broke a promise. ``trace`` is a few lines for a person."""

    seed: int
    promise: str
    detail: str
    trace: str

    def __str__(self) -> str:
        return (
            f"seed {self.seed} breaks a promise: {self.promise}: {self.detail}\n{self.trace}\n"
            f"replay it: python -m tests.simulation --replay {self.seed}"
        )


def simulate(
    first: int, seeds: int, jobs: int, on_chunk: Callable[[int], None] = lambda seeds: None
) -> Iterator[Failure]:
    """Play the seeds from ``first`` on; ``on_chunk`` hears how many more are done."""
    chunks = [
        range(start, min(start + CHUNK_SEEDS, first + seeds))
        for start in range(first, first + seeds, CHUNK_SEEDS)
    ]
    # Spawned, because polars' threads do not survive a fork; one thread each, because the nights are many.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin) as pool:
        for done in as_completed([pool.submit(play_seeds, chunk) for chunk in chunks]):
            failures, count = done.result()
            yield from failures
            on_chunk(count)


def play_seeds(seeds: Sequence[int]) -> tuple[list[Failure], int]:
    """The failures among these seeds, and how many seeds there were."""
    failures = [failure for seed in seeds if (failure := play_seed(seed)) is not None]
    gc.collect()
    return failures, len(seeds)


def play_seed(seed: int) -> Failure | None:
    """What a seed's night broke, if anything. A bug that surfaces as itself breaks the first of promises."""
    from tests.simulation.broken import Broken
    from tests.simulation.nights import play
    from tests.simulation.trace import trace

    try:
        play(seed)
    except Broken as broken:
        return Failure(seed, broken.promise, broken.detail, trace(broken.evidence))
    except Exception as error:  # noqa: BLE001 - any bug there is
        return Failure(seed, "no bug surfaces", repr(error), "".join(traceback.format_exc(limit=-6)))
    return None


def _begin() -> None:
    # The collector looks once a chunk, and not at what is imported.
    import tests.simulation.nights  # noqa: F401

    gc.collect()
    gc.freeze()
    gc.disable()
