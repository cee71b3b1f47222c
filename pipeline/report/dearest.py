"""What costs most, and what was paid for nothing: the dearest items, failed tries, media by the minute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from pipeline.pricing import total
from pipeline.report.repricing import cost_by_item
from pipeline.report.scope import Scope
from pipeline.report.spending import ATTEMPT, Line
from pipeline.tokens import rules_for

_SHOWN = ("item_id", "run_id", "model_requested", "status", "attempts", "total_tokens", "cost", "currency")


@dataclass(frozen=True, slots=True)
class Dear:
    """An item of one run, with all its tries there."""

    item_id: str
    run_id: str
    model: str | None
    status: str
    attempts: int
    tokens: int | None
    cost: Decimal
    currency: str | None


def dearest(scope: Scope, most: int) -> list[Dear]:
    """The dearest items of each currency, dearest first.

    Raises:
        StoreError: there is no store.
    """
    item = ["run_id", "job", "item_id"]
    results = scope.scan("results").filter(pl.col("duplicate_of").is_null())
    if scope.book is not None:
        results = results.drop("cost", "currency").join(cost_by_item(scope.costs()), on=item, how="inner")
    costing = results.filter(pl.col("cost") > 0).select(_SHOWN)
    currencies = costing.select(pl.col("currency").unique().sort()).collect(engine="streaming")["currency"]
    found = []
    for currency in currencies:
        of_currency = costing.filter(pl.col("currency").eq_missing(currency))
        found.append(of_currency.top_k(most, by="cost").collect(engine="streaming"))
    return [
        Dear(*row)
        for frame in found
        for row in frame.sort("cost", "run_id", "item_id", descending=[True, False, False]).iter_rows()
    ]


def failed_tries(scope: Scope) -> dict[str, Decimal]:
    """What replies cost that were no answers: blocked, cut off, refused, repeated or not."""
    failed = scope.scan("attempts").filter(pl.col("error_class").is_not_null()).select(ATTEMPT)
    if failed.head(1).collect().is_empty():
        return {}
    frame = (
        scope.costs()
        .join(failed, on=ATTEMPT, how="semi")
        .filter(pl.col("currency").is_not_null())
        .group_by("currency")
        .agg(cost=pl.col("cost").sum())
        .sort("currency")
        .collect(engine="streaming")
    )
    return {currency: cost for currency, cost in frame.iter_rows() if cost}


def by_minute(lines: Iterable[Line]) -> dict[str, tuple[Decimal, dict[str, Decimal]]]:
    """Of sound and video that usage names: (minutes, cost of a minute by currency).

    ``lines``: by model, direction and modality. Nobody tells how long media were: minutes are those that the
    token rules of the model make of the tokens.
    """
    found: dict[str, tuple[Decimal, dict[str, Decimal]]] = {}
    for line in lines:
        model, direction, modality = line.keys
        if direction != "input" or modality not in ("audio", "video") or not line.tokens:
            continue
        rules = rules_for(model or "")
        per_s = rules.audio.tokens_per_s if modality == "audio" else rules.video.tokens_per_frame
        minutes, cost = found.get(modality, (Decimal(0), {}))
        found[modality] = (minutes + Decimal(line.tokens) / per_s / 60, {**cost, **_added(cost, line.cost)})
    return {
        modality: (minutes, {currency: amount / minutes for currency, amount in cost.items()})
        for modality, (minutes, cost) in found.items()
    }


def _added(some: dict[str, Decimal], more: dict[str, Decimal]) -> dict[str, Decimal]:
    return {currency: total([some.get(currency), amount]) or amount for currency, amount in more.items()}
