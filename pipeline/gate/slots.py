"""How many attempts may be under way at once: a number, or one that adapts.

Additive increase, multiplicative decrease, with one more question: did the last increase pay? Slots grow only
while answers a second grow with them, so that an endpoint which merely queues, or gets slower, is not driven
further. At most one decrease a round trip: what was sent before the last one tells nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

FIRST_SLOTS = 32
MOST_SLOTS = 2_000
"""Where `auto` ends; a number may be larger."""

LEAST_ANSWERS = 8
BUSY_SHARE = 0.7
"""Of the slots in use, on average: below, something else is the limit, and more would change nothing."""
PAYS = 0.4
"""Of the gain in answers a second that so many more slots would bring at best."""
FIRST_STEP, LAST_STEP = 1.0, 1 / 16
"""More slots at once, as a share of those there are: doubled until that no longer pays, then ever finer."""
MOST_PATIENCE = 32
"""Epochs between two trials of one step more, once they keep failing."""
TROUBLE_SHARE = 0.1
"""Of an epoch's attempts: time-outs and overload below it are the endpoint's own, not ours."""
FALL = 0.8
NUDGE = 0.05
"""What a 429 among many accepted ones takes away: it came at the edge."""


class Slots(Protocol):
    """What the gate asks and tells. Times are seconds on the gate's clock."""

    limit: int

    def answered(self, sent_s: float, now_s: float) -> None:
        """An attempt was answered."""

    def troubled(self, sent_s: float, now_s: float) -> None:
        """An attempt timed out, or met overload."""

    def refused(self, sent_s: float, now_s: float, *, in_use: int, is_seldom: bool) -> None:
        """An attempt was answered with 429, while ``in_use`` others were under way."""

    def as_before(self, since_s: float, now_s: float) -> None:
        """What happened since then was an outage, and told nothing about slots."""


class FixedSlots:
    """A number that a person gave."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def answered(self, sent_s: float, now_s: float) -> None: ...

    def troubled(self, sent_s: float, now_s: float) -> None: ...

    def refused(self, sent_s: float, now_s: float, *, in_use: int, is_seldom: bool) -> None: ...

    def as_before(self, since_s: float, now_s: float) -> None: ...


@dataclass(slots=True)
class _Epoch:
    """A round trip at one level: only attempts sent since it began are counted."""

    began_s: float
    answers: int = 0
    troubles: int = 0
    waited_s: float = 0.0  # latencies of its answers, added up


class AdaptiveSlots:
    """Finds the level. It starts at ``first`` and doubles until that does not pay; a remembered level
    is near the end of the search, so it starts with small steps."""

    def __init__(self, first: int | None = None, most: int = MOST_SLOTS) -> None:
        self.most = most
        self.limit = min(first or FIRST_SLOTS, most)
        self._step = FIRST_STEP if first is None else LAST_STEP
        self._has_failed = first is not None
        self._patience = 1
        self._rests = 0  # epochs until the next trial
        self._epoch = _Epoch(0.0)
        self._speed: float | None = None  # answers a second at the level before the trial
        self._before: int | None = None  # that level, while a trial goes on
        self._fell_s = 0.0
        self._fell_from = self.limit

    @property
    def level(self) -> int:
        """What has proved itself: worth remembering."""
        return self.limit if self._before is None else self._before

    def answered(self, sent_s: float, now_s: float) -> None:
        epoch = self._epoch
        if sent_s >= epoch.began_s:
            epoch.answers += 1
            epoch.waited_s += now_s - sent_s
            if epoch.answers + epoch.troubles >= self.limit and epoch.answers >= LEAST_ANSWERS:
                self._judge(epoch, now_s)

    def troubled(self, sent_s: float, now_s: float) -> None:
        epoch = self._epoch
        if sent_s >= epoch.began_s:
            epoch.troubles += 1
            if epoch.answers + epoch.troubles >= max(self.limit, LEAST_ANSWERS):
                self._judge(epoch, now_s)

    def refused(self, sent_s: float, now_s: float, *, in_use: int, is_seldom: bool) -> None:
        if sent_s < self._fell_s:
            return
        base = self.level if self._before is not None else min(self.limit, in_use + 1)
        self._fall(base - max(1, int(base * NUDGE)) if is_seldom else int(base * FALL), now_s)

    def as_before(self, since_s: float, now_s: float) -> None:
        if self._fell_s >= since_s:
            self.limit = max(self.limit, self._fell_from)
        self._begin(now_s)

    def _judge(self, epoch: _Epoch, now_s: float) -> None:
        """The end of an epoch."""
        if epoch.troubles > TROUBLE_SHARE * (epoch.answers + epoch.troubles):
            self._fall(int(self.limit * FALL), now_s)
            return
        lasted_s = max(now_s - epoch.began_s, 1e-9)
        speed = self.limit * epoch.answers / max(epoch.waited_s, 1e-9)  # by Little's law
        is_busy = epoch.waited_s >= BUSY_SHARE * self.limit * lasted_s
        if self._before is not None:
            self._end_trial(speed)
        else:
            self._rests -= 1
        if is_busy and self._before is None and self._rests <= 0 and self.limit < self.most:
            self._before, self._speed = self.limit, speed
            self.limit = min(self.most, self.limit + max(1, int(self.limit * self._step)))
        self._begin(now_s)

    def _end_trial(self, speed: float) -> None:
        assert self._before is not None
        assert self._speed is not None
        gained, hoped = speed / self._speed - 1.0, self.limit / self._before - 1.0
        if gained >= PAYS * hoped:
            self._before = None
            self._patience = 1
            self._rests = 0
            if self._has_failed:
                self._step = max(self._step / 2, LAST_STEP)
            return
        self.limit, self._before = self._before, None
        self._rest()

    def _rest(self) -> None:
        """A step too far: smaller ones from now on, and the smallest ever more seldom."""
        if self._step > LAST_STEP:
            self._step = max(self._step / 2, LAST_STEP)
            self._rests = 1
        else:
            self._patience = min(self._patience * 2, MOST_PATIENCE)
            self._rests = self._patience
        self._has_failed = True

    def _fall(self, limit: int, now_s: float) -> None:
        self._fell_from, self._fell_s = self.level, now_s
        self.limit, self._before = max(1, min(limit, self.limit)), None
        self._step = LAST_STEP
        self._rest()
        self._begin(now_s)

    def _begin(self, now_s: float) -> None:
        self._epoch = _Epoch(now_s)
