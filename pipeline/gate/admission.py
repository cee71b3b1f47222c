"""The gate of one endpoint: what admits attempts. Slots, requests and tokens a minute, holds, outages, halts.

Waiters are served first come, first served: whoever is first waits for everything it needs, and nobody
overtakes. A slot is taken per attempt: an item asleep in backoff must not keep a healthy one waiting. The
gate decides *when* an attempt may go, never whether one is worth repeating (that is ``retry``) nor when an
endpoint has shown itself useless (that is ``halting``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf

import anyio

from pipeline.errors import (
    AttemptError,
    AttemptTimedOut,
    BrokenReply,
    ConnectFailed,
    ConnectionLost,
    CreditReserved,
    EndpointDown,
    MediabatchError,
    NeedsTooMuch,
    Overloaded,
    Throttled,
)
from pipeline.gate.breaker import Breaker
from pipeline.gate.leased import Leased
from pipeline.gate.limited import Limit, Limited
from pipeline.gate.needs import TokenNeeds
from pipeline.gate.rates import Allowance, Pace, PerMinute, Refusals
from pipeline.gate.slots import Slots
from pipeline.gate.told import told_limits
from pipeline.records import Item

Clock = Callable[[], float]
"""Seconds, monotonic, on the clock that anyio sleeps by."""

NOBODY_ANSWERED = (Overloaded, ConnectionLost, AttemptTimedOut, BrokenReply, ConnectFailed)
"""Errors that a whole outage consists of."""

RAMP_S = 2.0
"""After a hold or an outage the slots open again over so many seconds, or as long as the hold was."""
RAMP_FROM = 0.125
START_S = 1.0
FIRST_ROUND_TRIP_S = 1.0
"""Until one is known; and the longest hold after a 429 that names no time."""
IN_QUESTION = 0.9
"""Of the slots in use when a 429 comes: below, it was the pace that let too much through."""
LEAST_WAIT_S = 1e-4
"""A wait of less than the clock can tell would be waited for again and again."""
DEFAULT_MAX_OUTAGE_S = 3_600.0


class GateClosed(Exception):
    """The attempt may not go any more: the run stops, or this endpoint halted for the model."""

    def __init__(self, reason: MediabatchError | None) -> None:
        super().__init__(str(reason) if reason else "the run is stopping")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What a person says of an endpoint's limits. ``slots`` None adapts, beginning at ``level`` where an
    earlier run found one."""

    slots: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    max_outage_s: float = DEFAULT_MAX_OUTAGE_S
    level: int | None = None


@dataclass(slots=True)
class Entry:
    """One attempt, from its admission to its end. Seconds are on the gate's clock."""

    item: Item
    number: int  # of the gate's admissions
    sent_s: float
    tokens: float  # set aside
    is_first: bool  # of its item's attempts
    is_probe: bool


@dataclass(slots=True, eq=False)
class _Waiter:
    tokens: float
    turn: anyio.Event = field(default_factory=anyio.Event)


