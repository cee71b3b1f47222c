"""Tokens and cost by anything, over all tries: every reply that carried usage was paid for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import polars as pl

from pipeline.pricing import total
from pipeline.report.scope import Scope

KEYS: Final = ("modality", "direction", "kind", "model", "endpoint", "day", "run", "job", "error_class")
"""What a report can be cut by."""
_OF_COUNTS: Final = {"modality", "direction", "kind"}
"""These tell tokens apart, and not attempts."""
ATTEMPT: Final = ("run_id", "job", "item_id", "attempt")


@dataclass(slots=True)
class Line:
    """One line of a table. ``attempts`` and ``items`` are None where its keys tell tokens apart; a cost of no
    currency is unknown, not zero. ``possibly_billed`` are of the attempts, ``failed`` of the items; an item
    counts in every run in which it ended."""

    keys: tuple[str | None, ...]
    tokens: int = 0
    unpriced_tokens: int = 0
    cost: dict[str, Decimal] = field(default_factory=dict)
    attempts: int | None = None
    possibly_billed: int | None = None
    items: int | None = None
    failed: int | None = None


@dataclass(slots=True)
class PossiblyBilled:
    """Attempts of one model that broke off once sent. ``possible_cost`` is an estimate, None where nothing is
    known, in the currency of the model's other replies."""

    model: str
    attempts: int
    possible_cost: Decimal | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class ReportedCost:
    """What endpoints say themselves that so many replies cost (in USD, as OpenRouter and LiteLLM do), and
    what the price book makes of the same replies."""

    replies: int
    reported: Decimal
    cost: dict[str, Decimal]


def spent(scope: Scope, keys: Sequence[str]) -> list[Line]:
    """Tokens and cost by these keys, in their order.

    Raises:
        StoreError: there is no store.
    """
    columns = _named(scope, keys, "at")
    costs = scope.costs()
    if "error_class" in keys:
        failures = scope.scan("attempts").filter(pl.col("error_class").is_not_null())
        costs = costs.join(failures.select(*ATTEMPT, "error_class"), on=ATTEMPT, how="left")
    frame = (
        costs.group_by(*columns, "currency")
        .agg(
            tokens=pl.col("tokens").sum(),
            unpriced_tokens=pl.col("tokens").filter(pl.col("cost").is_null()).sum(),
            cost=pl.col("cost").sum(),
        )
        .collect(engine="streaming")
    )
    return folded(_lines(frame, len(keys)))


def by(scope: Scope, keys: Sequence[str]) -> list[Line]:
    """Tokens and cost by these keys, with attempts and items where the keys can tell those."""
    lines = spent(scope, keys)
    if _OF_COUNTS.intersection(keys):
        return lines
    for line in lines:
        line.attempts = line.possibly_billed = line.items = line.failed = 0
    return folded([*lines, *counted(scope, keys)])


def counted(scope: Scope, keys: Sequence[str]) -> list[Line]:
    """Attempts and items by these keys, without tokens; keys may come twice."""
    attempts = (
        scope.scan("attempts")
        .group_by(_named(scope, keys, pl.coalesce("done_at", "sent_at")))
        .agg(pl.len(), (pl.col("state") == "possibly_billed").sum().alias("possibly_billed"))
        .collect(engine="streaming")
    )
    results = scope.scan("results").drop("model").rename({"model_requested": "model"})
    items = (
        results.group_by(_named(scope, keys, "finished_at"))
        .agg(pl.len(), (pl.col("status") == "failed").sum().alias("failed"))
        .collect(engine="streaming")
    )
    of_keys = slice(len(keys))
    return [
        *(
            Line(_keys(row[of_keys]), attempts=row[-2], possibly_billed=row[-1])
            for row in attempts.iter_rows()
        ),
        *(Line(_keys(row[of_keys]), items=row[-2], failed=row[-1]) for row in items.iter_rows()),
    ]


def possibly_billed(scope: Scope) -> list[PossiblyBilled]:
    """By model, most first."""
    frame = (
        scope.scan("attempts")
        .filter(state="possibly_billed")
        .group_by("model")
        .agg(
            attempts=pl.len(),
            possible_cost=pl.when(pl.col("possible_cost").count() > 0).then(pl.col("possible_cost").sum()),
        )
        .sort("attempts", "model", descending=[True, False])
        .collect()
    )
    if frame.is_empty():
        return []
    currencies = {line.keys[0]: list(line.cost) for line in spent(scope, ["model"])}
    return [
        PossiblyBilled(
            model, attempts, cost, known[0] if len(known := currencies.get(model, [])) == 1 else None
        )
        for model, attempts, cost in frame.iter_rows()
    ]


def reported(scope: Scope) -> ReportedCost | None:
    """None where no endpoint told what anything cost."""
    told = scope.scan("attempts").filter(pl.col("reported_cost").is_not_null())
    if told.head(1).collect().is_empty():
        return None
    ours = scope.costs().group_by(ATTEMPT).agg(cost=pl.col("cost").sum(), currency=pl.col("currency").first())
    frame = (
        told.join(ours, on=ATTEMPT, how="left")
        .group_by("currency")
        .agg(replies=pl.len(), reported=pl.col("reported_cost").sum(), cost=pl.col("cost").sum())
        .collect()
    )
    return ReportedCost(
        replies=int(frame["replies"].sum()),
        reported=total(frame["reported"]) or Decimal(0),
        cost={
            currency: cost
            for currency, cost in frame.select("currency", "cost").iter_rows()
            if currency is not None
        },
    )


def folded(lines: Iterable[Line], places: Sequence[int] | None = None) -> list[Line]:
    """Lines of the same keys as one, in the order of the keys; ``places`` picks some of the keys."""
    found: dict[tuple[str | None, ...], Line] = {}
    for line in lines:
        keys = line.keys if places is None else tuple(line.keys[place] for place in places)
        mine = found.setdefault(keys, Line(keys))
        mine.tokens += line.tokens
        mine.unpriced_tokens += line.unpriced_tokens
        for currency, cost in line.cost.items():
            mine.cost[currency] = total([mine.cost.get(currency), cost]) or cost
        mine.attempts = _sum(mine.attempts, line.attempts)
        mine.possibly_billed = _sum(mine.possibly_billed, line.possibly_billed)
        mine.items = _sum(mine.items, line.items)
        mine.failed = _sum(mine.failed, line.failed)
    return sorted(found.values(), key=lambda line: [(key is not None, key or "") for key in line.keys])


def _named(scope: Scope, keys: Sequence[str], instant: str | pl.Expr) -> list[pl.Expr]:
    at = pl.col(instant) if isinstance(instant, str) else instant
    column = {"day": scope.day(at), "run": pl.col("run_id")}
    return [column.get(key, pl.col(key)).alias(f"by_{key}") for key in keys]


def _lines(frame: pl.DataFrame, key_count: int) -> Iterable[Line]:
    for row in frame.iter_rows():
        currency, tokens, unpriced_tokens, cost = row[key_count:]
        yield Line(_keys(row[:key_count]), tokens, unpriced_tokens, {currency: cost} if currency else {})


def _keys(values: Sequence[object]) -> tuple[str | None, ...]:
    return tuple(None if value is None else str(value) for value in values)


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one + (other or 0)
