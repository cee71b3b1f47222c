"""All that the store knows of one item: its outcomes, every attempt, every charge, over all runs."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pipeline.store.places import Place
from pipeline.store.reader import scan


@dataclass(frozen=True, slots=True)
class History:
    """Frames in the datasets' columns, oldest first."""

    results: pl.DataFrame
    attempts: pl.DataFrame
    costs: pl.DataFrame
    rest: pl.DataFrame

    @property
    def is_empty(self) -> bool:
        return self.results.is_empty() and self.rest.is_empty()


def history_of(out: Place, job: str, item_id: str) -> History:
    """Raises StoreError where there is no store."""

    def of(dataset: str, *order: str) -> pl.DataFrame:
        return scan(out, dataset).filter(job=job, item_id=item_id).sort(order).drop("date", "run").collect()

    return History(
        results=of("results", "finished_at"),
        attempts=of("attempts", "sent_at"),
        costs=of("costs", "at", "attempt"),
        rest=of("rest", "run_id"),
    )


def similar_ids(out: Place, job: str, item_id: str, most: int = 5) -> list[str]:
    """Ids of the job that hold the text, for somebody who typed half of one."""
    found = (
        scan(out, "results")
        .filter(pl.col("job") == job, pl.col("item_id").str.contains(item_id, literal=True))
        .select(pl.col("item_id").unique().sort())
        .head(most)
        .collect()
    )
    return found["item_id"].to_list()
