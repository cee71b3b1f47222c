"""The report's totals against the gateway's own counts: tokens by day and kind, money, attempts, outcomes."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import polars as pl

from pipeline.report import Scope, by, outcomes_in
from tests.fortnight.nights import DEARER, PRICES, Fortnight

MILLION = Decimal(1_000_000)


def expected_cost(played: Fortnight) -> Decimal:
    """What was served, at the prices of its day, added up without the project's arithmetic."""
    cost = Decimal(0)
    for day, counts in played.gateway.counts.items():
        prices = PRICES["after" if day >= DEARER else "before"]
        for what, price in prices.items():
            cost += getattr(counts, what) * Decimal(price) / MILLION
    return cost


def check(played: Fortnight) -> list[str]:
    """What does not agree, as sentences; nothing where all does."""
    wrong: list[str] = []

    def agree(what: str, reported: object, served: object) -> None:
        if reported != served:
            wrong.append(f"{what}: reported {reported}, served {served}")

    scope = Scope(played.out, job="default")
    served = played.gateway.counts
    (all_of,) = by(scope, ())
    agree("tokens", all_of.tokens, sum(counts.tokens for counts in served.values()))
    agree("cost", all_of.cost, {"USD": expected_cost(played)})
    agree("unpriced tokens", all_of.unpriced_tokens, 0)
    days = {line.keys[0]: line for line in by(scope, ("day",))}
    for day, counts in sorted(served.items()):
        agree(f"tokens of {day}", days[str(day)].tokens if str(day) in days else 0, counts.tokens)
    kinds = Counter[str]()
    for line in by(scope, ("modality", "direction")):
        modality, direction = line.keys
        named = modality if modality in ("text", "audio") else "media"
        kinds["output" if direction == "output" else str(named)] += line.tokens
    for what in ("text", "audio", "media", "output"):
        agree(f"{what} tokens", kinds[what], sum(getattr(counts, what) for counts in served.values()))

    attempts = scope.scan("attempts").collect()
    statuses = Counter(attempts["http_status"].drop_nulls().to_list())
    agree(
        "attempts by status", statuses, sum((counts.statuses for counts in served.values()), Counter[int]())
    )
    cut = attempts.filter(pl.col("http_status").is_null(), state="possibly_billed").height
    agree("answers that were cut off", cut, sum(counts.cut for counts in served.values()))

    rows = max(one.tally.rows_total or 0 for summaries in played.summaries.values() for one in summaries)
    outcomes = outcomes_in(scope)
    agree("items", outcomes.items, rows)
    for day, summaries in played.summaries.items():
        for one in summaries:
            if one.tally.ended != one.tally.rows_total:
                wrong.append(f"{day}: of {one.tally.rows_total} rows {one.tally.ended} have an outcome")
    return wrong
