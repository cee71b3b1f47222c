"""The store → which items are asked again, and where their rows stand in their manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from pipeline.errors import ManifestError
from pipeline.manifest import Defaults, Manifest, open_manifest
from pipeline.reprocessing.selection import SELECTION, selection_path
from pipeline.store.places import Place, on_disk
from pipeline.store.reader import latest_outcomes, run_facts, scan

CHOSEN = (
    "item_id",
    "run_id",
    "row",
    "status",
    "error_class",
    "error_message",
    "finish_reason",
    "model_requested",
    "media",
    "request_json",
)
_NO_DEFAULTS = Defaults(model="", prompt="", parameters={})


def choose(
    out: Place, job: str, run_id: str | None, where: pl.Expr, limit: int | None = None
) -> pl.DataFrame:
    """The items of a job whose latest outcome (of that run, where one is named) passes the filter.

    In the columns of `CHOSEN`, by run and row; the first ``limit`` of them.

    Raises:
        StoreError: there is no store at ``out``.
    """
    latest = latest_outcomes(scan(out, "results").filter(job=job))
    if run_id is not None:
        latest = latest.filter(run_id=run_id)
    chosen = latest.filter(where).select(CHOSEN).sort("run_id", "row")
    return (chosen if limit is None else chosen.head(limit)).collect()


def traced(out: Place, chosen: pl.DataFrame) -> pl.DataFrame:
    """The chosen items as a selection: each with its manifest, as that is now, and its row there.

    The row is null where the manifest cannot be read any more, or no longer holds the item. Rows of one
    manifest stand together, in its order.
    """
    opened: dict[str, Manifest | None] = {}
    frames = [
        _by_row(frame, place, opened)
        for facts, of_run in _by_run(out, chosen)
        for place, frame in _places(out, facts, of_run)
    ]
    traced = pl.concat(frames) if frames else pl.DataFrame(schema=SELECTION)
    return traced.sort("manifest", "manifest_row", nulls_last=True, maintain_order=True)


def _by_run(out: Place, chosen: pl.DataFrame) -> list[tuple[dict[str, Any], pl.DataFrame]]:
    runs = chosen.partition_by("run_id", maintain_order=True)
    return [(run_facts(out, of_run["run_id"][0]), of_run) for of_run in runs]


def _places(
    out: Place, facts: Mapping[str, Any], of_run: pl.DataFrame
) -> list[tuple[tuple[str, str | None], pl.DataFrame]]:
    """((manifest, its digest when ``row`` was told), items) of a run: of one that reprocessed, by where its
    own selection had them from."""
    plan = facts["plan"]
    if not plan.get("anew"):
        return [((plan["manifest"], plan.get("manifest_digest")), of_run)]
    path = selection_path(out, facts["run_id"])
    if not path.is_file():
        return [((plan["manifest"], None), of_run)]
    earlier = pl.read_parquet(
        on_disk(path), columns=["item_id", "manifest", "manifest_digest", "manifest_row"]
    )
    known = of_run.drop("row").join(earlier, on="item_id", how="left", maintain_order="left")
    known = known.rename({"manifest_row": "row"})
    return [
        ((frame["manifest"][0], frame["manifest_digest"][0]), frame.select(of_run.columns))
        for frame in known.partition_by("manifest", "manifest_digest", maintain_order=True)
    ]


def _by_row(
    frame: pl.DataFrame, place: tuple[str, str | None], opened: dict[str, Manifest | None]
) -> pl.DataFrame:
    path, digest = place
    if path not in opened:
        try:
            opened[path] = open_manifest(path)
        except ManifestError:
            opened[path] = None
    manifest = opened[path]
    if manifest is None:
        rows = pl.Series(values=[None] * frame.height, dtype=pl.Int64)
    elif manifest.digest == digest:
        rows = frame["row"]
    else:
        rows = _found_again(manifest, frame["item_id"].to_list())
    return frame.select(
        "item_id",
        "run_id",
        pl.lit(path).alias("manifest"),
        pl.lit(manifest.digest if manifest else None, dtype=pl.String).alias("manifest_digest"),
        rows.alias("manifest_row"),
        "request_json",
    )


def _found_again(manifest: Manifest, item_ids: list[str]) -> pl.Series:
    """The rows of these items in a manifest that has changed since."""
    rows: dict[str, int | None] = dict.fromkeys(item_ids)
    for batch in manifest.read(_NO_DEFAULTS):
        for row in batch:
            if row.id in rows:
                rows[row.id] = row.row
    return pl.Series(values=[rows[item_id] for item_id in item_ids], dtype=pl.Int64)
