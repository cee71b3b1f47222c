"""A token bucket, as endpoints keep their limits: it fills at a steady rate and holds a burst at most."""

from __future__ import annotations


class Bucket:
    """Full at 0 s. Times are seconds that only grow; amounts are requests or tokens."""

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._level = burst
        self._at_s = 0.0

    def wait_s(self, amount: float, at_s: float) -> float:
        """Seconds until so much can be taken; 0 where it can at once."""
        self._level = min(self.burst, self._level + (at_s - self._at_s) * self.rate_per_s)
        self._at_s = at_s
        return max(0.0, (amount - self._level) / self.rate_per_s)

    def take(self, amount: float) -> None:
        """What `wait_s` has just said may be taken."""
        self._level -= amount
