"""Media that were sent, and that usage says nobody looked at."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pipeline.report.scope import Scope
from pipeline.store.reader import latest_outcomes


@dataclass(frozen=True, slots=True)
class Unseen:
    """Answered items whose media of one modality one model at one endpoint did not see, with one of them."""

    modality: str
    model: str | None
    endpoint: str | None
    items: int
    item_id: str


def unseen_media(scope: Scope) -> list[Unseen]:
    """By modality, model and endpoint, most first.

    Raises:
        StoreError: there is no store.
    """
    frame = (
        latest_outcomes(scope.scan("results"), rehearsals=scope.rehearsals)
        .filter(pl.col("status") == "ok", pl.col("unseen").is_not_null())
        .select(pl.col("unseen").str.split("+"), "model_requested", "endpoint", "item_id")
        .explode("unseen")
        .group_by("unseen", "model_requested", "endpoint")
        .agg(items=pl.len(), item_id=pl.col("item_id").min())
        .sort("items", "unseen", descending=[True, False])
        .collect(engine="streaming")
    )
    return [Unseen(*row) for row in frame.iter_rows()]
