"""Which rows of the store a report is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import polars as pl

from pipeline.pricing import PriceBook
from pipeline.records import EMBEDDED
from pipeline.report.repricing import repriced
from pipeline.store.places import Place
from pipeline.store.reader import every_run, scan

_ENDED: Final = {
    "results": pl.col("finished_at"),
    "costs": pl.col("at"),
    "attempts": pl.coalesce("done_at", "sent_at"),
}


@dataclass(frozen=True, slots=True)
class Scope:
    """``job`` and ``run_id`` None: all of them. ``rehearsals``: embedded answers, instead of real ones; the
    two are never added up."""

    out: Place
    job: str | None = None
    run_id: str | None = None
    rehearsals: bool = False
    timezone: ZoneInfo = ZoneInfo("UTC")
    book: PriceBook | None = None  # prices all that was answered anew
    since: date | None = None  # what ended on this day or later, by this scope's clock
    until: date | None = None  # … and on this day or before

    def costs(self) -> pl.LazyFrame:
        """Rows of costs in this scope, by the scope's book where it has one.

        Raises:
            StoreError: there is no store.
        """
        costs = self.scan("costs")
        return costs if self.book is None else repriced(costs, self.scan("results"), self.book)

    def scan(self, dataset: str) -> pl.LazyFrame:
        """Rows of results, costs or attempts in this scope.

        Raises:
            StoreError: there is no store.
        """
        is_rehearsed = pl.col("endpoint").eq_missing(EMBEDDED)
        rows = self._scan(dataset).filter(is_rehearsed if self.rehearsals else ~is_rehearsed)
        if self.since is not None:
            rows = rows.filter(_ENDED[dataset] >= self._begin(self.since))
        if self.until is not None:
            rows = rows.filter(_ENDED[dataset] < self._begin(self.until + timedelta(days=1)))
        return rows

    def rest(self) -> pl.LazyFrame:
        """Rows at rest, which know no endpoint: their run does."""
        names = [facts["run_id"] for facts in self.runs()]
        return self._scan("rest").filter(pl.col("run_id").is_in(names))

    def runs(self) -> list[dict[str, Any]]:
        """run.json of each run in this scope, oldest first."""
        runs = [
            facts
            for facts in every_run(self.out)
            if self.job in (None, facts["job"])
            and self.run_id in (None, facts["run_id"])
            and (facts["plan"]["endpoint"] == EMBEDDED) == self.rehearsals
        ]
        return sorted(runs, key=lambda facts: (str(facts["started_at"]), str(facts["run_id"])))

    def _begin(self, day: date) -> datetime:
        return datetime.combine(day, time(), self.timezone).astimezone(UTC)

    def day(self, instant: pl.Expr) -> pl.Expr:
        """The day of an instant on this scope's clock."""
        if self.timezone.key != "UTC":
            instant = instant.dt.convert_time_zone(self.timezone.key)
        return instant.dt.date()

    def _scan(self, dataset: str) -> pl.LazyFrame:
        rows = scan(self.out, dataset)
        if self.job is not None:
            rows = rows.filter(job=self.job)
        if self.run_id is not None:
            rows = rows.filter(run_id=self.run_id)
        return rows
