"""The endpoints of a run, in order of preference: which one an attempt goes to, and when it may.

An attempt goes to the first that serves its model and has room. Where none has, it waits at the first where
somebody answers, and looks around again now and then. One that halted for a model, or is down, is passed
over; the run has nowhere to go for a model when all are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from pipeline.budget import Budget
from pipeline.dialects import Dialect
from pipeline.errors import AttemptError, MediabatchError, NeedsTooMuch, RowError
from pipeline.gate import LIMITS, Clock, Entry, Gate, GateClosed, LimitsMet
from pipeline.halting import HaltRules
from pipeline.media.delivery import Delivery
from pipeline.pricing import PriceBook
from pipeline.records import Item, SchemaIn
from pipeline.retry import Policies, RetryRules, refetching, retrying
from pipeline.transport import Transport

LOOKS_AROUND_S = 1.0
"""So often attempts that wait at one endpoint look whether another has room by now."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Endpoint:
    """Where requests go, with everything one attempt needs. ``name`` stands in the store; no ``models`` means
    all. ``schema_in``: model → how it is asked for a schema, as the first answer that told has shown."""

    name: str
    dialect: Dialect
    transport: Transport
    gate: Gate
    prices: PriceBook
    models: frozenset[str] = frozenset()
    rules: HaltRules = field(default_factory=HaltRules)
    schema_in: dict[str, SchemaIn] = field(default_factory=dict)

    def serves(self, model: str) -> bool:
        return (not self.models or model in self.models) and self.gate.serves(model)


@dataclass(slots=True)
class LastError:
    """The newest error of a class, and how many of them this session has met. ``at_s``: on the clock that
    anyio sleeps by."""

    count: int
    at_s: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Vitals:
    """How a run is just now: what limits it, how much is under way, what went wrong last."""

    limits_met: LimitsMet
    slots: int
    in_use: int
    asleep: int
    held_for_s: float
    errors: Mapping[str, LastError]


@dataclass(slots=True, eq=False)
class _Waiter:
    """An attempt that waits at one of several endpoints. Its ``patience`` cancelled, it looks around."""

    item: Item
    last: Endpoint | None = None
    where: Endpoint | None = None
    patience: anyio.CancelScope | None = None
    too_large: NeedsTooMuch | None = None
    too_large_for: tuple[str, ...] = ()  # endpoints whose limit of tokens it could never pass

    def suits(self, endpoint: Endpoint) -> bool:
        return endpoint.serves(self.item.request.model) and endpoint.name not in self.too_large_for


