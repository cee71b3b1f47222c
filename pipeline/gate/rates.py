"""Requests or tokens a minute: what a person told, what the endpoint's headers say, what its 429s taught.

Three meters with one shape: ``delay_s(amount, now_s)`` says how long an admission must wait, ``take`` spends.
They are refilled smoothly; nobody is ever let through in a crowd. Times are seconds on the gate's clock.
"""

from __future__ import annotations

from collections import deque
from math import exp2, inf, log

from pipeline.gate.slots import Verdict

WINDOW_S = 60.0
BURST_SHARE = 0.01
"""Of the minute's limit that may go at once."""


GRAIN_S = 0.25
"""What went within so long is remembered as one."""


class PerMinute:
    """A limit that a person told: a bucket that holds a small burst and is refilled evenly, and a memory of
    the last minute.

    The bucket spreads what goes; its refill is less than the limit by what may go at once. An amount larger
    than the bucket waits until it is full and leaves a debt. The memory sees to it that no window of a
    minute, wherever it begins, holds more than the limit, whatever the amounts. What turns out to be more or
    less than was taken is settled afterwards, in both. ``window_s`` is longer than a minute where what was
    taken goes later, by up to the difference.
    """

    def __init__(self, limit: int, window_s: float = WINDOW_S) -> None:
        self.limit = limit
        self._window_s = window_s
        self._burst = max(1.0, limit * BURST_SHARE)
        self._per_s = (limit - self._burst + 1.0) / window_s
        self._level = self._burst
        self._at_s: float | None = None
        self._minute: deque[list[float]] = deque()  # [when, how much], by grains
        self._in_minute = 0.0

    def delay_s(self, amount: float, now_s: float) -> float:
        self._pass(now_s)
        missing = min(amount, self._burst) - self._level
        delay_s = missing / self._per_s if missing > 1e-9 else 0.0
        over = self._in_minute + amount - self.limit
        for at_s, went in self._minute:
            if over <= 1e-9:
                break
            over -= went
            delay_s = max(delay_s, at_s + GRAIN_S + self._window_s - now_s)
        return delay_s

    def room(self, now_s: float) -> float:
        """How much may go at once, without a debt."""
        self._pass(now_s)
        return max(0.0, min(self._level, self.limit - self._in_minute))

    def take(self, amount: float, now_s: float) -> None:
        self._pass(now_s)
        self._level -= amount
        self._in_minute += amount
        if self._minute and now_s - self._minute[-1][0] < GRAIN_S:
            self._minute[-1][1] += amount
        else:
            self._minute.append([now_s, amount])

    def settle(self, taken: float, used: float, at_s: float) -> None:
        """What was taken then, as an estimate, turned out to be this much."""
        self._level = min(self._burst, self._level + taken - used)
        for grain in reversed(self._minute):
            if grain[0] <= at_s:
                grain[1] += used - taken
                self._in_minute += used - taken
                break

    def _pass(self, now_s: float) -> None:
        if self._at_s is not None:
            self._level = min(self._burst, self._level + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        minute = self._minute
        while minute and minute[0][0] + GRAIN_S + self._window_s <= now_s:
            self._in_minute -= minute.popleft()[1]
        if not minute:
            self._in_minute = 0.0  # what rounding left


PLENTY = 0.5
"""While more than this share of the limit remains, headers slow nobody down."""
LEAST_SHARE = 0.05
"""Of the limit: what is spread over the time to the reset where nothing remains. Headers of a limit that
refills smoothly name the time until it is full again, which nobody should wait for."""


class Allowance:
    """What ``x-ratelimit-remaining`` and ``-reset`` say is left, spread evenly over the time until the reset.

    That is right for a window that begins anew at the reset; for a limit that is refilled smoothly, where the
    reset is when it would be full, it settles at the rate of the refill with half of the limit left.
    """

    def __init__(self) -> None:
        self._limit = 0.0
        self._remaining = 0.0
        self._resets_s = 0.0
        self._last_s = 0.0

    def told(self, limit: float | None, remaining: float, reset_s: float, now_s: float) -> None:
        self._limit = max(limit or 0.0, remaining, 1.0)
        self._remaining = remaining
        self._resets_s = now_s + reset_s

    def delay_s(self, amount: float, now_s: float) -> float:
        if now_s >= self._resets_s or self._remaining >= PLENTY * self._limit:
            return 0.0
        spread = self._remaining if self._remaining >= 1.0 else max(LEAST_SHARE * self._limit, 1.0)
        gap_s = amount * (self._resets_s - now_s) / spread
        return min(self._last_s + gap_s, self._resets_s) - now_s

    def take(self, amount: float, now_s: float) -> None:
        self._remaining -= amount
        self._last_s = now_s


FEW = 40
"""So many accepted for each 429: what is refused now and then was at the edge of a limit, not far beyond."""


class Refusals:
    """429s, told apart: of a limit that was overrun, at its edge, or of what was sent before one that is
    known already. What is sent after an event is the first to tell anything new."""

    def __init__(self) -> None:
        self._event_s = -1.0
        self._accepted = 0  # since then
        self._refused = 0  # of that event
        self._allowed = 0.0

    def accepted(self) -> None:
        self._accepted += 1

    def refused(self, sent_s: float, now_s: float) -> Verdict | None:
        """None where it was known already."""
        if sent_s >= self._event_s:
            accepted = self._accepted
            self._event_s, self._accepted, self._refused = now_s, 0, 1
            self._allowed = max(2.0, accepted / FEW)
            if accepted >= FEW:
                return "edge"
            self._allowed = inf
            return "overrun"
        self._refused += 1
        if self._refused > self._allowed:
            self._allowed = inf
            return "worse"
        return None


MEASURED_S, MEASURED_TRIPS = 0.5, 4
"""A rate is believed when it was measured for so long, and so many round trips."""
JUST_BELOW = 0.97
GROWTH_PER_S = 0.012
GROWTH_DOUBLES_S = 10.0
LONGEST_HELD_S = 2.0
"""A longer hold than that makes growth no slower."""
LEAST_OF_BEST = 0.1
MOST_LATE_S = 0.1


class Pace:
    """Requests a second, learned from 429s: none until one comes, then just below what was accepted since the
    one before, and growing from there, the more slowly the longer a 429 makes everybody wait.

    It can reach what slots cannot: a limit of requests where answers are so quick that a single slot exceeds
    it.
    """

    def __init__(self) -> None:
        self.per_s: float | None = None
        self._best_per_s = 0.0
        self._base_per_s = 0.0
        self._grows_since_s = 0.0
        self._growth = GROWTH_PER_S
        self._held_s = 0.0  # since then
        self._since_s: float | None = None
        self._accepted = 0
        self._next_s = 0.0

    def accepted(self, now_s: float) -> None:
        if self._since_s is None:
            self._since_s = now_s
        self._accepted += 1

    def refused(self, hold_s: float, round_trip_s: float, now_s: float) -> None:
        """A limit was met; everybody waits for ``hold_s``."""
        if self._since_s is None:
            self._since_s = now_s
        measured_s = now_s - self._since_s
        if measured_s < max(MEASURED_S, MEASURED_TRIPS * round_trip_s) or not self._accepted:
            return
        rate = self._accepted / measured_s
        now_per_s = self._now_per_s(now_s)
        self._best_per_s = max(self._best_per_s, self._accepted / max(measured_s - self._held_s, MEASURED_S))
        slower = JUST_BELOW * (rate if now_per_s is None else min(rate, now_per_s))
        self.per_s = self._base_per_s = max(slower, LEAST_OF_BEST * self._best_per_s)
        self._growth = GROWTH_PER_S / (1.0 + 10.0 * min(hold_s, LONGEST_HELD_S))
        self._held_s = hold_s
        self._grows_since_s = now_s + hold_s
        self._since_s, self._accepted = now_s, 0

    def delay_s(self, now_s: float) -> float:
        return 0.0 if self.per_s is None else self._next_s - now_s

    def take(self, now_s: float) -> None:
        per_s = self._now_per_s(now_s)
        if per_s is not None:
            self.per_s = per_s
            # What a late timer missed is made good, what a hold or a lack of work left over is not.
            self._next_s = max(self._next_s, now_s - MOST_LATE_S) + 1.0 / per_s

    def _now_per_s(self, now_s: float) -> float | None:
        if self.per_s is None:
            return None
        for_s = max(0.0, now_s - self._grows_since_s)
        # The integral of a growth that doubles every so often.
        doublings = min(for_s / GROWTH_DOUBLES_S, 16.0)
        grown = self._growth * GROWTH_DOUBLES_S / log(2.0) * (exp2(doublings) - 1.0)
        return self._base_per_s * (1.0 + grown)
