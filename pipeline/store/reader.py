"""Parts → lazy frames over all runs and jobs; the latest outcome of each item.

Readers add the path keys ``date`` and ``run`` as columns and fill columns that older parts lack with null.
"""

from __future__ import annotations

import glob
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import StoreError
from pipeline.records import EMBEDDED
from pipeline.store.schemas import SCHEMAS


def scan(out: Path, dataset: str) -> pl.LazyFrame:
    """One dataset of the store, lazily; empty where nothing was written yet.

    Raises:
        StoreError: there is no store at ``out``.
    """
    if not has_store(out):
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


def latest_outcomes(results: pl.LazyFrame, *, rehearsals: bool = False) -> pl.LazyFrame:
    """Of each (job, item): the newest ``ok``, else the newest ``failed``. Embedded answers never count.

    THE latest outcome: `report`, `export`, `reprocess` and users' own queries mean this. ``results`` is the
    dataset or a part of it; rows at rest are no outcomes, and stand in another dataset. Costs are not in
    question here: they add up over all tries and runs. ``rehearsals``: of embedded answers instead.
    """
    is_rehearsed = pl.col("endpoint").eq_missing(EMBEDDED)
    counted = results.filter(is_rehearsed if rehearsals else ~is_rehearsed)
    # Items by a hash, and outcomes by a number: a sort of whole rows takes five times as long, and the memory
    # of all of them. (Two of 10,000,000 items have the same hash in one of 370,000 stores.)
    runs = counted.select("run_id").unique().sort("run_id").with_row_index("_run")
    of_one_instant = (pl.col("_run") % 1024).cast(pl.Int64)
    is_ok = (pl.col("status") == "ok").cast(pl.Int64)
    ranked = counted.join(runs, on="run_id").with_columns(
        _item=pl.struct("job", "item_id").hash(),
        _rank=is_ok * 2**62 + pl.col("finished_at").dt.epoch("us") * 1024 + of_one_instant,
    )
    newest = ranked.group_by("_item").agg(pl.col("_rank").max())
    return ranked.join(newest, on=["_item", "_rank"], how="semi").drop("_item", "_rank", "_run")


def has_store(out: Path) -> bool:
    return (out / "runs").is_dir()


def has_run(out: Path, run_id: str) -> bool:
    return (out / "runs" / run_id / "run.json").is_file()


def run_ids(out: Path) -> list[str]:
    """All runs of the store, oldest first.

    Raises:
        StoreError: there is no store at ``out``.
    """
    folder = out / "runs"
    if not folder.is_dir():
        raise StoreError(f"--out {out}: there is no store here; `mediabatch run` makes one")
    return sorted(path.name for path in folder.iterdir() if (path / "run.json").is_file())


def remembered_level(out: Path, endpoint: str, model: str) -> int | None:
    """How many slots proved themselves at this endpoint in the newest run that asked it for this model."""
    found: list[tuple[str, int]] = []
    with suppress(StoreError):
        for run_id in run_ids(out):
            facts = run_facts(out, run_id)
            level: int | None = facts.get("levels", {}).get(endpoint)
            if level is not None and facts["plan"]["model"] == model:
                found.append((facts["started_at"], level))
    return max(found)[1] if found else None


def run_facts(out: Path, run_id: str) -> dict[str, Any]:
    """What run.json says.

    Raises:
        StoreError: the store has no such run, or what it says is damaged.
    """
    path = out / "runs" / run_id / "run.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except OSError:
        raise StoreError(f"--out {out}: no run {run_id!r} here") from None
    except ValueError:
        raise StoreError(f"{path} is damaged: put back a copy of it") from None
    return facts


def runs_of(out: Path, job: str) -> list[dict[str, Any]]:
    """What run.json says of every run of a job, oldest first; by time, for a person may have named a run.

    Raises:
        StoreError: there is no store at ``out``.
    """
    runs = [facts for facts in (run_facts(out, run_id) for run_id in run_ids(out)) if facts["job"] == job]
    return sorted(runs, key=lambda facts: (str(facts["started_at"]), str(facts["run_id"])))


def answered_requests(out: Path, job: str, *, but_run: str) -> pl.DataFrame:
    """``key`` (the first 64 bits of a request key) and ``run_id`` of every request that the job had answered
    ``ok`` in other runs, the newest run each. Rehearsals never count.

    Raises:
        StoreError: a part of a finished run is damaged.
    """
    query = (
        scan(out, "results")
        .filter(
            pl.col("job") == job,
            pl.col("status") == "ok",
            pl.col("run") != but_run,  # the path key: its files are not even opened
            pl.col("endpoint").ne_missing(EMBEDDED),
            pl.col("request_key").is_not_null(),
        )
        .select(
            pl.col("request_key").str.slice(2, 16).str.to_integer(base=16, dtype=pl.UInt64).alias("key"),
            "run_id",
            "finished_at",
        )
        .group_by("key")
        .agg(pl.col("run_id").sort_by("finished_at").last())
    )
    try:
        return query.collect()
    except (pl.exceptions.PolarsError, OSError):
        damaged = _damaged_part(out, "results")
        if damaged is None:
            raise
        raise StoreError(
            f"{damaged} is damaged, and its run is finished, so that it cannot be made again: put back a "
            "copy, or move it out of the store, whereupon its items are asked again"
        ) from None


def _damaged_part(out: Path, dataset: str) -> Path | None:
    for path in sorted((out / dataset).glob("date=*/run=*/*.parquet")):
        try:
            pl.read_parquet(path, hive_partitioning=False)
        except (pl.exceptions.PolarsError, OSError):
            return path
    return None
