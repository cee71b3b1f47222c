"""The gate: what admits attempts to one endpoint, and when.

admission.py   first come, first served, through everything below
slots.py       how many at once: a number, or one that adapts
rates.py       requests and tokens a minute: told, read from headers, learned from 429s
leased.py      … or a short lease of what several processes share
needs.py       how many tokens a request will take
told.py        `x-ratelimit-*` headers
breaker.py     outages: items wait, single probes go
limited.py     what keeps the next attempt from going, and for how long it did
"""

from pipeline.gate.admission import (
    DEFAULT_MAX_OUTAGE_S,
    NOBODY_ANSWERED,
    Clock,
    Entry,
    Gate,
    GateClosed,
    Limits,
)
from pipeline.gate.limited import LIMITS, Limit, Limited, LimitsMet, limits_met

__all__ = [
    "DEFAULT_MAX_OUTAGE_S",
    "LIMITS",
    "NOBODY_ANSWERED",
    "Clock",
    "Entry",
    "Gate",
    "GateClosed",
    "Limit",
    "Limited",
    "Limits",
    "LimitsMet",
    "limits_met",
]
