"""Many requests at once that each take their time: how near the ideal time a run comes.

Of equal latencies the ideal is arithmetic; of a heavy tail it is the best schedule of the same latencies in
the same order (`latencies`). Both clocks run from the first request to the last answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import work
from benchmarks.ceilings import PYTHON, Pressing, measure_ceiling
from benchmarks.conduct import Conduct
from benchmarks.contenders import CONTENDERS, LOOP, OURS, Contender, Load
from benchmarks.figures import Figures
from benchmarks.latencies import best_schedule_s, heavy_tail
from benchmarks.measuring import Asked, Broken, python_server
from benchmarks.rounds import Runs, in_turn, kept, median_of, ratio
from benchmarks.verdicts import Verdict, tell

LATENCY_S = 0.5
WITHIN_IDEAL = 1.10
WITHIN_BEST_SCHEDULE = 1.05
TAIL_SEED = 7
POSSIBLE = 0.99
"""Less of the ideal time than this: more were in flight than may be, or something was measured wrongly."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of the runs with equal latencies, and of those with the heavy tail, whose latencies are multiplied by
    ``tail_scale``.
    """

    items: int
    rounds: int
    tail_items: int = 12_000
    tail_at_once: int = 2_000
    tail_scale: float = 1.0
    ceiling_requests: int = 40_000


@dataclass(frozen=True, slots=True)
class Case:
    at_once: int
    tls: bool


CASES: Mapping[str, Case] = {
    "plain-1000": Case(1_000, tls=False),
    "tls-1000": Case(1_000, tls=True),
    "plain-2000": Case(2_000, tls=False),
}
TAIL = "heavy-tail"
NAMES = (*CASES, TAIL)
IN_A_SLICE = ("tls-1000", TAIL)
SLICE = Size(2_000, 1, tail_items=500, tail_at_once=200, tail_scale=0.05, ceiling_requests=4_000)


def measure_latency(folder: Path, names: Sequence[str], size: Size) -> Figures:
    """Ceilings, then every case in turn; printed as they come.

    Raises:
        Broken: a contender lost an item.
    """
    pressing = Pressing(size.ceiling_requests, connections=2_000)
    ceilings = []
    for tls in (0, 1):
        with python_server(Conduct(tls=tls)) as base_url:
            ceilings.append(measure_ceiling(PYTHON, base_url, pressing))
    found: dict[str, Any] = {}
    for name in names:
        found[name] = _tail(folder, size) if name == TAIL else _case(name, CASES[name], folder, size)
    return Figures(
        what="latency",
        settings={
            "items": size.items,
            "latency_s": LATENCY_S,
            "rounds": size.rounds,
            "tail_items": size.tail_items,
            "tail_at_once": size.tail_at_once,
        },
        found={"ceilings": [one.kept() for one in ceilings], "cases": found},
    )


def _case(name: str, case: Case, folder: Path, size: Size) -> dict[str, Any]:
    ideal_s = math.ceil(size.items / case.at_once) * LATENCY_S
    print(
        f"  {name}: {size.items:,} items of {LATENCY_S:g} s, {case.at_once:,} at a time; ideal {ideal_s:g} s",
        flush=True,
    )
    conduct = Conduct(latency_s=LATENCY_S, tls=int(case.tls))
    load = Load(size.items, case.at_once, "", folder, folder)
    runs = _runs(CONTENDERS, conduct, load, size.rounds, ideal_s)
    of_ideal = median_of(runs, OURS, lambda one: one.asking_s) / ideal_s
    of_loop = ratio(runs, OURS, LOOP, lambda one: one.asking_s)
    if case.at_once <= 1_000:
        verdicts = [Verdict("time / ideal time", of_ideal, "at most", WITHIN_IDEAL)]
    else:
        verdicts = [Verdict(f"time / {LOOP}'s", of_loop, "at most", 1.0)]
    tell(verdicts)
    return _told(runs, ideal_s, of_loop, verdicts)


def _tail(folder: Path, size: Size) -> dict[str, Any]:
    """Once each, because each takes its minute."""
    drawn = (latency_s * size.tail_scale for latency_s in heavy_tail(TAIL_SEED))
    ideal_s = best_schedule_s(islice(drawn, size.tail_items), size.tail_at_once)
    print(
        f"  {TAIL}: {size.tail_items:,} items, {size.tail_at_once:,} at a time; "
        f"best schedule {ideal_s:.1f} s",
        flush=True,
    )
    conduct = Conduct(tail_seed=TAIL_SEED, tail_scale=size.tail_scale)
    load = Load(size.tail_items, size.tail_at_once, "", folder, folder)
    runs: Runs = {}
    for name, contender in CONTENDERS.items():
        # A server of its own, so that each gets the same latencies.
        runs |= _runs({name: contender}, conduct, load, 1, ideal_s)
    of_ideal = runs[OURS][0].asking_s / ideal_s
    verdicts = [Verdict("time / best schedule", of_ideal, "at most", WITHIN_BEST_SCHEDULE)]
    tell(verdicts)
    return _told(runs, ideal_s, ratio(runs, OURS, LOOP, lambda one: one.asking_s), verdicts)


def _runs(
    contenders: Mapping[str, Contender], conduct: Conduct, load: Load, rounds: int, ideal_s: float
) -> Runs:
    """
    Raises:
        Broken: a contender lost an item, or was faster than can be.
    """

    def line(asked: Asked) -> str:
        return (
            f"{asked.asking_s:6.2f} s from first request to last answer, {asked.asking_s / ideal_s:.3f} of "
            f"the ideal; {asked.wall_s:6.2f} s whole process, {asked.cpu_us_per_item:,.0f} µs CPU an item"
        )

    manifest = work.write_manifest(load.folder / f"{load.items}.parquet", load.items)
    with python_server(conduct) as base_url:
        load = replace(load, base_url=base_url, manifest=manifest)
        runs = in_turn(contenders, load, rounds, line)
    for name, of in runs.items():
        quickest_s = min(one.asking_s for one in of)
        if quickest_s < ideal_s * POSSIBLE:
            raise Broken(f"{name} took {quickest_s:.2f} s, where the ideal is {ideal_s:.2f} s")
    return runs


def _told(runs: Runs, ideal_s: float, of_loop: float, verdicts: list[Verdict]) -> dict[str, Any]:
    return {
        "ideal_s": ideal_s,
        "asking_s": {name: median_of(runs, name, lambda one: one.asking_s) for name in runs},
        "ours_of_loop": of_loop,
        "runs": kept(runs),
        "verdicts": [one.kept() for one in verdicts],
    }