class Gate:
    """Of one endpoint, known as ``host`` in sentences."""

    def __init__(
        self,
        limits: Limits,
        *,
        host: str = "the endpoint",
        clock: Clock = time.monotonic,
        unix_clock: Clock = time.time,
        is_leased: bool = False,
    ) -> None:
        self.limits = limits
        self.slots = Slots(limits.slots, first=limits.level)
        self.in_use = 0
        self.limited = Limited()
        self.throttled = 0  # 429s
        self.on_room: Callable[[], None] = _nobody_asks
        self._host = host
        self._clock = clock
        self._unix_clock = unix_clock
        self._queue: deque[_Waiter] = deque()
        self._halted: dict[str, MediabatchError] = {}
        self._down: MediabatchError | None = None
        self._is_closed = False
        self._needs = TokenNeeds()
        meter = Leased if is_leased else PerMinute
        self._requests: Leased | PerMinute | None = meter(limits.rpm) if limits.rpm else None
        self._tokens: Leased | PerMinute | None = meter(limits.tpm) if limits.tpm else None
        self._left = {"requests": Allowance(), "tokens": Allowance()}
        self._left_known = False
        self._refusals = Refusals()
        self._pace = Pace()
        self._breaker = Breaker()
        self._failing_since_s: float | None = None
        # Adaptive slots open one after the other from the start: what a limit makes of the first few is known
        # before the rest go.
        self._held_until_s = clock()
        self._ramp_s = 0.0 if limits.slots is not None else START_S
        self._round_trip_s: float | None = None
        self._admitted = 0
        self._told_number = 0  # of the newest attempt whose headers were read

    # What others ask

    @property
    def halted(self) -> dict[str, MediabatchError]:
        """Models this endpoint no longer answers, with the reason."""
        return self._halted

    @property
    def down(self) -> MediabatchError | None:
        """Why this endpoint is asked for nothing any more."""
        return self._down

    @property
    def is_out(self) -> bool:
        """Whether nobody answers there at the moment."""
        return self._breaker.is_open

    @property
    def level(self) -> int | None:
        """The number of slots that proved itself, where they adapt."""
        return self.slots.proved

    @property
    def leased(self) -> tuple[Leased | None, Leased | None]:
        """Its limits of requests and tokens, where several processes share them."""
        requests, tokens = self._requests, self._tokens
        return (
            requests if isinstance(requests, Leased) else None,
            tokens if isinstance(tokens, Leased) else None,
        )

    @property
    def waiting_tokens(self) -> list[float]:
        """What those who wait will need, in their order."""
        return [waiter.tokens for waiter in self._queue]

    @property
    def probes(self) -> bool:
        """Whether it found that nobody answers, and looks when somebody does."""
        return self._breaker.is_open and not self._breaker.is_probed_elsewhere

    def out_s(self) -> float:
        """Seconds in which nobody answered, so far."""
        return self._breaker.total_s(self._clock())

    def held_for_s(self) -> float:
        """For how long it still admits nobody."""
        return max(0.0, self._held_until_s - self._clock())

    def limited_s(self) -> dict[Limit, float]:
        """Seconds in which each limit was what kept the next attempt from going, so far."""
        return self.limited.until(self._clock())

    def serves(self, model: str) -> bool:
        return not self._is_closed and self._down is None and model not in self._halted

    def has_room(self, item: Item) -> bool:
        """Whether an attempt would be admitted at once."""
        return not self._queue and self._delay_s(self._need(item)) <= 0.0

    # An attempt's way

    async def enter(self, item: Item, *, is_first: bool = True) -> Entry:
        """Wait until an attempt may go, and count it as under way until it `leave`s. ``is_first``: its item
        was not tried before.

        Raises:
            GateClosed: nothing goes any more for this model.
            NeedsTooMuch: it never could.
        """
        model = item.request.model
        self.check(model)
        tokens = self._need(item)
        if self._tokens is not None and tokens > self._tokens.limit:
            if is_first:
                raise NeedsTooMuch(item.row, tokens, self._tokens.limit)
            tokens = self._tokens.limit  # it was let through when less was known
        if not self._queue and self._delay_s(tokens) <= 0.0:
            return self._admit(item, tokens, is_first)
        me = _Waiter(tokens)
        self._queue.append(me)
        try:
            while True:
                self.check(model)
                if self._queue[0] is not me:
                    await me.turn.wait()
                else:
                    delay_s = self._delay_s(tokens)
                    if delay_s <= 0.0:
                        return self._admit(item, tokens, is_first)
                    self._tell_what_limits(tokens)
                    with anyio.move_on_after(max(delay_s, LEAST_WAIT_S)):
                        await me.turn.wait()
                me.turn = anyio.Event()
        finally:
            if self._queue[0] is me:
                self._queue.popleft()
                self._rouse()
                if not self._queue:
                    self.limited.by("slots" if self.in_use >= self.slots.limit else None, self._clock())
            else:
                self._queue.remove(me)

    def leave(
        self,
        entry: Entry,
        error: AttemptError | None,
        tokens: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """An attempt has ended. ``tokens``: in and out, where the reply tells."""
        now_s = self._clock()
        slots = self.slots.limit
        self.in_use -= 1
        if self.limited.now == "slots":
            self.limited.by(None, now_s)
        self._settle(entry, error, tokens)
        if headers:
            self._read(entry, headers, now_s)
        if isinstance(error, NOBODY_ANSWERED):
            self._unanswered(entry, error, now_s)
        else:
            self._answered(entry, error, now_s)
        self._rouse()
        if self.slots.limit > slots:
            self.on_room()

    def abandon(self, entry: Entry) -> None:
        """It never went, or nobody waits for its answer any more."""
        self.in_use -= 1
        if self.limited.now == "slots":
            self.limited.by(None, self._clock())
        if entry.is_probe:
            self._breaker.given_up()
        self._rouse()

    # What closes and opens

    def hold(self, seconds: float) -> None:
        """Admit nobody for so long; a hold only ever moves forward."""
        now_s = self._clock()
        until_s = now_s + seconds
        if until_s > self._held_until_s:
            self._held_until_s = until_s
            self._ramp_s = min(RAMP_S, seconds)

    def halt(self, model: str, reason: MediabatchError) -> None:
        """Admit nothing more for this model; what is in flight is waited for elsewhere."""
        self._halted.setdefault(model, reason)
        self._rouse_all()

    def go_down(self, reason: MediabatchError) -> None:
        """Ask this endpoint for nothing any more."""
        self._down = self._down or reason
        self._rouse_all()

    def close(self) -> None:
        """Admit nothing more at all."""
        self._is_closed = True
        self._rouse_all()

    # Where several processes ask one endpoint

    def allow(self, slots: int) -> None:
        """At most so many at once from now on."""
        grows = slots > self.slots.limit
        self.slots.allow(slots)
        if grows:
            self._rouse()
            self.on_room()

    def probed_elsewhere(self, is_out: bool) -> None:
        """Whether another process probes the endpoint in an outage, so that this one waits for its end."""
        now_s = self._clock()
        if is_out:
            self._breaker.opened_elsewhere(now_s)
        elif not is_out and self._breaker.is_open and self._breaker.is_probed_elsewhere:
            self._over(now_s)
            self._rouse()

    def granted(self) -> None:
        """There may be more to take of what is leased."""
        self._rouse()

    def check(self, model: str) -> None:
        """Raise GateClosed where nothing may go for this model."""
        if not self.serves(model):
            raise GateClosed(self._halted.get(model) or self._down)

    # The inside

    def _need(self, item: Item) -> float:
        return 0.0 if self._tokens is None and not self._left_known else self._needs.of(item.request)

    def _delay_s(self, tokens: float) -> float:
        """Seconds until an attempt of so many tokens may go; infinite where only an event can tell."""
        if self.in_use >= self.slots.limit:
            return inf
        now_s = self._clock()
        delay_s = max(self._held_until_s - now_s, self._breaker.delay_s(now_s), self._pace.delay_s(now_s))
        if self._ramp_s and delay_s <= 0.0 and self.in_use >= self._open_slots(now_s):
            return RAMP_S / 20  # while slots open again, time alone makes room
        if self._requests is not None:
            delay_s = max(delay_s, self._requests.delay_s(1.0, now_s))
        if self._tokens is not None:
            delay_s = max(delay_s, self._tokens.delay_s(tokens, now_s))
        if self._left_known:
            delay_s = max(
                delay_s,
                self._left["requests"].delay_s(1.0, now_s),
                self._left["tokens"].delay_s(tokens, now_s),
            )
        return delay_s

    def _tell_what_limits(self, tokens: float) -> None:
        """Somebody waits, and this is what for. Only asked once it is clear that somebody does."""
        now_s = self._clock()
        waits: dict[Limit, float] = {
            "outage": self._breaker.delay_s(now_s),
            "hold": self._held_until_s - now_s,
            "rpm": max(self._pace.delay_s(now_s), self._left["requests"].delay_s(1.0, now_s)),
            "tpm": self._left["tokens"].delay_s(tokens, now_s),
        }
        if self._requests is not None:
            waits["rpm"] = max(waits["rpm"], self._requests.delay_s(1.0, now_s))
        if self._tokens is not None:
            waits["tpm"] = max(waits["tpm"], self._tokens.delay_s(tokens, now_s))
        longest = max(waits, key=lambda limit: waits[limit])
        # Else all slots are in use, or they are still opening.
        self.limited.by(longest if waits[longest] > 0.0 else "slots", now_s)

    def _open_slots(self, now_s: float) -> float:
        limit = self.slots.limit
        share = RAMP_FROM + (1.0 - RAMP_FROM) * (now_s - self._held_until_s) / self._ramp_s
        if share >= 1.0:
            self._ramp_s = 0.0
            return limit
        return max(1.0, share * limit)

    def _admit(self, item: Item, tokens: float, is_first: bool) -> Entry:
        now_s = self._clock()
        self.in_use += 1
        if self.in_use >= self.slots.limit:
            self.limited.by("slots", now_s)
        self._admitted += 1
        self._pace.take(now_s)
        if self._requests is not None:
            self._requests.take(1.0, now_s)
        if self._tokens is not None:
            self._tokens.take(tokens, now_s)
        if self._left_known:
            self._left["requests"].take(1.0, now_s)
            self._left["tokens"].take(tokens, now_s)
        return Entry(item, self._admitted, now_s, tokens, is_first, self._breaker.admitted())

    def _settle(self, entry: Entry, error: AttemptError | None, tokens: int | None) -> None:
        """Tokens set aside become what was used; of an attempt of unknown fate they stay set aside."""
        if tokens is not None:
            self._needs.learn(entry.item.request, tokens)
        if self._tokens is not None:
            if tokens is not None:
                self._tokens.settle(entry.tokens, tokens, entry.sent_s)
            elif error is not None and error.state == "not_billed":
                self._tokens.settle(entry.tokens, 0.0, entry.sent_s)

    def _read(self, entry: Entry, headers: Mapping[str, str], now_s: float) -> None:
        """Limits in the headers; those of attempts older than one already read are stale."""
        if entry.number < self._told_number:
            return
        for told in told_limits(headers, self._unix_clock):
            self._told_number = entry.number
            self._left_known = True
            later = self._admitted - entry.number
            per_attempt = 1.0 if told.unit == "requests" else self._needs.of(entry.item.request)
            self._left[told.unit].told(
                told.limit, max(0.0, told.remaining - later * per_attempt), told.reset_s, now_s
            )

    def _answered(self, entry: Entry, error: AttemptError | None, now_s: float) -> None:
        """Somebody is there, whatever the answer says."""
        self._failing_since_s = None
        was_out = self._breaker.is_open
        self._breaker.answered(now_s, is_probe=entry.is_probe)
        if was_out and not self._breaker.is_open:
            self._open_again(now_s)
        if isinstance(error, CreditReserved):
            verdict = self._refusals.refused(entry.sent_s, now_s)
            if verdict is not None:  # what did not fit beside others under way may fit beside fewer
                self.slots.refused(now_s, "overrun", in_use=self.in_use)
            return
        if isinstance(error, Throttled):
            self._refused(entry, error, now_s)
            return
        self._pace.accepted(now_s)
        self._refusals.accepted()
        if error is not None:
            return  # a refusal says nothing of how long an answer takes
        trip_s = now_s - entry.sent_s
        known_s = self._round_trip_s
        self._round_trip_s = trip_s if known_s is None else known_s + (trip_s - known_s) / 16
        self.slots.answered(entry.sent_s, now_s, in_use=self.in_use)

    def _over(self, now_s: float) -> None:
        """The outage is."""
        self._failing_since_s = None
        self._breaker.answered(now_s, is_probe=True)
        self._open_again(now_s)

    def _open_again(self, now_s: float) -> None:
        self._held_until_s, self._ramp_s = max(now_s, self._held_until_s), RAMP_S
        self.slots.as_before(now_s, now_s)

    def _refused(self, entry: Entry, error: Throttled, now_s: float) -> None:
        """A 429. One that names a time holds everyone until then; one that names none cuts the slots and
        holds for about a round trip, unless it came at the very edge of a limit."""
        self.throttled += 1
        verdict = self._refusals.refused(entry.sent_s, now_s)
        named_s = error.retry_after_s
        if named_s is not None:
            self.hold(named_s)
        if verdict is None:
            return
        if self._pace.per_s is None or self.in_use + 1 >= IN_QUESTION * self.slots.limit:
            self.slots.refused(now_s, verdict, in_use=self.in_use)
        trip_s = self._round_trip_s or FIRST_ROUND_TRIP_S
        if named_s is not None:
            self._pace.refused(named_s, trip_s, now_s)
        elif verdict != "edge":
            hold_s = min(trip_s, FIRST_ROUND_TRIP_S)
            self.hold(hold_s)
            self._pace.refused(hold_s, trip_s, now_s)

    def _unanswered(self, entry: Entry, error: AttemptError, now_s: float) -> None:
        if isinstance(error, ConnectFailed) and not (self._breaker.has_answered or self._breaker.is_open):
            return  # an address that never answered is judged by the rules of halting
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        was_out = self._breaker.is_open
        self._breaker.failed(now_s, is_probe=entry.is_probe, is_first=entry.is_first, slots=self.slots.limit)
        if not was_out and not self._breaker.is_open:
            self.slots.troubled(entry.sent_s, now_s)
        elif not was_out:
            self.slots.as_before(self._failing_since_s, now_s)
        if self._breaker.open_for_s(now_s) >= self.limits.max_outage_s and self._down is None:
            self._down = EndpointDown(self._host, self._breaker.open_for_s(now_s), error)
            self._rouse_all()

    def _rouse(self) -> None:
        """Wake whoever is first, if it has anything to do: go, or wait for a time."""
        if self._queue and self._delay_s(self._queue[0].tokens) < inf:
            self._queue[0].turn.set()

    def _rouse_all(self) -> None:
        for waiter in self._queue:
            waiter.turn.set()


def _nobody_asks() -> None:
    """Called when there may be room, until a run asks to know."""
