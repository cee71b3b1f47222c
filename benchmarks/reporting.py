"""A store of many nights, and how long `mediabatch report` takes over it.

One part is made as a run makes it (`seal`), then written again and again with other ids, runs and days: rows
are real ones, and there are as many as a year of nights leaves.
"""

from __future__ import annotations

import shutil
import sys
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import polars as pl

from benchmarks import work
from benchmarks.figures import Figures
from benchmarks.ledgers import NOW, entries
from benchmarks.measuring import Broken, measure
from benchmarks.verdicts import Verdict, tell
from pipeline.sealing import PART_ITEMS, Batch, seal
from pipeline.store.writer import RunWriter

TARGET_S = 3.0
TARGET_BYTES = 1_000_000_000
PARTS_A_RUN = 10


def measure_report(folder: Path, cost_rows: int, rounds: int) -> Figures:
    """The default view, as JSON, in a process of its own; medians.

    Raises:
        Broken: its totals are not those of the store.
    """
    out = folder / "many-nights"
    items = make_store(out, cost_rows)
    command = [sys.executable, "-m", "jobs", "report", "--out", str(out), "--json"]
    runs = [measure(command) for _ in range(rounds)]
    _check(orjson.loads(runs[0].stdout), items)
    wall_s, peak_bytes = median(one.wall_s for one in runs), max(one.peak_bytes for one in runs)
    verdicts = [
        Verdict(f"report over {cost_rows:,} cost rows", wall_s, "at most", TARGET_S, "s"),
        Verdict("memory", peak_bytes, "at most", TARGET_BYTES, "MB"),
    ]
    tell(verdicts)
    shutil.rmtree(out)
    return Figures(
        what="report",
        settings={"cost_rows": cost_rows, "items": items, "rounds": rounds},
        found={
            "wall_s": wall_s,
            "peak_bytes": peak_bytes,
            "verdicts": [one.kept() for one in verdicts],
        },
    )


def make_store(out: Path, cost_rows: int) -> int:
    """So many rows of costs, at least, in parts of a run's size; returns the items."""
    model = out.with_name("one-part")
    writer = RunWriter(model, "one", NOW)
    writer.open()
    batch = Batch(1)
    for seq, entry in enumerate(entries(PART_ITEMS), 1):
        batch.add(seq, entry)
    seal(batch, writer)
    frames = {
        name: pl.read_parquet(writer.parts(name), hive_partitioning=False)
        for name in ("results", "costs", "attempts")
    }
    facts = _facts()
    parts = -(-cost_rows // frames["costs"].height)
    for part in range(parts):
        run, sequence = divmod(part, PARTS_A_RUN)
        run_id, days = f"night-{run:05d}", timedelta(days=run)
        key = Path(f"date={NOW + days:%Y-%m-%d}") / f"run={run_id}"
        for name, frame in frames.items():
            target = out / name / key / f"part-{sequence:010d}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            _moved(frame, run_id, part, days).write_parquet(target, compression="zstd")
        if not sequence:
            file = out / "runs" / run_id / "run.json"
            file.parent.mkdir(parents=True)
            file.write_bytes(orjson.dumps({**facts, "run_id": run_id, "started_at": NOW + days}))
    shutil.rmtree(model)
    return parts * PART_ITEMS


def _moved(frame: pl.DataFrame, run_id: str, part: int, days: timedelta) -> pl.DataFrame:
    instants = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    return frame.with_columns(
        pl.lit(run_id).alias("run_id"),
        pl.col("item_id") + f"-{part}",
        *(pl.col(name) + days for name in instants),
    )


def _facts() -> dict[str, Any]:
    return {"job": "default", "state": "done", "plan": {"endpoint": "https://endpoint.example/v1"}}


def _check(told: dict[str, Any], items: int) -> None:
    cost = f"{items * work.COST_OF_ONE:f}".rstrip("0")
    found = (told["outcomes"]["items"], told["cost_of_all_tries"].get("USD"))
    if found != (items, cost):
        raise Broken(f"the report tells {found}, and must tell {(items, cost)}")
