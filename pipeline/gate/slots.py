"""How many attempts may be under way at once: a number that was given, or one that is found out.

Additive increase, multiplicative decrease, with one more question: did the last increase pay? Slots grow only
while answers a second grow with them, so that an endpoint which merely queues, or gets slower, is not driven
further. At most one decrease a round trip: what was sent before the last one tells nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

FIRST_SLOTS = 32
MOST_SLOTS = 2_000
"""Where `auto` begins, and ends; a number may be larger."""

LEAST_ANSWERS, ENOUGH_ANSWERS = 8, 32
"""Of an epoch, at least: while slots double, and when small differences count."""
NEARLY_ALL, BUSY_SHARE = 0.8, 0.1
"""Of the slots, in use when so large a share of the answers came: else something else is the limit, and more
slots would change nothing. (Answers may come in waves, of which only the first find all slots in use.)"""
PAYS, COSTS = 0.4, 0.25
"""Of the gain in answers a second that so many more slots would bring at best, and of the loss that fewer
would bring at worst: more slots are kept where they gain more than that, fewer where they lose less."""
FIRST_STEP, AFTER_FALL, LAST_STEP = 1.0, 0.25, 1 / 16
"""What a trial adds, as a share of the slots there are: doubled until that does not pay, then ever finer."""
MOST_PATIENCE = 16
"""Epochs between two trials of the last step, when they keep failing."""
TROUBLE_SHARE = 0.1
"""Of an epoch's attempts: time-outs and overload below it are the endpoint's own, not ours."""
FALL = 0.8
NUDGE = 0.05
"""What a 429 at the edge of a limit takes away."""


Verdict = Literal["overrun", "edge", "worse"]
"""What a 429 says: a limit was overrun, or met at its edge, or (after that) overrun all the same."""


@dataclass(slots=True)
class _Epoch:
    """A round trip at one level: only attempts sent since it began are counted."""

    began_s: float
    answers: int = 0
    troubles: int = 0
    waited_s: float = 0.0  # latencies of its answers, added up
    in_use: int = 0  # slots in use when they came, added up
    busy: int = 0  # answers that came when nearly all were


class Slots:
    """``number`` None finds the level by trials: an epoch with more slots, or with fewer, against one
    without. It starts at ``first`` and doubles until that does not pay; a remembered level is near the end of
    the search. A number is where it starts and the most there are: only 429s take slots away, and trials give
    them back.

    Times are seconds on the gate's clock.
    """

    def __init__(self, number: int | None = None, *, first: int | None = None) -> None:
        self.most = number or MOST_SLOTS
        self.limit = number or min(first or FIRST_SLOTS, self.most)
        self.adapts = number is None
        self._is_proved = first is not None
        self._step = FIRST_STEP if number is None and first is None else LAST_STEP
        self._is_up = True
        self._failures = self._successes = 0  # of trials, one after another
        self._patience = 1
        self._rests = 0  # epochs until the next trial
        self._epoch = _Epoch(0.0)
        self._ceiling: float = inf  # where the last 429 came
        self._target = self.limit
        self._before: int | None = None  # the level to go back to, while a trial goes on
        self._used, self._speed = 1.0, 0.0  # slots in use there, and answers a second
        self._fell_s = 0.0
        self._fell_from = self.limit

    @property
    def level(self) -> int:
        """What was there before the trial that goes on."""
        return self.limit if self._before is None else self._before

    @property
    def proved(self) -> int | None:
        """The level that showed itself to be right, here or in an earlier run; None before a trial ended."""
        return self.level if self.adapts and self._is_proved else None

    def allow(self, most: int) -> None:
        """Another number, where one is given: a share of what several processes have."""
        was_most, self.most = self.limit >= self.most, most
        if was_most or self.limit > most:
            self._set(most)

    def answered(self, sent_s: float, now_s: float, *, in_use: int) -> None:
        """An attempt was answered, while ``in_use`` others were under way."""
        if self.limit < self._target:
            self.limit += 1  # answer by answer: a 429 that comes meanwhile stops it
        epoch = self._epoch
        if sent_s >= epoch.began_s:
            epoch.answers += 1
            epoch.waited_s += now_s - sent_s
            epoch.in_use += in_use + 1
            epoch.busy += in_use + 1 >= NEARLY_ALL * self.limit
            if epoch.answers >= max(self.limit, LEAST_ANSWERS if self._step >= 1.0 else ENOUGH_ANSWERS):
                self._judge(epoch, now_s)

    def troubled(self, sent_s: float, now_s: float) -> None:
        """An attempt timed out, or met overload."""
        epoch = self._epoch
        if self.adapts and sent_s >= epoch.began_s:
            epoch.troubles += 1
            attempts = epoch.answers + epoch.troubles
            if attempts >= max(self.limit, LEAST_ANSWERS) and epoch.troubles > TROUBLE_SHARE * attempts:
                self._fall(int(self.limit * FALL), now_s)

    def refused(self, now_s: float, verdict: Verdict, *, in_use: int) -> None:
        """A limit was met while so many other attempts were under way."""
        used = min(self.limit, in_use + 1)
        if verdict == "worse" and self._ceiling < inf:
            self._fall(int(self._ceiling * FALL), now_s)
            return
        self._ceiling = used
        if self._before is not None and self._is_up and self._before < used:
            self._fall(self._before, now_s)  # the trial met it
        elif verdict == "edge":
            self._fall(used - max(1, int(used * NUDGE)), now_s)
        else:
            # Slots that are only opening do not tell how many there could be.
            self._fall(max(int(used * FALL), self.limit // 2), now_s)
        if verdict == "edge":
            self._step = LAST_STEP
            self._rest()

    def as_before(self, since_s: float, now_s: float) -> None:
        """What happened since then was an outage, and told nothing about slots."""
        if self._fell_s >= since_s:
            self._set(max(self.limit, self._fell_from))
        self._begin(now_s)

    def _judge(self, epoch: _Epoch, now_s: float) -> None:
        """The end of an epoch."""
        is_busy = epoch.busy >= BUSY_SHARE * epoch.answers
        used = epoch.in_use / epoch.answers
        speed = epoch.in_use / max(epoch.waited_s, 1e-9)  # by Little's law
        if not is_busy:
            self._set(self.level)
        elif self._before is not None:
            self._end_trial(self._before, used, speed)
        else:
            self._used, self._speed = used, speed
            self._rests -= 1
        if is_busy and self._rests <= 0:
            self._begin_trial()
        self._begin(now_s)

    def _begin_trial(self) -> None:
        if self._is_up:
            # Towards a level that was too high it goes by halves.
            step = min(self.limit * self._step, (self._ceiling - self.limit) / 2)
            level = min(self.most, self.limit + max(1, int(step)))
        else:
            level = max(1, self.limit - max(1, int(self.limit * self._step / (1.0 + self._step))))
        if level == self.limit:
            self._turn()
            return
        self._before, self._target = self.limit, level
        self.limit = min(self.limit, level)

    def _end_trial(self, before: int, used: float, speed: float) -> None:
        """Stay at the new level, and go on from there; or go back, and try the other way."""
        self._is_proved = True
        change = used / self._used - 1.0
        if speed / self._speed - 1.0 >= change * (PAYS if self._is_up else COSTS):
            self._set(self._target)
            self._used, self._speed = used, speed
            self._failures, self._patience = 0, 1
            self._successes += 1
            if self._successes >= 2:
                self._step = min(self._step * 2, max(self._step, AFTER_FALL))
            if self.limit >= self._ceiling:
                self._ceiling = inf
            return
        self._set(before)
        self._turn()
        self._failures += 1
        self._successes = 0
        if self._step > LAST_STEP:
            self._step = max(self._step / 2, LAST_STEP)
        elif self._failures >= 2:  # both ways
            self._rest()

    def _fall(self, limit: int, now_s: float) -> None:
        self._fell_from, self._fell_s = self.level, now_s
        self._is_proved = True
        self._successes = 0
        self._set(max(1, min(limit, self.limit)))
        self._step = AFTER_FALL
        self._is_up = True
        self._rests = 2
        self._begin(now_s)

    def _turn(self) -> None:
        self._is_up = not (self._is_up and self.adapts)

    def _rest(self) -> None:
        self._patience = min(self._patience * 2, MOST_PATIENCE)
        self._rests = self._patience

    def _set(self, limit: int) -> None:
        self.limit = self._target = limit
        self._before = None

    def _begin(self, now_s: float) -> None:
        self._epoch = _Epoch(now_s)
