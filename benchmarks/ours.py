"""The real command, as a user types it, and what its store must hold afterwards."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import orjson
import polars as pl

from benchmarks import work
from benchmarks.measuring import Asked, Broken, measure

_TOLD = (0, 3, 5)
"""Exit codes after which summary and store say better than a message what went wrong."""


@dataclass(frozen=True, slots=True)
class Order:
    """One run. ``out`` is made anew and thrown away. ``is_smooth``: no attempt may be a second one."""

    manifest: Path
    items: int
    base_url: str
    out: Path
    options: tuple[str, ...]
    is_smooth: bool = True


@dataclass(frozen=True, slots=True)
class Store:
    """What the run left, as long as it stands."""

    results: pl.LazyFrame
    costs: pl.LazyFrame
    attempts: pl.LazyFrame


def command(manifest: Path, base_url: str, out: Path) -> list[str]:
    """What a user types; options follow."""
    typed = [sys.executable, "-m", "jobs", "run", str(manifest), "--base-url", base_url]
    typed += ["--no-progress", "--json", "--out", str(out)]
    typed += ["--model", work.MODEL, "--prompt", work.PROMPT, "--max-tokens", str(work.MAX_TOKENS)]
    return [*typed, "--ca-file", str(work.AUTHORITY)] if base_url.startswith("https:") else typed


def ask(order: Order) -> Asked:
    """Run it into a fresh store, check every item, and throw the store away.

    ``asking_s`` is from the first attempt's ``started_at`` to the last ``finished_at`` in the results.

    Raises:
        Broken: it failed, an item did not end ok, or the costs are not exact.
    """
    with asked(order) as (took, _):
        return took


@contextmanager
def asked(order: Order) -> Iterator[tuple[Asked, Store]]:
    """Like `ask`, with the store to look into.

    Raises:
        Broken: it failed, an item did not end ok, or the costs are not exact.
    """
    typed = [*command(order.manifest, order.base_url, order.out), *order.options]
    try:
        took = measure(typed, extra_env={"MEDIABATCH_API_KEY": work.API_KEY}, codes=_TOLD)
        summary = orjson.loads(took.stdout)
        store = _store(summary)
        asking_s = check(summary, store, order)
        yield Asked(order.items, took.wall_s, asking_s, took.cpu_s, took.peak_bytes), store
    finally:
        shutil.rmtree(order.out, ignore_errors=True)


def _store(summary: dict[str, object]) -> Store:
    paths = summary["paths"]
    assert isinstance(paths, dict)
    results, costs, attempts = (
        pl.scan_parquet(Path(paths[name]) / "*.parquet", hive_partitioning=False)
        for name in ("results", "costs", "attempts")
    )
    return Store(results, costs, attempts)


def check(summary: dict[str, object], store: Store, order: Order) -> float:
    """Hold summary and store against the work; the seconds between first request and last answer.

    Raises:
        Broken: they are not what they must be.
    """
    items = order.items
    of_results = store.results.select(
        rows=pl.len(),
        items=pl.col("item_id").n_unique(),
        ok=(pl.col("status") == "ok").sum(),
        cost=pl.col("cost").sum(),
        asking_s=(pl.col("finished_at").max() - pl.col("started_at").min()).dt.total_microseconds() / 1e6,
    ).collect(engine="streaming")
    of_costs = store.costs.select(rows=pl.len(), cost=pl.col("cost").sum()).collect(engine="streaming")
    attempts: int = store.attempts.select(pl.len()).collect().item()
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
        ("attempts: rows", attempts, items if order.is_smooth else max(attempts, items)),
    ):
        if found != right:
            errors = ", ".join(str(one) for one in (summary["errors"], *_halts(summary)) if one)
            raise Broken(f"{what} is {found}, and must be {right}" + (f" ({errors})" if errors else ""))
    asking_s: float = of_results["asking_s"][0]
    return asking_s


def _halts(summary: dict[str, object]) -> list[object]:
    halts = summary["halts"]
    assert isinstance(halts, list)
    return halts
