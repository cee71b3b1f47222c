"""The real command, as a user types it, and what its store must hold afterwards."""

from __future__ import annotations

import shutil
import sys
from decimal import Decimal
from pathlib import Path

import orjson
import polars as pl

from benchmarks import work
from benchmarks.measuring import Asked, Broken, measure


def ask(manifest: Path, items: int, base_url: str, concurrency: int, out: Path) -> Asked:
    """Run it into a fresh store, check every item, and throw the store away.

    ``asking_s`` is from the first attempt's ``started_at`` to the last ``finished_at`` in the results.

    Raises:
        Broken: it failed, an item did not end ok, or the costs are not exact.
    """
    command = [sys.executable, "-m", "jobs", "run", str(manifest), "--base-url", base_url]
    command += ["--concurrency", str(concurrency), "--no-progress", "--json", "--out", str(out)]
    command += ["--model", work.MODEL, "--prompt", work.PROMPT, "--max-tokens", str(work.MAX_TOKENS)]
    try:
        took = measure(command, extra_env={"MEDIABATCH_API_KEY": work.API_KEY})
        asking_s = check(orjson.loads(took.stdout), items)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return Asked(items, took.wall_s, asking_s, took.cpu_s, took.peak_bytes)


def check(summary: dict[str, object], items: int) -> float:
    """Hold summary and store against the work; the seconds between first request and last answer.

    Raises:
        Broken: they are not what they must be.
    """
    paths = summary["paths"]
    assert isinstance(paths, dict)
    results, costs, attempts = (
        pl.scan_parquet(Path(paths[name]) / "*.parquet", hive_partitioning=False)
        for name in ("results", "costs", "attempts")
    )
    of_results = results.select(
        rows=pl.len(),
        items=pl.col("item_id").n_unique(),
        ok=(pl.col("status") == "ok").sum(),
        cost=pl.col("cost").sum(),
        asking_s=(pl.col("finished_at").max() - pl.col("started_at").min()).dt.total_microseconds() / 1e6,
    ).collect(engine="streaming")
    of_costs = costs.select(rows=pl.len(), cost=pl.col("cost").sum()).collect(engine="streaming")
    expected = items * work.COST_OF_ONE
    told = summary["cost"]
    assert isinstance(told, dict)
    for what, found, right in (
        ("summary: ok", summary["ok"], items),
        ("summary: failed", summary["failed"], 0),
        ("summary: cost", Decimal(told.get("USD", "NaN")), expected),
        ("results: rows", of_results["rows"][0], items),
        ("results: different items", of_results["items"][0], items),
        ("results: ok", of_results["ok"][0], items),
        ("results: cost", of_results["cost"][0], expected),
        ("costs: rows", of_costs["rows"][0], items * work.COUNTS_OF_ONE),
        ("costs: cost", of_costs["cost"][0], expected),
        ("attempts: rows", attempts.select(pl.len()).collect().item(), items),
    ):
        if found != right:
            raise Broken(f"{what} is {found}, and must be {right}")
    asking_s: float = of_results["asking_s"][0]
    return asking_s
