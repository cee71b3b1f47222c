"""A run whose items are asked by several other processes: the side of whoever owns it.

Rows are read here and sorted: what is bad, was asked before, or lies past the limit ends here, as on one
machine. The others are handed out a few at a time, to whoever has room, so that nobody slow holds the end.
What workers record goes into this run's one ledger, and a worker hears that it is on record before an attempt
may go. So a worker that is lost takes nothing with it that anybody knew of: what it had under way is listed
as possibly billed, and its rows are handed to others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from pathlib import Path
from typing import Literal, Protocol

import anyio

from pipeline.endpoints import LastError, Vitals
from pipeline.engines.coordinator import Coordinator, Purse
from pipeline.engines.messages import Asked, Said, Setup, Told, pack
from pipeline.engines.work import Work
from pipeline.errors import LedgerDamaged, ManifestError, MediabatchError, StoreUnwritable
from pipeline.gate import LIMITS, Limits, LimitsMet
from pipeline.ledger import Group, InFlight
from pipeline.media.delivery import Saved
from pipeline.records import BadRow, Item, NotAttempted, RunState
from pipeline.run import Halt, Sorter, recording
from pipeline.store.rows import RESULT_COLUMN, Tries

READ_AHEAD = 4_096
"""Rows that wait here to be handed out, at most."""
MOST_AT_ONCE = 512
"""Rows that are handed out together."""
PAUSE_S = 0.01
PAUSE_PER_WORKER_S = 0.0005
"""Between two exchanges with a worker: what an exchange takes here, for each of them."""
FRUITLESS = 3
"""Workers lost one after the other while no row ended: something is wrong with all of them."""
NOBODY_S = 120.0
"""So long the run goes on while no worker says anything."""

_ROW = RESULT_COLUMN["row"]
_TICKETS = 1 << 40
"""Of one worker."""


class WorkerLost(Exception):
    """A worker, or the machine that it was on, is gone."""


class WorkersGone(MediabatchError):
    """There is nobody left who asks."""


class WorkersUnfit(MediabatchError):
    """Those that there are would not understand what they are told."""


class Handle(Protocol):
    """A worker as its owner sees it."""

    async def talk(self, told: Told) -> Said:
        """
        Raises:
            WorkerLost: it is gone.
        """

    def end(self) -> None:
        """Whatever it does."""


Hire = Callable[[Setup], Awaitable[Handle]]
"""A new worker. Raises WorkerLost, WorkersUnfit."""


@dataclass(slots=True)
class _Member:
    """One worker, and what it has in hand."""

    number: int
    rows: dict[int, Asked] = field(default_factory=dict)  # handed out, and not ended
    under_way: dict[int, InFlight] = field(default_factory=dict)  # by our ticket
    halts_told: int = 0
    succeeded_told: int = 0
    has_spoken: bool = False


class Spread:
    """One session of a run, spread over workers."""

    def __init__(self, work: Work, limits: dict[str, Limits], hire: Hire, workers: int) -> None:
        plan = work.plan
        self._work = work
        self._recorder = work.recorder
        self._sorter = Sorter(work.repeats, plan.limit)
        self._hire = hire
        self._most = min([workers, *(one.slots for one in plan.endpoints if one.slots is not None)])
        self._limits = limits
        purse = None if work.budget is None else Purse(work.budget.caps, work.world.now)
        self._coordinator = Coordinator([limits[one.name] for one in plan.endpoints], purse, work.world.clock)
        self._members: dict[int, _Member] = {}
        self._vitals: dict[int, Vitals] = {}  # the newest of each, of those that are gone too
        self._numbers = count(1)
        self._queue: deque[Asked] = deque()
        self._is_read = False  # the manifest, to its end
        self._dropped: list[NotAttempted] = []
        self._stopped: Literal["interrupted", "deadline", "budget"] | None = None
        self._is_halted = False
        self._is_over = False
        self._halts: list[Halt] = []
        self._succeeded: list[tuple[str, str]] = []
        self._fruitless = 0
        self._heard_s = work.world.clock()
        self._moved = anyio.Event()
        self._hiring: Callable[[], None] = lambda: None
        self.levels: dict[str, int] = {}
        self.saved = Saved()

    @property
    def state(self) -> RunState:
        if self._stopped == "interrupted":
            return "interrupted"
        if self._is_halted:
            return "halted"
        return self._stopped or "done"

    @property
    def halts(self) -> tuple[Halt, ...]:
        return tuple(self._halts)

    def vitals(self) -> Vitals:
        """Of all workers; of the seconds in which each was limited, the mean."""
        limited_s = dict.fromkeys(LIMITS, 0.0)
        errors: dict[str, LastError] = {}
        for one in self._vitals.values():
            for limit, for_s in one.limits_met.limited_s.items():
                limited_s[limit] += for_s / self._most
            for name, error in one.errors.items():
                known = errors.get(name, LastError(0, -inf, ""))
                newest = max(known, error, key=lambda each: each.at_s)
                errors[name] = replace(newest, count=known.count + error.count)
        alive = [self._vitals[number] for number in self._members if number in self._vitals]
        return Vitals(
            LimitsMet(limited_s, sum(one.limits_met.throttled for one in self._vitals.values())),
            sum(one.slots for one in alive),
            sum(one.in_use for one in alive),
            sum(one.asleep for one in alive),
            max((one.held_for_s for one in alive), default=0.0),
            errors,
        )

    def stop(self, why: Literal["interrupted", "deadline", "budget"]) -> None:
        """Admit nothing new; what is in flight is waited for."""
        if not self._is_over:
            self._stopped = self._stopped or why
            self._move()

    def halt(self, reason: MediabatchError) -> None:
        """Stop the whole run for a reason that concerns all models."""
        if not self._is_halted:
            name = self._work.plan.endpoints[0].name
            self._halts.append(Halt(name, None, reason.error_class, str(reason)))
        self._is_halted = True
        self._move()

    async def execute(self) -> None:
        """Bring every row to its outcome and record it; as `Run.execute`."""
        async with recording(self._recorder, self._set_aside_the_rest, self.halt):
            await self._work_through()

    async def _work_through(self) -> None:
        async with anyio.create_task_group() as members:

            def hire() -> None:
                members.start_soon(self._serve)

            self._hiring = hire
            for _ in range(self._most):
                self._hiring()
            members.start_soon(self._watch)
            await self._read()
            while not self._is_finished:
                await self._moved.wait()
            await self._see_off()
            members.cancel_scope.cancel()

    async def _see_off(self) -> None:
        """Wait for those that have begun to end; the others are not needed any more."""
        while any(member.has_spoken for member in self._members.values()):
            await self._moved.wait()

    async def _watch(self) -> None:
        """Whether there is anybody."""
        while True:
            await anyio.sleep(1.0)
            if self._work.world.clock() - self._heard_s > NOBODY_S:
                self.halt(
                    WorkersGone(f"no worker was heard of for {NOBODY_S:g} s; resume when there are some")
                )
                for member in list(self._members.values()):
                    self._take_back(member)
                return

    # Rows in

    async def _read(self) -> None:
        while not self._is_stopping and (row := await self._next()) is not None:
            ended, key = await self._sorter.of(row)
            if ended is not None:
                await self._recorder.put(ended)
                continue
            assert isinstance(row, Item)
            self._queue.append(Asked(row, key, self._recorder.tries_of(row.row)))
            while len(self._queue) >= READ_AHEAD and not self._is_stopping:
                await self._moved.wait()
        self._is_read = True

    async def _next(self) -> Item | BadRow | None:
        try:
            return await self._work.feed.next()
        except ManifestError as error:  # it changed while it was read: what is in flight still counts
            self.halt(error)
            return None

    async def _set_aside_the_rest(self) -> None:
        """What is in nobody's hands, and what never was read."""
        self._is_over = True
        for member in self._members.values():
            self._dropped += [NotAttempted(row.item.id, row.item.row) for row in member.rows.values()]
        for asked in self._queue:
            self._dropped.append(NotAttempted(asked.item.id, asked.item.row))
        for dropped in self._dropped:
            await self._recorder.put(dropped)
        while (self._is_stopping or not self._is_read) and (row := await self._next()) is not None:
            await self._recorder.put(row if isinstance(row, BadRow) else NotAttempted(row.id, row.row))

    @property
    def _is_stopping(self) -> bool:
        return self._stopped is not None or self._is_halted

    @property
    def _is_finished(self) -> bool:
        """Whether no row is left that anybody could ask."""
        if self._is_stopping:
            return not any(member.rows and member.has_spoken for member in self._members.values())
        nobody_has_any = not any(member.rows for member in self._members.values())
        return self._is_read and not self._queue and nobody_has_any

    # One worker

    async def _serve(self) -> None:
        member = _Member(next(self._numbers))
        self._members[member.number] = member
        slots = self._coordinator.join(member.number, self._most)
        told = Told()
        handle: Handle | None = None
        try:
            handle = await self._hire(self._setup(slots))
            while True:
                said = await handle.talk(told)
                self._heard_s = self._work.world.clock()
                member.has_spoken = True
                told = await self._answer(member, said)
                if said.farewell is not None:
                    self._coordinator.leave(member.number, is_lost=False)
                    break
        except WorkerLost as lost:
            await self._lose(member, lost)
        except WorkersUnfit as error:
            self.halt(error)
        finally:
            if handle is not None:
                handle.end()
        self._members.pop(member.number, None)
        self._move()

    def _setup(self, slots: list[int | None]) -> Setup:
        work = self._work
        begins_with: dict[str, int | None] = {}
        for one, number in zip(work.plan.endpoints, slots, strict=True):
            level = self._limits[one.name].level
            begins_with[one.name] = (
                number if one.slots is not None else level and max(1, level // max(1, self._most))
            )
        # Where the store is means nothing elsewhere.
        plan = replace(work.plan, out=Path(), state_dir=None)
        return Setup(plan, work.secrets, work.prices, begins_with, work.budget is not None)

    async def _answer(self, member: _Member, said: Said) -> Told:
        told = Told(pause_s=max(PAUSE_S, PAUSE_PER_WORKER_S * len(self._members)))
        if said.group is not None:
            told.problem = await self._record(member, said.group)
        for item_id, row in said.rested:
            member.rows.pop(row, None)
            await self._recorder.put(NotAttempted(item_id, row))
        self._hear(member, said)
        if said.lease is not None:
            told.granted = self._coordinator.renew(member.number, said.lease)
            purse = self._coordinator.purse
            if purse is not None and purse.is_spent:
                self.stop("budget")
        if said.farewell is not None:
            self._is_halted = self._is_halted or (said.farewell.is_caught and self._stopped is None)
            for name, level in said.farewell.levels.items():
                self.levels[name] = self.levels.get(name, 0) + level
            self.saved.images += said.farewell.saved.images
            self.saved.tokens += said.farewell.saved.tokens
        elif not self._is_stopping:
            told.rows = pack(list(self._hand_out(member, said.room)))
        told.halts = self._halts[member.halts_told :]
        told.succeeded = self._succeeded[member.succeeded_told :]
        member.halts_told, member.succeeded_told = len(self._halts), len(self._succeeded)
        told.is_stopping = self._is_stopping
        told.is_work_over = self._is_read and not self._queue
        told.is_over = self._is_finished
        self._move()
        return told

    def _hand_out(self, member: _Member, room: int) -> Iterator[Asked]:
        share = -(-len(self._queue) // max(1, len(self._members)))
        for _ in range(min(room, MOST_AT_ONCE, share)):
            asked = self._queue.popleft()
            member.rows[asked.item.row] = asked
            yield asked

    def _hear(self, member: _Member, said: Said) -> None:
        for halt in said.halts:
            self._halts.append(halt)
            if halt.model is None and halt.error_class != "EndpointDown":
                self._is_halted = True
        self._succeeded += said.succeeded
        if said.vitals is not None:
            now_s = anyio.current_time()
            errors = {name: replace(one, at_s=now_s - one.at_s) for name, one in said.vitals.errors.items()}
            self._vitals[member.number] = replace(said.vitals, errors=errors)

    async def _record(self, member: _Member, group: Group) -> MediabatchError | None:
        first = member.number * _TICKETS
        group.sent = [one._replace(id=first + one.id) for one in group.sent]
        group.answered = [(first + ticket,) for (ticket,) in group.answered]
        for sent in group.sent:
            member.under_way[sent.id] = sent
        for (ticket,) in group.answered:
            member.under_way.pop(ticket, None)
        entries, durable = self._recorder.take_over(group)
        for entry in entries:
            if entry.result is not None:
                member.rows.pop(entry.result[_ROW], None)  # type: ignore[call-overload] # an int
                self._fruitless = 0
        try:
            await durable()
        except (StoreUnwritable, LedgerDamaged) as error:
            for sent in group.sent:
                member.under_way.pop(sent.id, None)
            self.halt(error)
            return error
        return None

    # One that is gone

    async def _lose(self, member: _Member, lost: WorkerLost) -> None:
        self._take_back(member)
        self._fruitless += 1
        if self._fruitless >= FRUITLESS * self._most:
            self.halt(WorkersGone(f"workers are lost one after the other, the last: {lost}"))
        if not self._is_stopping:
            self._hiring()

    def _take_back(self, member: _Member) -> None:
        """What it had under way is listed as possibly billed; its rows wait to be handed out again, first."""
        self._coordinator.leave(member.number, is_lost=True)
        for sent in member.under_way.values():
            self._recorder.lost(sent)
        rows = sorted(member.rows.values(), key=lambda asked: asked.item.row, reverse=True)
        for asked in rows:
            tries: Tries = self._recorder.tries_of(asked.item.row)
            self._queue.appendleft(asked._replace(tries=tries))
        member.under_way, member.rows = {}, {}
        self._members.pop(member.number, None)
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()
