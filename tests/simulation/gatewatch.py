"""Promises about the gate of one endpoint, watched live: who is admitted, when, and who waits.

Bounds here are what a person may rely on, not the gate's own numbers: those may be tuned without a word to
this file. What counts as an answer is the endpoint's to say (`fates`), never the gate's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from pipeline.endpoints import Endpoint
from pipeline.errors import AttemptError
from pipeline.gate import Entry, GateClosed
from pipeline.plan import Plan
from pipeline.records import Item
from tests.simulation.broken import CROWDS, FAIR, LIMIT, OUTAGES, PLACES, Broken
from tests.simulation.endpoint import Asked, Wire
from tests.simulation.limits import WINDOW_S

if TYPE_CHECKING:
    from tests.simulation.watch import Watch

IDLE_S = 4.0
"""A slot may lie idle for so long, with work and nothing in its way."""
OPENING_S = 4.0
"""After a hold or an outage it may take so long until all slots are used again."""
LEARNED_S = 600.0
"""So long after a 429 the gate may go more slowly than its slots would."""
SELDOM_S, SELDOM_AFTER_429_S = 100.0, 300.0
"""Where a limit is known, or was met lately, one attempt goes at least so often."""
LONG_HOLD_S, MOMENTS_S = 2.0, 0.25
"""After a hold of this length, or an outage: in the first moments at most half of the slots are in use."""
MANY_ROWS = 25
"""Once so many rows in a row found nobody at their first try, it is an outage."""
PROBES_APART_S = 0.5
PROBED_AGAIN_S = 40.0
"""In an outage somebody looks at least so often whether it is over."""


class GateWatch:
    """Of one endpoint in one session. Seconds of the session."""

    def __init__(self, watch: Watch, endpoint: Endpoint, wire: Wire, plan: Plan) -> None:
        self.endpoint = endpoint
        self.gate = gate = endpoint.gate
        self.place = wire.place
        self.under_way = 0
        self.most_slots = gate.slots.limit
        self._watch = watch
        self._wire = wire
        self._max_outage_s = plan.max_outage_s
        self._timeout_s = plan.timeouts.total_s
        self._waiting: dict[int, Item] = {}  # by ticket, in the order in which they came
        self._tickets = 0
        self._numbers: dict[int, Entry] = {}
        now_s = trio.current_time()
        self._last_asked_s = now_s
        self._last_full_s = now_s  # when all slots were in use
        self._freed_s = now_s  # when something was in the way last
        self._refused_s = -LEARNED_S  # the newest 429
        self._hold_ends_s = self._crowded_until_s = -1.0
        self._opened_s = -1.0
        self._answered_any = False
        self._answered_s = now_s  # the newest answer that proves that somebody is there
        self._nobody: set[int] = set()  # rows, since the last answer
        self._out_since_s: float | None = None
        self._probes = 0
        self._unprobed_s = now_s  # when the last probe ended
        self._probed_s = -PROBES_APART_S
        self._is_idle = False
        self._is_alone = len(list(watch.run.endpoints)) == 1
        self._listen()

    def _listen(self) -> None:
        gate = self.gate
        self._sound = gate.enter, gate.leave, gate.abandon
        gate.enter, gate.leave, gate.abandon = self.enter, self.leave, self.abandon  # type: ignore[method-assign]

    # What the gate is asked, passed on

    async def enter(self, item: Item, *, is_first: bool = True) -> Entry:
        self._tickets = ticket = self._tickets + 1
        self._waiting[ticket] = item
        self._watch.waits(item)
        try:
            entry = await self._sound[0](item, is_first=is_first)
        except GateClosed:
            self._watch.waits_no_more(item)
            raise
        finally:
            del self._waiting[ticket]
        self._admitted(ticket, item, entry)
        return entry

    def leave(
        self,
        entry: Entry,
        error: AttemptError | None,
        tokens: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        gate = self.gate
        was_out, was_down = gate.is_out, gate.down is not None
        self._sound[1](entry, error, tokens, headers)
        self._gone(entry)
        self._left(self._watch.current.pop(entry.item.row), entry, was_out=was_out, was_down=was_down)

    def abandon(self, entry: Entry) -> None:
        self._sound[2](entry)
        self._gone(entry)
        if entry.is_probe:
            self._probed_s = -PROBES_APART_S

    # What must then be true

    def _admitted(self, ticket: int, item: Item, entry: Entry) -> None:
        gate, now_s, model = self.gate, trio.current_time(), item.request.model
        limit = gate.slots.limit if self.place.slots is None else self.place.slots
        self.most_slots = max(self.most_slots, limit)
        self.under_way += 1
        if self.under_way > limit:
            raise Broken(LIMIT, f"{self.under_way} under way with {limit} slots")
        self._check_count()
        if gate.down is not None or model in gate.halted:
            raise Broken(PLACES, f"{self._name} is asked for {model}, though it is down or halted for it")
        if self._waiting and (first := next(iter(self._waiting))) < ticket:
            raise Broken(FAIR, f"row {item.row} overtook row {self._waiting[first].row} at {self._name}")
        if gate.is_out:
            self._probe(now_s)
        self._check_crowd(now_s, limit)
        self._watch.admitted(item, entry, now_s)

    def arrived(self) -> None:
        """A request came to the endpoint."""
        self._last_asked_s = trio.current_time()
        if self._wire.in_flight >= self.gate.slots.limit:
            self._last_full_s = self._last_asked_s

    def _probe(self, now_s: float) -> None:
        if self._probes:
            raise Broken(OUTAGES, f"a second probe at {self._name}, while one is under way")
        if now_s - self._probed_s < PROBES_APART_S:
            raise Broken(OUTAGES, f"{self._name} is probed again after {now_s - self._probed_s:.3f} s")
        self._probes, self._probed_s = 1, now_s

    def _check_crowd(self, now_s: float, limit: int) -> None:
        ends_s = self._hold_ends_s if now_s <= self._crowded_until_s else self._opened_s
        if 0 <= now_s - ends_s <= MOMENTS_S and self.under_way > max(1, limit / 2):
            raise Broken(
                CROWDS,
                f"{self.under_way} of {limit} slots were in use {now_s - ends_s:.3f} s after a hold or an "
                f"outage at {self._name}",
            )

    def _gone(self, entry: Entry) -> None:
        self.under_way -= 1
        self._check_count()
        if entry.is_probe:
            self._probes, self._unprobed_s = 0, trio.current_time()

    def _check_count(self) -> None:
        if self.gate.in_use != self.under_way:
            raise Broken(
                LIMIT, f"{self._name} counts {self.gate.in_use} under way, there are {self.under_way}"
            )

    def _left(self, asked: Asked, entry: Entry, *, was_out: bool, was_down: bool) -> None:
        gate, now_s = self.gate, trio.current_time()
        asked.left_s = now_s
        is_nobody = asked.fate.is_nobody
        if not is_nobody:
            self._answered_any = True
            self._nobody.clear()
        elif entry.is_first and (self._answered_any or asked.fate.error_class != "ConnectFailed"):
            self._nobody.add(asked.row)
        self._check_outage(entry, asked, now_s, was_out=was_out)
        if gate.down is not None and not was_down and now_s - self._answered_s < self._max_outage_s:
            raise Broken(OUTAGES, f"{self._name} is down {now_s - self._answered_s:.1f} s after it answered")
        asked.met_outage = is_nobody and gate.is_out
        asked.is_last_work = self._watch.run.endpoints.is_work_over
        asked.out_for_s = now_s - self._out_since_s if self._out_since_s is not None else 0.0
        if asked.fate.status == 429:
            self._refused_s = now_s
        if asked.hold_s is not None and now_s + asked.hold_s > self._hold_ends_s:
            self._hold_ends_s = now_s + asked.hold_s
            is_long = asked.hold_s >= LONG_HOLD_S
            self._crowded_until_s = self._hold_ends_s + MOMENTS_S if is_long else -1.0

    def _check_outage(self, entry: Entry, asked: Asked, now_s: float, *, was_out: bool) -> None:
        is_out, is_nobody = self.gate.is_out, asked.fate.is_nobody
        if is_out and not was_out:
            if not is_nobody or len(self._nobody) < 2:
                raise Broken(OUTAGES, f"{self._name} is called out after {len(self._nobody)} odd rows")
            self._out_since_s = now_s
        if was_out and not is_out:
            if is_nobody or entry.sent_s < (self._out_since_s or 0.0):
                raise Broken(OUTAGES, f"{self._name} is called back, though no probe was answered")
            self._opened_s, self._out_since_s = now_s, None
        if not is_out:
            if len(self._nobody) >= MANY_ROWS:
                raise Broken(
                    OUTAGES,
                    f"{len(self._nobody)} rows in a row found nobody at {self._name}, and it is not out",
                )
            if not is_nobody:
                self._answered_s = now_s
        elif was_out and not is_nobody and entry.sent_s > (self._out_since_s or 0.0):
            raise Broken(OUTAGES, f"{self._name} answered a probe, and is still called out")

    # Now and then

    def look(self, now_s: float, *, has_work: bool) -> None:
        """While there is work and nothing in its way, no slot may lie idle; where something limits the gate,
        it goes on all the same."""
        gate = self.gate
        if not has_work or gate.down is not None or now_s < self._hold_ends_s + OPENING_S:
            self._freed_s = now_s
        elif gate.is_out:
            self._freed_s = now_s
            self._look_at_outage(now_s)
        elif now_s < self._opened_s + OPENING_S:
            self._freed_s = now_s
        since_s, most_s = max(self._last_asked_s, self._freed_s), IDLE_S
        if now_s < self._refused_s + LEARNED_S:
            most_s = SELDOM_AFTER_429_S
        elif self.place.limits is not None:
            most_s = SELDOM_S
        elif self._is_alone:
            # Else items wait at one of the others for a moment, before they look around.
            since_s = max(self._last_full_s, self._freed_s)
        if self._wire.in_flight >= gate.slots.limit:
            since_s = self._last_full_s = now_s
        was_idle, self._is_idle = self._is_idle, now_s - since_s > most_s
        if was_idle and self._is_idle:
            raise Broken(
                LIMIT,
                f"a slot of {self._name} was free for {now_s - since_s:g} s, with {self._wire.in_flight} of "
                f"{gate.slots.limit} in flight, and {len(self._waiting)} waiting",
            )

    def _look_at_outage(self, now_s: float) -> None:
        assert self._out_since_s is not None
        waits_s = now_s - max(self._unprobed_s, self._out_since_s)
        # What an endpoint told of its limits before it went out holds for its probes too.
        again_s = PROBED_AGAIN_S + (WINDOW_S if self.place.limits is not None else 0.0)
        if self._waiting and not self._probes and waits_s > again_s:
            raise Broken(
                OUTAGES, f"nobody has asked {self._name} for {waits_s:g} s, and {len(self._waiting)} wait"
            )
        if self._waiting and now_s - self._out_since_s > self._max_outage_s + self._timeout_s + again_s:
            raise Broken(
                OUTAGES, f"{self._name} is out for {now_s - self._out_since_s:g} s, and not given up"
            )

    @property
    def _name(self) -> str:
        return self.place.name
