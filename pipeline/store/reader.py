"""Parts → lazy frames over all runs and jobs; the latest outcome of each item.

Readers add the path keys ``date`` and ``run`` as columns and fill columns that older parts lack with null.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import StoreError
from pipeline.records import EMBEDDED
from pipeline.store.places import Place, all_on_disk, found, on_disk, place_of
from pipeline.store.schemas import SCHEMAS

PARTS = "date=*/run=*/*.parquet"


def scan(out: str | Place, dataset: str) -> pl.LazyFrame:
    """One dataset of the store (results, costs, attempts, rest), lazily; empty where nothing was written.

    Raises:
        StoreError: there is no store at ``out``.
    """
    if isinstance(out, str):
        out = place_of(out)
    if not has_store(out):
        raise StoreError(f"--out {out}: there is no store here; `mediabatch run` makes one")
    schema = SCHEMAS[dataset]
    keys = {"date": pl.Date(), "run": pl.String()}
    files: Path | list[Path]
    if isinstance(out, Path):
        files = Path(glob.escape(str(out / dataset))) / PARTS
        is_empty = not any((out / dataset).glob(PARTS))
    else:
        files = all_on_disk(found(out / dataset, PARTS))
        is_empty = not files
    if is_empty:
        return pl.LazyFrame(schema={**schema, **keys})
    return pl.scan_parquet(
        files,
        schema=schema,
        hive_partitioning=True,
        hive_schema=keys,
        glob=isinstance(files, Path),
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


def has_store(out: Place) -> bool:
    return (out / "runs").is_dir()


def has_run(out: Place, run_id: str) -> bool:
    return (out / "runs" / run_id / "run.json").is_file()


def every_run(out: Place) -> list[dict[str, Any]]:
    """What run.json says of every run of the store, by name.

    Raises:
        StoreError: there is no store at ``out``, or a run.json is damaged.
    """
    if not (out / "runs").is_dir():
        raise StoreError(f"--out {out}: there is no store here; `mediabatch run` makes one")
    told = found(out / "runs", "*/run.json")
    return [_facts(place, file) for place, file in zip(told, all_on_disk(told), strict=True)]


def remembered_level(out: Place, endpoint: str, model: str) -> int | None:
    """How many slots proved themselves at this endpoint in the newest run that asked it for this model."""
    found: list[tuple[str, int]] = []
    with suppress(StoreError):
        for facts in every_run(out):
            level: int | None = facts.get("levels", {}).get(endpoint)
            if level is not None and facts["plan"]["model"] == model:
                found.append((facts["started_at"], level))
    return max(found)[1] if found else None


def run_facts(out: Place, run_id: str) -> dict[str, Any]:
    """What run.json says.

    Raises:
        StoreError: the store has no such run, or what it says is damaged.
    """
    place = out / "runs" / run_id / "run.json"
    try:
        return _facts(place, on_disk(place))
    except OSError:
        raise StoreError(f"--out {out}: no run {run_id!r} here") from None


def _facts(place: Place, file: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except ValueError:
        raise StoreError(f"{place} is damaged: put back a copy of it") from None
    return facts


def runs_of(out: Place, job: str) -> list[dict[str, Any]]:
    """What run.json says of every run of a job, oldest first; by time, for a person may have named a run.

    Raises:
        StoreError: there is no store at ``out``.
    """
    runs = [facts for facts in every_run(out) if facts["job"] == job]
    return sorted(runs, key=lambda facts: (str(facts["started_at"]), str(facts["run_id"])))


def answered_requests(out: Place, job: str, *, but_run: str) -> pl.DataFrame:
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
        damaged = damaged_part(out, "results")
        if damaged is None:
            raise
        raise StoreError(
            f"{damaged} is damaged, and its run is finished, so that it cannot be made again: put back a "
            "copy, or move it out of the store, whereupon its items are asked again"
        ) from None


def parsed_answers(out: Place, run_id: str, item_ids: Sequence[str]) -> dict[str, Any]:
    """item → its typed answer, of a run whose results have such a column."""
    parts = all_on_disk(found(out / "results", f"date=*/run={run_id}/*.parquet"))
    typed = [part for part in parts if "parsed" in pl.read_parquet_schema(part)]
    if not typed:
        return {}
    answers = (
        pl.scan_parquet(typed, hive_partitioning=False, missing_columns="insert", extra_columns="ignore")
        .filter(pl.col("item_id").is_in(item_ids), pl.col("parsed").is_not_null())
        .select("item_id", "parsed")
        .collect()
    )
    return dict(answers.iter_rows())


def damaged_part(out: Place, dataset: str) -> Place | None:
    """The first part of a dataset that cannot be read. Reads them all."""
    for path in found(out / dataset, PARTS):
        try:
            pl.read_parquet(on_disk(path), hive_partitioning=False)
        except (pl.exceptions.PolarsError, OSError):
            return path
    return None
