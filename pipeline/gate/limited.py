"""What keeps the next attempt from going, and for how long each limit did so far.

Told at every turn by whoever admits, and read now and then: it costs a comparison an attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

Limit = Literal["slots", "rpm", "tpm", "hold", "outage", "budget"]
"""Requests and tokens a minute are those that were told, read from headers, or learned from 429s."""
LIMITS: tuple[Limit, ...] = get_args(Limit)


class Limited:
    """Of one gate or budget. Times are seconds on its clock."""

    def __init__(self) -> None:
        self.now: Limit | None = None
        self._since_s = 0.0
        self._seconds: dict[Limit, float] = {}

    def by(self, limit: Limit | None, now_s: float) -> None:
        """From now on it is this limit; None: nothing waits for any."""
        if limit == self.now:
            return
        if self.now is not None:
            self._seconds[self.now] = self._seconds.get(self.now, 0.0) + now_s - self._since_s
        self.now, self._since_s = limit, now_s

    def until(self, now_s: float) -> dict[Limit, float]:
        """Seconds of each limit that was met, the present one up to now."""
        seconds = dict(self._seconds)
        if self.now is not None:
            seconds[self.now] = seconds.get(self.now, 0.0) + now_s - self._since_s
        return seconds


@dataclass(frozen=True, slots=True)
class LimitsMet:
    """Over all gates and sessions of a run: the seconds of each limit, and how many 429s came."""

    limited_s: Mapping[Limit, float] = field(default_factory=dict)
    throttled: int = 0

    def and_then(self, later: Self) -> LimitsMet:
        seconds = {
            limit: self.limited_s.get(limit, 0.0) + later.limited_s.get(limit, 0.0) for limit in LIMITS
        }
        return LimitsMet(seconds, self.throttled + later.throttled)

    def facts(self) -> dict[str, Any]:
        """As run.json tells it under ``pace``; `limits_met` reads it back."""
        seconds = {limit: round(self.limited_s.get(limit, 0.0), 3) for limit in LIMITS}
        return {"limited_s": seconds, "throttled": self.throttled}


def limits_met(told: Mapping[str, Any]) -> LimitsMet:
    """What a run.json tells; an older one tells nothing."""
    return LimitsMet(told.get("limited_s", {}), told.get("throttled", 0))