class Endpoints:
    """Those of one run. ``fallbacks``: error class → the model that is asked instead."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        rules: RetryRules,
        *,
        fallbacks: Mapping[str, str] | None = None,
        budget: Budget | None = None,
        delivery: Delivery | None = None,
        clock: Clock = anyio.current_time,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self.retry: Policies = retrying(rules, self.sleep)
        self.refetch: Policies = refetching(rules, self.sleep)
        self.rules = rules
        self.is_work_over = False  # nothing is left but what is under way
        self.fallbacks = dict(fallbacks or {})
        self.budget = budget
        self.delivery = delivery or Delivery()
        self.clock = clock
        self.now = now
        self.asleep = 0
        self.errors: dict[str, LastError] = {}  # of attempts, retried ones too, by class
        self._on_room: Callable[[], None] = _nobody_asks
        self._waiting: dict[_Waiter, None] = {}  # in the order in which they came
        self._is_closed = False
        self._closing = anyio.Event()
        self._elsewhere: dict[anyio.CancelScope, str] = {}  # busy with something else: for which model

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints)

    @property
    def slots(self) -> int:
        """Attempts that may be under way at once, over all of them."""
        return sum(one.gate.slots.limit for one in self._endpoints if one.gate.down is None)

    def on_room(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` whenever there may be more slots than items that use them."""
        self._on_room = tell
        for one in self._endpoints:
            one.gate.on_room = tell

    def serve(self, model: str) -> bool:
        """Whether there is an endpoint left for the model."""
        return not self._is_closed and any(one.serves(model) for one in self._endpoints)

    def out_s(self) -> float:
        """Seconds in which nobody answered, so far."""
        return sum(one.gate.out_s() for one in self._endpoints)

    def limits_met(self) -> LimitsMet:
        """What has limited the run so far, added up over all of them."""
        seconds = dict.fromkeys(LIMITS, 0.0)
        for one in self._endpoints:
            for limit, for_s in one.gate.limited_s().items():
                seconds[limit] += for_s
        if self.budget is not None:
            seconds["budget"] = self.budget.limited.until(anyio.current_time()).get("budget", 0.0)
        return LimitsMet(seconds, sum(one.gate.throttled for one in self._endpoints))

    def vitals(self) -> Vitals:
        gates = [one.gate for one in self._endpoints]
        return Vitals(
            self.limits_met(),
            self.slots,
            sum(gate.in_use for gate in gates),
            self.asleep,
            max(gate.held_for_s() for gate in gates),
            self.errors,
        )

    async def enter(self, item: Item, last: Endpoint | None = None) -> tuple[Endpoint, Entry]:
        """Wait until an attempt may go, and say where to. ``last``: where its item was tried before; others
        are asked first.

        Raises:
            GateClosed: nothing goes any more for this model.
            RowError: it never could.
        """
        model = item.request.model
        if not any(not one.models or model in one.models for one in self._endpoints):
            raise RowError(item.row, f"no endpoint serves the model {model!r}", column="model")
        if len(self._endpoints) == 1:
            self.check(model)
            return self._endpoints[0], await self._enter_only(self._endpoints[0], item, last)
        me = _Waiter(item, last)
        self._waiting[me] = None
        try:
            while True:
                self.check(model)
                if me.too_large is not None and not any(me.suits(one) for one in self._endpoints):
                    raise me.too_large
                chosen, has_room = self._choose(me)
                me.where = chosen
                stands_aside = not has_room and (
                    self._is_of_no_use_elsewhere(model)
                    or (last is not None and chosen is not None and chosen.gate.is_out)
                )
                if stands_aside:
                    self.asleep += 1
                    self._on_room()
                try:
                    with anyio.CancelScope() as me.patience:
                        self._call()
                        if chosen is not None:
                            return chosen, await chosen.gate.enter(item, is_first=last is None)
                        await anyio.sleep_forever()
                except GateClosed:
                    continue  # it halted meanwhile
                except NeedsTooMuch as error:
                    assert chosen is not None
                    me.too_large = me.too_large or error
                    me.too_large_for += (chosen.name,)
                finally:
                    self.asleep -= stands_aside
        finally:
            del self._waiting[me]
            self._call()

    async def _enter_only(self, only: Endpoint, item: Item, last: Endpoint | None) -> Entry:
        # In an outage those that were tried stand aside: what was not tried is the better probe.
        stands_aside = last is not None and only.gate.is_out
        if stands_aside:
            self.asleep += 1
            self._on_room()
        try:
            return await only.gate.enter(item, is_first=last is None)
        finally:
            self.asleep -= stands_aside

    def leave(
        self,
        endpoint: Endpoint,
        entry: Entry,
        error: AttemptError | None,
        tokens: int | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        """An attempt has ended there."""
        if error is not None:
            known = self.errors.get(error.error_class)
            self.errors[error.error_class] = LastError(
                known.count + 1 if known else 1, self.clock(), str(error)
            )
        was_down = endpoint.gate.down is not None
        endpoint.gate.leave(entry, error, tokens, headers)
        if not was_down and endpoint.gate.down is not None:
            self._call_those_in_no_line()
            self._wake()
        if self._waiting:
            self._call()

    def _choose(self, me: _Waiter) -> tuple[Endpoint | None, bool]:
        """Where to wait, and whether it has room: only for whoever has waited longest. None: there is room,
        and somebody else is called to it first."""
        serving = sorted((one for one in self._endpoints if me.suits(one)), key=lambda one: one is me.last)
        is_second = False
        for one in serving:
            if one.gate.has_room(me.item):  # an outage's next probe is room too
                if self._first_for(one) is me:
                    return one, True
                is_second = True
        if is_second:
            return None, False
        return next((one for one in serving if not one.gate.is_out), serving[0]), False

    def _first_for(self, endpoint: Endpoint) -> _Waiter | None:
        return next((one for one in self._waiting if one.suits(endpoint)), None)

    def _call(self) -> None:
        """Whoever has waited longest for an endpoint that has room looks around. Nobody else does: it would
        lose its place in the line where it waits."""
        for one in self._endpoints:
            first = self._first_for(one)
            if first is None or first.patience is None or first.where is one:
                continue
            if one.gate.has_room(first.item):
                first.patience.cancel()

    async def call_waiters(self) -> None:
        """For as long as the run lasts: some room comes with time alone."""
        while len(self._endpoints) > 1:
            await anyio.sleep(LOOKS_AROUND_S)
            self._call()
            self._call_those_in_no_line()

    def _call_those_in_no_line(self) -> None:
        """They stood back for others, and no gate tells them what happens."""
        for one in self._waiting:
            if one.where is None and one.patience is not None:
                one.patience.cancel()

    def _is_of_no_use_elsewhere(self, model: str) -> bool:
        """Whether an endpoint that is left does not serve the model: while an item waits for another one,
        that one must not lie idle for want of workers."""
        return any(one.gate.down is None and not one.serves(model) for one in self._endpoints)

    async def sleep(self, model: str, seconds: float) -> None:
        """Back off without a slot. Raises GateClosed as soon as nothing goes any more for the model."""
        until_s = self.clock() + seconds
        self.asleep += 1
        self._on_room()
        try:
            self.check(model)
            while (wait_s := until_s - self.clock()) > 0:
                # Woken early because another model halted: that one's trouble does not shorten this wait.
                with anyio.move_on_after(wait_s):
                    await self._closing.wait()
                self.check(model)
        finally:
            self.asleep -= 1

    @contextmanager
    def elsewhere(self, model: str) -> Iterator[None]:
        """Something that needs no slot. Called off, with GateClosed, as soon as nothing goes any more for the
        model."""
        self.check(model)
        scope = anyio.CancelScope()
        self._elsewhere[scope] = model
        self.asleep += 1
        self._on_room()
        try:
            with scope:
                yield
        finally:
            self.asleep -= 1
            del self._elsewhere[scope]
        if scope.cancelled_caught:
            self.check(model)

    def halt(self, endpoint: Endpoint, model: str, reason: MediabatchError) -> None:
        """Admit nothing more for this model there."""
        endpoint.gate.halt(model, reason)
        self._call_those_in_no_line()
        self._wake()

    def _wake(self) -> None:
        """Sleepers look whether anything goes any more for their model; whoever is busy elsewhere is told."""
        self._closing.set()
        self._closing = anyio.Event()
        self._call_off()

    def _call_off(self) -> None:
        for scope, model in self._elsewhere.items():
            if not self.serve(model):
                scope.cancel()

    def close(self) -> None:
        """Admit nothing more at all."""
        self._is_closed = True
        if self.budget is not None:
            self.budget.close()
        for one in self._endpoints:
            one.gate.close()
        self._call_those_in_no_line()
        self._closing.set()
        self._call_off()

    def check(self, model: str) -> None:
        """Raise GateClosed, with the reason of the endpoint most preferred, where nothing may go for this
        model."""
        if self.serve(model):
            return
        reasons = [one.gate.halted.get(model) or one.gate.down for one in self._endpoints]
        raise GateClosed(None if self._is_closed else next((one for one in reasons if one), None))


def _nobody_asks() -> None:
    """Called when there may be room, until a run asks to know."""
