"""Parts → lazy frames over all runs and jobs; the latest outcome of each item.

Readers add the path keys ``date`` and ``run`` as columns and fill columns that older parts lack with null.
"""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import StoreError
from pipeline.store.schemas import SCHEMAS

EMBEDDED = "embedded"
"""The endpoint's name of rehearsals: never skipped over, never a latest outcome."""


def scan(out: Path, dataset: str) -> pl.LazyFrame:
    """One dataset of the store, lazily; empty where nothing was written yet.

    Raises:
        StoreError: there is no store at ``out``.
    """
    if not (out / "runs").is_dir():
        raise StoreError(f"--out {out}: there is no store here; `mediabatch run` makes one")
    schema = SCHEMAS[dataset]
    keys = {"date": pl.Date(), "run": pl.String()}
    if not any((out / dataset).glob("date=*/run=*/*.parquet")):
        return pl.LazyFrame(schema={**schema, **keys})
    return pl.scan_parquet(
        Path(glob.escape(str(out / dataset))) / "date=*" / "run=*" / "*.parquet",
        schema=schema,
        hive_partitioning=True,
        hive_schema=keys,
        missing_columns="insert",
        extra_columns="ignore",
    )


def latest_outcomes(results: pl.LazyFrame) -> pl.LazyFrame:
    """Of each (job, item): the newest ``ok``, else the newest ``failed``. Embedded answers never count."""
    return (
        results.filter(pl.col("endpoint").ne_missing(EMBEDDED))
        .sort(pl.col("status") == "ok", "finished_at", "run_id")
        .unique(["job", "item_id"], keep="last", maintain_order=True)
    )


def run_ids(out: Path) -> list[str]:
    """All runs of the store, oldest first.

    Raises:
        StoreError: there is no store at ``out``.
    """
    folder = out / "runs"
    if not folder.is_dir():
        raise StoreError(f"--out {out}: there is no store here; `mediabatch run` makes one")
    return sorted(path.name for path in folder.iterdir() if (path / "run.json").is_file())


def run_facts(out: Path, run_id: str) -> dict[str, Any]:
    """What run.json says.

    Raises:
        StoreError: the store has no such run.
    """
    try:
        facts: dict[str, Any] = json.loads((out / "runs" / run_id / "run.json").read_text("utf-8"))
    except OSError:
        raise StoreError(f"--out {out}: no run {run_id!r} here") from None
    return facts
