"""What must be global when several processes ask for one run: requests and tokens a minute, slots, holds,
outages, and money. Handed out as short leases: it is asked a few times a second by each, not per item.

A lease is counted when it is granted, and may be used for `LEASE_S` after it was asked for: the minute that
nothing may exceed is longer here by that, and by `LATE_S` for what was admitted and takes a while to go. What
a lease leaves goes back to when it was counted. Of a worker that was lost, what it held counts as used.

Rules only: told the time, and never waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.budget import Cap, Known, Shape
from pipeline.engines.messages import (
    LEASE_S,
    RENEW_S,
    Asks,
    Grant,
    Granted,
    Lease,
    MoneyAsks,
    MoneyGrant,
)
from pipeline.gate import Clock, Limits
from pipeline.gate.leased import Returned
from pipeline.gate.rates import WINDOW_S, PerMinute

LATE_S = 0.25
FAIR = 2.0
"""One worker may take so many times its share of what comes in between two askings: others ask less."""


class Coordinator:
    """Of one run. ``limits``: of its endpoints, in their order; workers are known by a number."""

    def __init__(self, limits: Sequence[Limits], purse: Purse | None, clock: Clock) -> None:
        self.purse = purse
        self._shares = [_Share(one) for one in limits]
        self._clock = clock
        self._workers: set[int] = set()

    def join(self, worker: int, workers: int) -> list[int | None]:
        """One of so many. Returns the slots it begins with at each endpoint, where a number is given."""
        self._workers.add(worker)
        return [share.join(worker, workers) for share in self._shares]

    def leave(self, worker: int, *, is_lost: bool) -> None:
        self._workers.discard(worker)
        for share in self._shares:
            share.slots.pop(worker, None)
            share.wants.pop(worker, None)
            if share.prober == worker:
                share.prober = None
        if self.purse is not None:
            self.purse.leave(worker, is_lost=is_lost)

    def renew(self, worker: int, lease: Lease) -> Granted:
        now_s = self._clock()
        grants = [
            share.renew(worker, asks, len(self._workers), now_s)
            for share, asks in zip(self._shares, lease.asks, strict=True)
        ]
        money = None
        if self.purse is not None and lease.money is not None:
            money = self.purse.renew(worker, lease.money, len(self._workers))
        return Granted(grants, money)


@dataclass(slots=True)
class _Share:
    """Of one endpoint. ``slots``: what each worker has of the number; ``wants``: what it could use."""

    limits: Limits
    slots: dict[int, int] = field(default_factory=dict)
    wants: dict[int, int] = field(default_factory=dict)
    prober: int | None = None
    held_until_s: float = 0.0
    requests: PerMinute | None = None
    tokens: PerMinute | None = None

    def __post_init__(self) -> None:
        window_s = WINDOW_S + LEASE_S + LATE_S
        if self.limits.rpm:
            self.requests = PerMinute(self.limits.rpm, window_s)
        if self.limits.tpm:
            self.tokens = PerMinute(self.limits.tpm, window_s)

    def join(self, worker: int, workers: int) -> int | None:
        number = self.limits.slots
        if number is None:
            return None
        fair = number // workers + (len(self.slots) < number % workers)
        self.slots[worker] = max(0, min(fair, number - sum(self.slots.values())))
        return self.slots[worker]

    def renew(self, worker: int, asks: Asks, workers: int, now_s: float) -> Grant:
        self.held_until_s = max(self.held_until_s, now_s + asks.hold_s)
        if asks.is_out and self.prober is None:
            self.prober = worker
        elif self.prober == worker and not asks.is_out:
            self.prober = None
        hold_s = self.held_until_s - now_s
        return Grant(
            self._slots(worker, asks),
            _leased(self.requests, asks.requests, 1.0, asks.requests_back, workers, now_s),
            _leased(self.tokens, asks.tokens, asks.least_tokens, asks.tokens_back, workers, now_s),
            now_s,
            hold_s if hold_s > 0.0 else 0.0,
            self.prober is not None and self.prober != worker,
        )

    def _slots(self, worker: int, asks: Asks) -> int | None:
        """Never more in all than the number, what is in use included; of those that nobody else wants, as
        many as it can use."""
        number = self.limits.slots
        if number is None:
            return None
        self.wants[worker] = max(1, asks.in_use + asks.waiting)
        fair = max(1, number // len(self.slots))
        for_others = sum(
            max(has, min(self.wants.get(other, fair), fair))
            for other, has in self.slots.items()
            if other != worker
        )
        self.slots[worker] = max(0, asks.in_use, number - for_others)
        return self.slots[worker]


def _leased(
    meter: PerMinute | None, wanted: float, least: float, back: Returned, workers: int, now_s: float
) -> float:
    """How much of what is wanted is granted: its share of what there is, and no less than goes at once."""
    if meter is None:
        return 0.0
    for at_s, amount in back.unused:
        meter.settle(amount, 0.0, at_s)
    for at_s, more in back.corrected:
        meter.settle(0.0, more, at_s)
    if wanted <= 0.0 or meter.delay_s(least, now_s) > 0.0:
        return 0.0
    share = FAIR * RENEW_S * meter.limit / WINDOW_S / workers
    granted = max(least, min(wanted, meter.room(now_s), share))
    if least == 1.0:
        granted = float(int(granted))
    meter.take(granted, now_s)
    return granted


class Purse:
    """A budget that several processes spend: what is handed out counts as spent until it is said what was."""

    def __init__(self, caps: Sequence[Cap], now: Callable[[], datetime]) -> None:
        self._caps = caps
        self._now = now
        self._handed_out: dict[int, int] = {}
        self._known: dict[Shape, Known] = {}
        self.is_spent = False  # not even what one needs is left, and nobody has any to give back

    def renew(self, worker: int, asks: MoneyAsks, workers: int) -> MoneyGrant:
        """What a worker may spend besides what it keeps."""
        for shape, news in asks.news.items():
            self._known.setdefault(shape, Known()).join(news)
        self._spend(asks.spent)
        self._handed_out[worker] = asks.keep
        out = sum(self._handed_out.values())
        now = self._now()
        room = min(cap.room(now) for cap in self._caps) - out
        amount, is_alone = 0, False
        if asks.want:
            if room >= asks.least:
                amount = max(asks.least, min(asks.want, room // max(1, workers)))
            elif not out and room >= asks.guess:
                amount, is_alone = room, True
            elif not out:
                self.is_spent = True
        self._handed_out[worker] += amount
        return MoneyGrant(amount, is_alone, dict(self._known))

    def leave(self, worker: int, *, is_lost: bool) -> None:
        """Of one that was lost, all that it had may have been spent."""
        had = self._handed_out.pop(worker, 0)
        if is_lost:
            self._spend(had)

    def _spend(self, amount: int) -> None:
        now = self._now()
        for cap in self._caps:
            cap.room(now)  # the day may have changed
            cap.spent += amount
