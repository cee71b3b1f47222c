"""What the store says was spent: known costs, and what attempts of unknown fate may have cost."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import polars as pl

from pipeline.records import EMBEDDED
from pipeline.store.places import Place
from pipeline.store.reader import scan

LONGEST_RUN = timedelta(days=31)
"""Parts are kept by the day their run began: a day's spending is in those of at most so long before."""


def possibly_spent_in(out: Place, run_id: str) -> Decimal:
    """What the possibly billed attempts of a run may have cost, an estimate.

    Raises:
        StoreError: there is no store.
    """
    attempts = scan(out, "attempts").filter(pl.col("run") == run_id, state="possibly_billed")
    return _sum(attempts, "possible_cost")


def spent_on(
    out: Place, day: date, timezone: ZoneInfo, currency: str, *, rehearsals: bool = False
) -> Decimal:
    """Over all jobs, on that day in ``timezone``; rehearsals apart.

    Raises:
        StoreError: there is no store.
    """
    begins = datetime.combine(day, time(), timezone).astimezone(UTC)
    ends = datetime.combine(day + timedelta(days=1), time(), timezone).astimezone(UTC)

    def of(dataset: str, at: pl.Expr) -> pl.LazyFrame:
        is_rehearsed = pl.col("endpoint").eq_missing(EMBEDDED)
        return scan(out, dataset).filter(
            pl.col("date").is_between(begins.date() - LONGEST_RUN, ends.date()),
            at >= begins,
            at < ends,
            is_rehearsed if rehearsals else ~is_rehearsed,
        )

    known = _sum(of("costs", pl.col("at")).filter(currency=currency), "cost")
    broken_off = of("attempts", pl.coalesce("done_at", "sent_at")).filter(state="possibly_billed")
    return known + _sum(broken_off, "possible_cost")


def _sum(rows: pl.LazyFrame, column: str) -> Decimal:
    found: Decimal | None = rows.select(pl.col(column).sum()).collect(engine="streaming").item()
    return found or Decimal(0)
