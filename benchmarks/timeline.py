"""Rates out of the times that the server noted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

_TAIL = 0.97
"""At the end of a run the slots empty: the last 3% of the answers tell nothing of its pace."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Seconds since the first request, ascending. ``down``: answered 503 in an outage."""

    accepted: Sequence[float] = ()
    throttled: Sequence[float] = ()
    down: Sequence[float] = ()
    answered: Sequence[float] = ()
    first_at: float | None = field(default=None)  # seconds since 1970

    @property
    def requests(self) -> int:
        return len(self.accepted) + len(self.throttled) + len(self.down)

    @property
    def throttled_share(self) -> float:
        """429s among all requests."""
        return len(self.throttled) / self.requests if self.requests else 0.0

    def throttled_share_from(self, from_s: float) -> float:
        throttled = between(self.throttled, from_s, float("inf"))
        requests = throttled + between(self.accepted, from_s, float("inf"))
        return throttled / requests if requests else 0.0


def between(times: Sequence[float], from_s: float, to_s: float) -> int:
    """How many of the ascending times lie in [from, to)."""
    return bisect_left(times, to_s) - bisect_left(times, from_s)


def rate_between(times: Sequence[float], from_s: float, to_s: float) -> float:
    """Per second."""
    return between(times, from_s, to_s) / (to_s - from_s)


def whole_rate(times: Sequence[float]) -> float:
    """Per second, from 0 to the last."""
    return len(times) / times[-1]


def steady_rate(times: Sequence[float]) -> float:
    """Per second in the last half of the run, without its tail."""
    return rate_from(times, times[int(len(times) * _TAIL)] / 2)


def rate_from(times: Sequence[float], from_s: float) -> float:
    """Per second from then on, without the tail; 0 where the run was over by then."""
    end_s = times[int(len(times) * _TAIL)]
    return rate_between(times, from_s, end_s) if end_s > from_s else 0.0


def back_to_speed_s(
    times: Sequence[float], from_s: float, rate: float, *, share: float = 0.95, window_s: float = 2.0
) -> float | None:
    """Seconds after ``from_s`` until a window begins in which so much of a rate is reached; None: never."""
    for place in range(bisect_left(times, from_s), len(times)):
        begins_s = times[place]
        if between(times, begins_s, begins_s + window_s) >= share * rate * window_s:
            return begins_s - from_s
    return None


def rate_of_tenth(times: Sequence[float], tenth: int) -> float:
    """Per second, of the first tenth (1) to the last (10) of the events; the times need not begin at 0."""
    begins, ends = ((len(times) - 1) * place // 10 for place in (tenth - 1, tenth))
    return (ends - begins) / (times[ends] - times[begins])
