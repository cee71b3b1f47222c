"""A circuit breaker: an endpoint that is down is asked by single probes, and items wait instead of failing.

It opens when many items in a row found nobody who answers, each at its first try, and closes when a probe
is answered, whatever the answer says: somebody is there again. Further tries prove nothing: a few odd items
that make an endpoint fall over every time, and are all that is left, are no outage.
"""

from __future__ import annotations

from math import inf

FEWEST, MOST = 4, 20
"""Items in a row before it opens: as many as there are slots, within these. Before anybody ever answered it
takes the most: an endpoint that never worked is rather a mistake, and items say so by failing."""
FIRST_PROBE_S, LAST_PROBE_S = 1.0, 15.0
PROBES_PER_OUTAGE = 20.0
"""The wait between two probes is this part of the outage so far: soon noticed when short, quiet when long."""


class Breaker:
    """Of one endpoint. Times are seconds on the gate's clock."""

    def __init__(self) -> None:
        self.is_open = False
        self._in_a_row = 0
        self.has_answered = False  # anybody, ever
        self._began_s = 0.0
        self._probe_s = 0.0  # when the next one may go
        self._is_probing = False
        self.is_probed_elsewhere = False
        self._earlier_s = 0.0

    def delay_s(self, now_s: float) -> float:
        """How long the next attempt must wait; forever while a probe is under way, here or elsewhere."""
        if not self.is_open:
            return 0.0
        return inf if self._is_probing or self.is_probed_elsewhere else self._probe_s - now_s

    def admitted(self) -> bool:
        """One attempt goes. Returns whether it is a probe."""
        self._is_probing = self.is_open
        return self.is_open

    def failed(self, now_s: float, *, is_probe: bool, is_first: bool, slots: int) -> None:
        """Nobody answered an attempt, the first of its item or not."""
        if self.is_open:
            if is_probe:
                self._is_probing = False
                wait_s = (now_s - self._began_s) / PROBES_PER_OUTAGE
                self._probe_s = now_s + min(max(wait_s, FIRST_PROBE_S), LAST_PROBE_S)
            return
        self._in_a_row += is_first
        if self._in_a_row >= (min(max(FEWEST, slots), MOST) if self.has_answered else MOST):
            self.is_open = True
            self._began_s = now_s
            self._probe_s = now_s + FIRST_PROBE_S
            self._is_probing = False

    def answered(self, now_s: float, *, is_probe: bool) -> None:
        """Somebody answered. What was under way when it opened proves nothing: only a probe closes it."""
        self.has_answered = True
        if not self.is_open:
            self._in_a_row = 0
        elif is_probe:
            self._earlier_s += now_s - self._began_s
            self.is_open = self._is_probing = self.is_probed_elsewhere = False
            self._in_a_row = 0

    def opened_elsewhere(self, now_s: float) -> None:
        """Another process found nobody there, and probes, whether this one found out alone or not. What it
        finds is told as an answer to a probe."""
        if not self.is_open:
            self._began_s = now_s
        self.is_open = self.is_probed_elsewhere = True

    def given_up(self) -> None:
        """The probe never went, or nobody waited for its answer."""
        self._is_probing = False

    def open_for_s(self, now_s: float) -> float:
        """Seconds since it opened; 0 while it is closed."""
        return now_s - self._began_s if self.is_open else 0.0

    def total_s(self, now_s: float) -> float:
        """Seconds it has been open, in all."""
        return self._earlier_s + self.open_for_s(now_s)
