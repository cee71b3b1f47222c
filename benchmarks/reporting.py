"""A store of many nights, and how long `mediabatch report` and its pages take over it.

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
PAGE_ITEMS = 1_000_000
PAGE_TARGET_S = 10.0
PAGE_TARGET_SIZE_BYTES = 5_000_000
GALLERY_ITEMS = 2_000
PARTS_A_RUN = 10
_REPORT = [sys.executable, "-m", "jobs", "report", "--out"]


def measure_report(folder: Path, cost_rows: int, rounds: int) -> Figures:
    """The default view, as JSON, and the pages, each in a process of its own; medians.

    Raises:
        Broken: totals are not those of the store.
    """
    out = folder / "many-nights"
    items = make_store(out, cost_rows)
    runs = [measure([*_REPORT, str(out), "--json"]) for _ in range(rounds)]
    _check(orjson.loads(runs[0].stdout), items)
    wall_s, peak_bytes = median(one.wall_s for one in runs), max(one.peak_bytes for one in runs)
    verdicts = [
        Verdict(f"report over {cost_rows:,} cost rows", wall_s, "at most", TARGET_S, "s"),
        Verdict("memory", peak_bytes, "at most", TARGET_BYTES, "MB"),
    ]
    tell(verdicts)
    shutil.rmtree(out)
    page_rows = min(cost_rows, PAGE_ITEMS * work.COUNTS_OF_ONE)
    page_items = make_store(out, page_rows)
    html = _measure_page(out, ["--html"], page_items, rounds)
    gallery = _measure_page(out, ["--sample", str(GALLERY_ITEMS), "--gallery"], page_items, rounds)
    shutil.rmtree(out)
    return Figures(
        what="report",
        settings={"cost_rows": cost_rows, "items": items, "page_items": page_items, "rounds": rounds},
        found={
            "wall_s": wall_s,
            "peak_bytes": peak_bytes,
            "page": html,
            "gallery": gallery,
            "verdicts": [one.kept() for one in verdicts] + html["verdicts"] + gallery["verdicts"],
        },
    )


def _measure_page(out: Path, words: list[str], items: int, rounds: int) -> dict[str, Any]:
    """``words``: the options that make the page, the last of which takes its file."""
    file = out.with_name("page.html")
    runs = [measure([*_REPORT, str(out), *words, str(file)]) for _ in range(rounds)]
    page = file.read_text("utf-8")
    of_all = f"{items:,} items"
    if of_all not in page:
        raise Broken(f"the page of {words[-1]} does not say that there are {of_all}")
    wall_s, peak_bytes = median(one.wall_s for one in runs), max(one.peak_bytes for one in runs)
    size_bytes = file.stat().st_size
    file.unlink()
    verdicts = [
        Verdict(f"{words[-1]} over {items:,} items", wall_s, "at most", PAGE_TARGET_S, "s"),
        Verdict("memory", peak_bytes, "at most", TARGET_BYTES, "MB"),
    ]
    if "--gallery" not in words:  # whose size is that of what it shows
        verdicts.append(Verdict("its size", size_bytes, "at most", PAGE_TARGET_SIZE_BYTES, "kB"))
    tell(verdicts)
    return {
        "wall_s": wall_s,
        "peak_bytes": peak_bytes,
        "size_bytes": size_bytes,
        "verdicts": [one.kept() for one in verdicts],
    }


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
    """As another part of that run: its items ended one after another, some in a hundred milliseconds."""
    instants = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    since = pl.lit(days) + pl.int_range(pl.len()) * timedelta(milliseconds=100) * PARTS_A_RUN
    return frame.with_columns(
        pl.lit(run_id).alias("run_id"),
        pl.col("item_id") + f"-{part}",
        *(pl.col(name) + since for name in instants),
    )


def _facts() -> dict[str, Any]:
    return {"job": "default", "state": "done", "plan": {"endpoint": "https://endpoint.example/v1"}}


def _check(told: dict[str, Any], items: int) -> None:
    cost = f"{items * work.COST_OF_ONE:f}".rstrip("0")
    found = (told["outcomes"]["items"], told["cost_of_all_tries"].get("USD"))
    if found != (items, cost):
        raise Broken(f"the report tells {found}, and must tell {(items, cost)}")
