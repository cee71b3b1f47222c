"""Answers joined to the manifest's own columns: one row a manifest row, in its order.

The join is by item id, for which the manifest's present rows are read again: a manifest that has grown since
is exported as it is now. It runs lazily over temporary Parquet: memory does not grow with the answers.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import polars as pl
from polars import selectors

from pipeline.errors import StoreUnwritable
from pipeline.manifest import Defaults, Manifest

Format = Literal["csv", "ndjson", "parquet"]

ANSWER_COLUMNS = (
    "status",
    "text",
    "finish_reason",
    "model",
    "error_class",
    "error_message",
    "total_tokens",
    "cost",
    "currency",
    "run_id",
    "finished_at",
)
_ID = "__item_id"


def export_answers(manifest: Manifest, answers: pl.LazyFrame, target: Path, form: Format) -> tuple[int, int]:
    """Write the join to ``target``, whole or not at all; return (rows, rows answered ``ok``).

    ``answers`` holds one row an item, in the columns of results. A column of ours whose name the manifest
    uses already gets the suffix ``_answer``. Rows without an answer stay, with nulls.

    Raises:
        StoreUnwritable: the target cannot be written.
    """
    taken = set(manifest.columns)
    item_id, *others = (_free_name(name, taken) for name in ("item_id", *ANSWER_COLUMNS))
    ours = dict(zip(ANSWER_COLUMNS, others, strict=True))
    aside = target.with_name(target.name + ".aside")
    try:
        with TemporaryDirectory(prefix=".export-", dir=target.parent) as scratch:
            rows = _write_manifest(manifest, Path(scratch))
            joined = (
                _scan_manifest(manifest, Path(scratch))
                .join(
                    answers.select("item_id", *ANSWER_COLUMNS).rename({**ours, "item_id": _ID}),
                    on=_ID,
                    how="left",
                    maintain_order="left",
                )
                .rename({_ID: item_id})
            )
            joined = joined.select(pl.exclude(item_id, *ours.values()), item_id, *ours.values())
            if form == "parquet":
                joined.sink_parquet(aside, compression="zstd")
            elif form == "csv":
                _flat(joined).sink_csv(aside)
            else:
                _exact(joined).sink_ndjson(aside)
            ok = joined.filter(pl.col(ours["status"]) == "ok").select(pl.len()).collect().item()
            aside.replace(target)
    except OSError as error:
        raise StoreUnwritable(target, error.strerror or str(error)) from None
    finally:
        aside.unlink(missing_ok=True)
    return rows, ok


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_answer"
    return name


def _write_manifest(manifest: Manifest, folder: Path) -> int:
    """The manifest's own columns and each row's item id, as Parquet."""
    ids = _ids(manifest)
    rows = 0
    for number, frame in enumerate(manifest.frames()):
        own = frame.drop("row")
        # A column of the manifest's own that is called `row` comes under another name.
        own = own.rename({name: "row" for name in own.columns if name not in manifest.columns})
        ids_here = pl.Series(_ID, list(islice(ids, frame.height)), dtype=pl.String)
        own.with_columns(ids_here).write_parquet(folder / f"{number:08d}.parquet")
        rows += frame.height
    return rows


def _scan_manifest(manifest: Manifest, folder: Path) -> pl.LazyFrame:
    if any(folder.iterdir()):
        return pl.scan_parquet(Path(glob.escape(str(folder))) / "*.parquet")
    return pl.LazyFrame(schema={**dict.fromkeys(manifest.columns, pl.String()), _ID: pl.String()})


def _ids(manifest: Manifest) -> Iterator[str]:
    # Ids depend on a row's own cells alone, so any defaults serve.
    for batch in manifest.read(Defaults(model="", prompt="", parameters={})):
        for row in batch:
            yield row.id


def _flat(frame: pl.LazyFrame) -> pl.LazyFrame:
    """CSV has no lists: they become JSON text, as a manifest's cells may hold them."""
    # By place, because `pl.col` takes a name such as `^a$` for a pattern; only structs encode as JSON.
    return frame.with_columns(
        pl.when(pl.nth(place).is_not_null())
        .then(pl.struct(pl.nth(place).alias("v")).struct.json_encode())
        .str.strip_prefix('{"v":')
        .str.strip_suffix("}")
        .alias(name)
        for place, (name, dtype) in enumerate(frame.collect_schema().items())
        if dtype.is_nested()
    )


def _exact(frame: pl.LazyFrame) -> pl.LazyFrame:
    """JSON numbers are floats to most readers: exact decimals go out as text."""
    return frame.with_columns(selectors.decimal().cast(pl.String))
