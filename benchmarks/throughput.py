"""Items a second and CPU an item, no latency: the server's ceiling, then rounds of all contenders in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import work
from benchmarks.ceilings import Pressing, with_second_opinion
from benchmarks.contenders import LOOP, OURS, Contender, Load
from benchmarks.figures import Figures
from benchmarks.measuring import Asked, python_server
from benchmarks.peers.environments import DELUGE, SDK, versions
from benchmarks.rounds import Runs, in_turn, kept, median_of, ratio
from benchmarks.verdicts import Verdict, tell

CONCURRENCY = 256
DEPTHS = (1, 16)
LEAST_RATIOS = {LOOP: 0.40, DELUGE: 1.3, SDK: 10.0}
"""Of their items a second, whole process against whole process."""
MOST_CPU = 3.0
"""Times the bare loop's CPU an item."""


@dataclass(frozen=True, slots=True)
class Size:
    items: int
    rounds: int
    ceiling_requests: int


def measure_throughput(folder: Path, contenders: Mapping[str, Contender], size: Size) -> Figures:
    """Ceiling, then the rounds; printed as they come.

    Raises:
        Broken: a contender lost an item.
    """
    manifest = work.write_manifest(folder / f"{size.items}.parquet", size.items)
    with python_server() as base_url:
        pressings = [Pressing(size.ceiling_requests, depth=depth) for depth in DEPTHS]
        ceilings = list(with_second_opinion(base_url, pressings))
        print(f"{size.items:,} items, {CONCURRENCY} at a time, no latency; rounds: {size.rounds}", flush=True)
        load = Load(size.items, CONCURRENCY, base_url, manifest, folder)
        runs = in_turn(contenders, load, size.rounds, _line)
    verdicts = judged(runs)
    tell(verdicts)
    return Figures(
        what="throughput",
        settings={
            "items": load.items,
            "concurrency": load.concurrency,
            "rounds": size.rounds,
            "reply_bytes": len(work.reply_body()),
            "manifest": load.manifest.suffix.lstrip("."),
        },
        found={
            "ceilings": [one.kept() for one in ceilings],
            "runs": kept(runs),
            "summary": summed_up(runs),
            "verdicts": [one.kept() for one in verdicts],
            "environments": versions(runs),
        },
    )


def summed_up(runs: Runs) -> dict[str, dict[str, Any]]:
    """Medians of each contender, and the medians of our ratios to it, round by round."""
    return {
        name: {
            "items": of[0].items,
            "rate": median_of(runs, name, _rate),
            "asking_rate": median_of(runs, name, _asking_rate),
            "cpu_us_per_item": median_of(runs, name, _cpu),
            "peak_bytes": median_of(runs, name, lambda one: one.peak_bytes),
            "ours_rate_ratio": ratio(runs, OURS, name, _rate),
            "ours_asking_rate_ratio": ratio(runs, OURS, name, _asking_rate),
            "ours_cpu_ratio": ratio(runs, OURS, name, _cpu),
        }
        for name, of in runs.items()
    }


def judged(runs: Runs) -> list[Verdict]:
    """Where a peer was not measured, nothing is said of it."""
    verdicts = [
        Verdict(f"items a second / {name}", ratio(runs, OURS, name, _rate), "at least", least)
        for name, least in LEAST_RATIOS.items()
        if name in runs
    ]
    return [*verdicts, Verdict(f"CPU an item / {LOOP}", ratio(runs, OURS, LOOP, _cpu), "at most", MOST_CPU)]


def _rate(asked: Asked) -> float:
    return asked.rate


def _asking_rate(asked: Asked) -> float:
    return asked.asking_rate


def _cpu(asked: Asked) -> float:
    return asked.cpu_us_per_item


def _line(asked: Asked) -> str:
    return (
        f"{asked.rate:8,.0f} items/s whole process, {asked.asking_rate:8,.0f} while asking {asked.items:,}, "
        f"{asked.cpu_us_per_item:6,.0f} µs CPU an item, peak {asked.peak_bytes / 1e6:5,.0f} MB"
    )
