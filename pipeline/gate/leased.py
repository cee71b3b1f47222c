"""Requests or tokens a minute that are counted elsewhere, for several processes: what was granted to one.

It has the shape of `rates.PerMinute`. A grant may be spent until it expires; what is left of it then goes
back, to the time it was granted at, so that whoever counts knows what can have gone in any window.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from math import inf

CORRECTION_S = 0.25
"""Corrections are gathered by so many seconds."""


@dataclass(slots=True)
class Returned:
    """What a lease gives back: (when it was counted, on the clock of whoever counts; how much)."""

    unused: list[tuple[float, float]] = field(default_factory=list)
    corrected: list[tuple[float, float]] = field(default_factory=list)  # used, less what was taken for it


class Leased:
    """A limit of which this process has some for a short while. Times are seconds on the gate's clock."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0.0  # since the last `give_back`
        self._grants: deque[list[float]] = deque()  # [expires_s, left, counted_at_s]
        self._left = 0.0
        self._ahead_s = 0.0  # of this clock, the one that counts
        self._returned = Returned()
        self._corrected: defaultdict[float, float] = defaultdict(float)

    def grant(self, amount: float, asked_s: float, expires_s: float, counted_at_s: float) -> None:
        """``counted_at_s``: when it was counted, on the other clock; some time after ``asked_s`` here."""
        self._ahead_s = counted_at_s - asked_s
        if amount:
            self._grants.append([expires_s, amount, counted_at_s])
            self._left += amount

    def give_back(self, now_s: float) -> Returned:
        """What expired unused, and what turned out otherwise, since this was asked last."""
        self._pass(now_s)
        returned, self._returned = self._returned, Returned()
        returned.corrected = list(self._corrected.items())
        self._corrected.clear()
        self.taken = 0.0
        return returned

    def left(self, now_s: float) -> float:
        self._pass(now_s)
        return self._left

    def delay_s(self, amount: float, now_s: float) -> float:
        self._pass(now_s)
        return 0.0 if self._left >= amount - 1e-9 else inf

    def take(self, amount: float, now_s: float) -> None:
        self.taken += amount
        self._left -= amount
        while amount > 1e-9 and self._grants:
            grant = self._grants[0]
            of_this = min(amount, grant[1])
            grant[1] -= of_this
            amount -= of_this
            if grant[1] <= 1e-9:
                self._grants.popleft()
        if not self._grants:
            self._left = 0.0  # what rounding left

    def settle(self, taken: float, used: float, at_s: float) -> None:
        """What was taken then, as an estimate, turned out to be this much."""
        at_s = (at_s + self._ahead_s) // CORRECTION_S * CORRECTION_S + CORRECTION_S
        self._corrected[at_s] += used - taken

    def _pass(self, now_s: float) -> None:
        while self._grants and self._grants[0][0] <= now_s:
            _, left, counted_at_s = self._grants.popleft()
            self._left -= left
            self._returned.unused.append((counted_at_s, left))
