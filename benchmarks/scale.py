"""A great manifest beside a small one: memory, the first request, and whether the pace holds.

The first request is measured in runs of its own (`first_request`). The pace is that of `finished_at` in the
results: of the first tenth of the items that ended, and of the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import ours, work
from benchmarks.figures import Figures
from benchmarks.first_request import first_request_s
from benchmarks.measuring import python_server
from benchmarks.timeline import rate_of_tenth
from benchmarks.verdicts import Verdict, tell

FORMATS = ("parquet", "csv")
CONCURRENCY = 256
MOST_GROWTH = 1.25
MOST_BYTES = 350_000_000
FIRST_REQUEST_S = 1.0
LEAST_PACE = 0.95
"""The last tenth's rate over the first one's: a fall of 5% is within what runs differ."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One run."""

    rows: int
    peak_bytes: int
    rate: float
    first_tenth_rate: float
    last_tenth_rate: float


def measure_scale(folder: Path, formats: Sequence[str], sizes: Sequence[int], rounds: int) -> Figures:
    """Each format at each size; printed as they come. ``rounds``: of the first request.

    Raises:
        Broken: an item was lost.
    """
    found: dict[str, Any] = {}
    for ending in formats:
        runs = [_run(folder, ending, rows) for rows in sizes]
        first_s = first_request_s(folder / f"{sizes[-1]}.{ending}", folder, rounds)
        verdicts = [
            *judged(runs),
            Verdict("first request, less --help", first_s, "at most", FIRST_REQUEST_S, "s"),
        ]
        tell(verdicts)
        found[ending] = {
            "peak_bytes": {str(one.rows): one.peak_bytes for one in runs},
            "rates": {str(one.rows): [one.rate, one.first_tenth_rate, one.last_tenth_rate] for one in runs},
            "verdicts": [one.kept() for one in verdicts],
        }
    return Figures(
        what="scale",
        settings={"sizes": list(sizes), "concurrency": CONCURRENCY, "rounds": rounds},
        found={"cases": found},
    )


def judged(runs: Sequence[Seen]) -> list[Verdict]:
    """The last run beside the first."""
    small, great = runs[0], runs[-1]
    growth = f"memory of {great.rows:,} rows / of {small.rows:,}"
    pace = great.last_tenth_rate / great.first_tenth_rate
    return [
        Verdict(growth, great.peak_bytes / small.peak_bytes, "at most", MOST_GROWTH),
        Verdict(f"memory of {great.rows:,} rows", great.peak_bytes, "at most", MOST_BYTES, "MB"),
        Verdict("rate of the last tenth / of the first", pace, "at least", LEAST_PACE),
    ]


def _run(folder: Path, ending: str, rows: int) -> Seen:
    manifest = work.write_manifest(folder / f"{rows}.{ending}", rows)
    options = ("--concurrency", str(CONCURRENCY))
    with python_server() as base_url:
        order = ours.Order(manifest, rows, base_url, folder / "out", options)
        with ours.asked(order) as (asked, store):
            finished = store.results.select(pl.col("finished_at").sort().dt.epoch("us")).collect()
            times = (finished["finished_at"] / 1e6).to_list()
    seen = Seen(
        rows,
        asked.peak_bytes,
        asked.asking_rate,
        rate_of_tenth(times, 1),
        rate_of_tenth(times, 10),
    )
    print(
        f"  {ending:<8} {rows:9,} rows: peak {seen.peak_bytes / 1e6:5,.0f} MB; "
        f"{seen.rate:,.0f} items/s, {seen.first_tenth_rate:,.0f} in the first tenth, "
        f"{seen.last_tenth_rate:,.0f} in the last",
        flush=True,
    )
    return seen
