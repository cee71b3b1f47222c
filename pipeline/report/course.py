"""The course of one run: how much was answered and how long that took, span by span."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from pipeline.report.scope import Scope

_SPANS_S: Final = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_MOST_SPANS: Final = 120


@dataclass(frozen=True, slots=True)
class Moment:
    """What came back in one span, from ``at`` on. ``failed`` counts attempts that were no answer,
    ``throttled`` those of them that were told to slow down; latencies are of answers."""

    at: datetime
    answered: int = 0
    failed: int = 0
    throttled: int = 0
    median_s: float | None = None
    slow_s: float | None = None  # nineteen of twenty were quicker


@dataclass(frozen=True, slots=True)
class Course:
    """Moments of ``span_s`` seconds each, without gaps."""

    run_id: str
    span_s: float
    moments: tuple[Moment, ...]

    @property
    def answered(self) -> int:
        return sum(one.answered for one in self.moments)

    @property
    def elapsed_s(self) -> float:
        return len(self.moments) * self.span_s


def course_of(scope: Scope, run_id: str) -> Course | None:
    """None where nothing came back in this run.

    Raises:
        StoreError: there is no store.
    """
    # By the path key too: its files alone are opened.
    returned = scope.scan("attempts").filter(
        pl.col("run") == run_id, pl.col("run_id") == run_id, pl.col("done_at").is_not_null()
    )
    ends = returned.select(first=pl.col("done_at").min(), last=pl.col("done_at").max()).collect()
    first, last = ends.row(0)
    if first is None:
        return None
    span_s = _span_s((last - first).total_seconds())
    is_answer = pl.col("error_class").is_null()
    latency_s = (pl.col("done_at") - pl.col("sent_at")).dt.total_microseconds() / 1e6
    frame = (
        returned.group_by(pl.col("done_at").dt.truncate(f"{round(span_s * 1000)}ms").alias("at"))
        .agg(
            answered=is_answer.sum(),
            failed=(~is_answer).sum(),
            throttled=(pl.col("http_status") == 429).sum(),
            median_s=latency_s.filter(is_answer).median(),
            slow_s=latency_s.filter(is_answer).quantile(0.95),
        )
        .collect(engine="streaming")
    )
    found = {row[0]: Moment(*row) for row in frame.iter_rows()}
    at, end, span = min(found), max(found), timedelta(seconds=span_s)
    moments = []
    while at <= end:
        moments.append(found.get(at) or Moment(at))
        at += span
    return Course(run_id, span_s, tuple(moments))


def _span_s(elapsed_s: float) -> float:
    for span_s in _SPANS_S:
        if elapsed_s / span_s < _MOST_SPANS:
            return span_s
    return 3600 * (int(elapsed_s / 3600 / _MOST_SPANS) + 1)  # resumed days later
