"""Outcomes and costs over the store, as lazy polars queries; no printing.

    course.py      one run over its time: throughput and latency
    dearest.py     what costs most, what was paid for nothing, media by the minute
    gallery.py     a sample of latest outcomes, to be looked at
    repricing.py   costs by another price book
    reconciling.py a gateway's own log against the store
    scope.py       which rows a report is about: job, run, rehearsals, what a day is
    outcomes.py    latest outcomes, and what was never answered
    spending.py    tokens and cost by anything; attempts; what may have been billed
    unseen.py      media that were sent and not seen

Sums are of exact decimals, by currency: currencies are never added. What has no price is counted in tokens.
"""

from pipeline.report.course import Course, course_of
from pipeline.report.dearest import Dear, by_minute, dearest, failed_tries
from pipeline.report.gallery import Shown, sample
from pipeline.report.outcomes import FailedAlike, Outcomes, outcomes_in
from pipeline.report.scope import Scope
from pipeline.report.spending import (
    KEYS,
    Line,
    PossiblyBilled,
    ReportedCost,
    by,
    counted,
    folded,
    possibly_billed,
    reported,
    spent,
)
from pipeline.report.unseen import Unseen, unseen_media

__all__ = [
    "KEYS",
    "Course",
    "Dear",
    "FailedAlike",
    "Line",
    "Outcomes",
    "PossiblyBilled",
    "ReportedCost",
    "Scope",
    "Shown",
    "Unseen",
    "by",
    "by_minute",
    "counted",
    "course_of",
    "dearest",
    "failed_tries",
    "folded",
    "outcomes_in",
    "possibly_billed",
    "reported",
    "sample",
    "spent",
    "unseen_media",
]
