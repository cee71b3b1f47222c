"""Latest outcomes: how many items are answered, why others failed, what was never answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import polars as pl

from pipeline.report.repricing import cost_by_item
from pipeline.report.scope import Scope
from pipeline.store.reader import latest_outcomes


@dataclass(frozen=True, slots=True)
class FailedAlike:
    """Items whose latest outcome is this class of failure, with one of them and its sentence."""

    error_class: str
    items: int
    item_id: str
    message: str


@dataclass(slots=True)
class Outcomes:
    """``cost``: what the latest ``ok`` outcomes are known to have cost, by currency, with all the attempts
    that each of them took in its run."""

    ok: int = 0
    cut_off: int = 0  # of the ok ones: finish_reason `length`
    unseen: int = 0  # of the ok ones: media were sent that the endpoint did not see
    failed: list[FailedAlike] = field(default_factory=list)  # most first
    not_answered: int = 0  # set aside by a run that stopped, and never asked since
    left_by: frozenset[str] = frozenset()  # the runs that set those aside
    cost: dict[str, Decimal] = field(default_factory=dict)

    @property
    def items(self) -> int:
        return self.ok + sum(alike.items for alike in self.failed) + self.not_answered


def outcomes_in(scope: Scope) -> Outcomes:
    """Raises StoreError where there is no store."""
    latest = latest_outcomes(scope.scan("results"), rehearsals=scope.rehearsals)
    if scope.book is not None:
        latest = latest.drop("cost", "currency").join(
            cost_by_item(scope.costs()), on=["run_id", "job", "item_id"], how="left"
        )
    groups = (
        latest.group_by("status", "error_class", "currency")
        .agg(
            items=pl.len(),
            cut_off=(pl.col("finish_reason") == "length").sum(),
            unseen=pl.col("unseen").count(),
            item_id=pl.col("item_id").first(),
            message=pl.col("error_message").first(),
            cost=pl.col("cost").sum(),
        )
        .sort("items", "error_class", descending=[True, False])
    )
    told = Outcomes()
    failed: dict[str, FailedAlike] = {}
    for group in groups.collect(engine="streaming").iter_rows(named=True):
        if group["status"] == "ok":
            told.ok += group["items"]
            told.cut_off += group["cut_off"]
            told.unseen += group["unseen"]
            if group["currency"] is not None:
                told.cost[group["currency"]] = group["cost"]
            continue
        error_class = group["error_class"] or "unknown"
        first = failed.get(error_class)
        failed[error_class] = FailedAlike(
            error_class,
            group["items"] + (first.items if first else 0),
            first.item_id if first else group["item_id"],
            (first.message if first else group["message"]) or "",
        )
    told.failed = sorted(failed.values(), key=lambda alike: (-alike.items, alike.error_class))
    told.not_answered, told.left_by = _not_answered(scope)
    return told


def _not_answered(scope: Scope) -> tuple[int, frozenset[str]]:
    """How many items, and the runs that set them aside."""
    rest = scope.rest()
    if rest.head(1).collect().is_empty():
        return 0, frozenset()
    item = ["job", "item_id"]
    waiting = rest.filter(status="not_attempted").select(*item, "run_id")
    skipped = rest.filter(status="skipped").select(item)  # answered, if under another item's name
    ended = scope.scan("results").select(item)
    left = waiting.join(ended, on=item, how="anti").join(skipped, on=item, how="anti")
    told = left.select(items=pl.struct(item).n_unique(), runs=pl.col("run_id").unique().implode()).collect()
    return told["items"][0], frozenset(told["runs"][0])
