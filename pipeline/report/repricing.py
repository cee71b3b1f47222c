"""Costs by another price book: what all that was answered would have cost, without asking anything again.

The counts stay as they are; each gets the price that the book has for its model at its time, in the tier of
its reply's input. A reply's fee is a row of its own, as in the dataset. What the book does not know has no
price.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from pipeline.pricing import PriceBook, Rates, money
from pipeline.store.schemas import COST, PRICE

_REPLY = ("run_id", "job", "item_id", "attempt")
_ITEM = ("run_id", "job", "item_id")
_MOMENT = {"model": pl.String(), "answered_by": pl.String(), "moment": pl.Datetime("us", "UTC")}
_GRAIN = "30m"
"""No price in any list changes between two half hours."""

Moment = tuple[str, str | None, datetime]
"""The model that was asked, the one that answered, and when."""


def repriced(costs: pl.LazyFrame, results: pl.LazyFrame, book: PriceBook) -> pl.LazyFrame:
    """``costs`` with the book's prices, in the same columns. ``results`` tell which model answered, for where
    the book does not know the one that was asked."""
    columns = list(costs.collect_schema())
    answered_by = results.select(*_ITEM, answered_by="model").unique(list(_ITEM), keep="any")
    counts = (
        costs.filter(pl.col("kind") != "request")
        .drop("price_per_mtok", "cost", "currency", "price_source")
        .with_columns(moment=pl.col("at").dt.truncate(_GRAIN))
        .join(answered_by, on=_ITEM, how="left")
    )
    known = list(_known(counts, book))
    tokens_in = pl.col("tokens").filter(pl.col("direction") == "input").sum().over(_REPLY)
    is_tiered = any(rates.tiers for _, rates in known)
    priced = (
        counts.with_columns(input_tokens=tokens_in.fill_null(0) if is_tiered else pl.lit(0, pl.Int64))
        .join(_prices(known), on=[*_MOMENT, "modality", "direction", "kind"], how="left", nulls_equal=True)
        .filter(
            pl.col("above").is_null()
            | pl.col("input_tokens").is_between(pl.col("above"), pl.col("up_to"), closed="right")
        )
        .with_columns(cost=pl.col("per_token") * pl.col("tokens"))
    )
    replies = counts.unique(_REPLY, keep="any").with_columns(
        modality=pl.lit("unattributed"),
        direction=pl.lit("input"),
        kind=pl.lit("request"),
        tokens=pl.lit(0, pl.Int64),
        provenance=pl.lit("derived"),
        price_per_mtok=pl.lit(None, PRICE),
    )
    fees = replies.join(_fees(known), on=list(_MOMENT), how="inner", nulls_equal=True)
    return pl.concat([priced.select(columns), fees.select(columns)])


def _known(counts: pl.LazyFrame, book: PriceBook) -> Iterator[tuple[Moment, Rates]]:
    for model, answered_by, moment in (
        counts.select(*_MOMENT).unique().collect(engine="streaming").iter_rows()
    ):
        rates = book.rates(model, moment)
        if rates is None and answered_by is not None:
            rates = book.rates(answered_by, moment)
        if rates is not None:
            yield (model, answered_by, moment), rates


def _prices(known: Sequence[tuple[Moment, Rates]]) -> pl.LazyFrame:
    """A row a unit and tier: ``above`` so many input tokens of the reply, ``up_to`` so many, both as the book
    counts them."""
    schema: dict[str, Any] = {
        **_MOMENT,
        "above": pl.Int64(),
        "up_to": pl.Int64(),
        "modality": pl.String(),
        "direction": pl.String(),
        "kind": pl.String(),
        "price_per_mtok": PRICE,
        "per_token": COST,
        "currency": pl.String(),
        "price_source": pl.String(),
    }
    rows = []
    for moment, rates in known:
        starts = [-1, *(above for above, _ in rates.tiers)]
        ends = [*starts[1:], 2**62]
        sheets = [rates.base, *(sheet for _, sheet in rates.tiers)]
        units = {unit for sheet in sheets for unit in sheet}
        for above, up_to, sheet in zip(starts, ends, sheets, strict=True):
            for unit in units:
                price = sheet.get(unit)
                told = (
                    (None,) * 4
                    if price is None
                    else (price.per_mtok, money(price.micros), rates.currency, rates.source)
                )
                rows.append((*moment, above, up_to, *unit, *told))
    return pl.LazyFrame(rows, schema=schema, orient="row")


def _fees(known: Sequence[tuple[Moment, Rates]]) -> pl.LazyFrame:
    schema = {**_MOMENT, "cost": COST, "currency": pl.String(), "price_source": pl.String()}
    rows: list[tuple[Any, ...]] = [
        (*moment, money(rates.fee), rates.currency, rates.source) for moment, rates in known if rates.fee
    ]
    return pl.LazyFrame(rows, schema=schema, orient="row")


def cost_by_item(costs: pl.LazyFrame) -> pl.LazyFrame:
    """``run_id, job, item_id, cost, currency``: what all tries of an item in a run are known to have cost."""
    return (
        costs.filter(pl.col("cost").is_not_null())
        .group_by(_ITEM)
        .agg(cost=pl.col("cost").sum(), currency=pl.col("currency").first())
    )
