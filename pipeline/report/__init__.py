"""Outcomes and costs over the store, as lazy polars queries; no printing.

    dearest.py     what costs most, what was paid for nothing, media by the minute
    repricing.py   costs by another price book
    reconciling.py a gateway's own log against the store
    scope.py       which rows a report is about: job, run, rehearsals, what a day is
    outcomes.py    latest outcomes, and what was never answered
    spending.py    tokens and cost by anything; attempts; what may have been billed

Sums are of exact decimals, by currency: currencies are never added. What has no price is counted in tokens.
"""

from pipeline.report.dearest import Dear, by_minute, dearest, failed_tries
from pipeline.report.outcomes import FailedAlike, Outcomes, outcomes_in
from pipeline.report.scope import Scope
from pipeline.report.spending import (
    KEYS,
    Line,
    PossiblyBilled,
    ReportedCost,
    by,
    folded,
    possibly_billed,
    reported,
    spent,
)

__all__ = [
    "KEYS",
    "Dear",
    "FailedAlike",
    "Line",
    "Outcomes",
    "PossiblyBilled",
    "ReportedCost",
    "Scope",
    "by",
    "by_minute",
    "dearest",
    "failed_tries",
    "folded",
    "outcomes_in",
    "possibly_billed",
    "reported",
    "spent",
]
