"""Many items: bounded fan-out over one manifest, stop conditions, and the summary.

Workers take items from a shared feed; a worker is busy with one item at a time, and one more starts when
another goes to sleep in backoff, so that the slots stay full while live items stay a small multiple of them.
A run that stops reads its manifest to the end without asking: every row ends as one outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Literal, Protocol

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from pipeline.analyze import analyze
from pipeline.endpoints import Endpoints, Vitals
from pipeline.errors import LedgerDamaged, ManifestError, MediabatchError, StoreUnwritable
from pipeline.halting import FirstAnswers, UnseenMedia
from pipeline.keys import request_key
from pipeline.media.delivery import Saved
from pipeline.off_loop import OffLoop
from pipeline.recorder import Recorder, Report
from pipeline.records import (
    BadRow,
    Duplicate,
    Ended,
    Item,
    NotAttempted,
    Outcome,
    Request,
    RunState,
    Skipped,
)
from pipeline.repeats import Repeats
from pipeline.tally import Tally

LIVE_PER_SLOT = 4
"""Items sending and asleep, at most, per slot."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Why the run, or one model of it, was stopped by what the endpoint or the disk answered."""

    endpoint: str
    model: str | None  # None: the whole run
    error_class: str
    message: str


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended."""

    run_id: str
    job: str
    state: RunState
    started_at: datetime
    began_at: datetime  # this session
    finished_at: datetime
    halts: tuple[Halt, ...]
    tally: Tally
    estimate: Mapping[str, Any] | None = None  # what `estimate` had said of it, if it was asked
    saved: Saved = field(default_factory=Saved)  # in this session


class Rows(Protocol):
    """Where rows come from."""

    async def next(self) -> Item | BadRow | None:
        """The next row, or None when there is none left.

        Raises:
            ManifestError: there would be more rows, and they cannot be read.
        """


class Feed:
    """Rows of the manifest, read in a thread, handed out one by one. While half a batch is left, one worker
    reads the next, and the others go on."""

    def __init__(
        self, batches: Iterator[list[Item | BadRow]], *, off_loop: OffLoop = anyio.to_thread.run_sync
    ) -> None:
        self._batches = batches
        self._off_loop = off_loop
        self._at_hand: deque[Item | BadRow] = deque()
        self._half = 1
        self._reading = anyio.Lock()
        self._is_over = False
        self._problem: ManifestError | None = None

    async def next(self) -> Item | BadRow | None:
        """The next row, or None when there is none left.

        Raises:
            ManifestError: there would be more rows, and they cannot be read.
        """
        while len(self._at_hand) < self._half and not self._is_over:
            if self._at_hand and self._reading.locked():
                break
            await self._read()
        if self._at_hand:
            return self._at_hand.popleft()
        if self._problem is not None:
            raise self._problem
        return None

    async def _read(self) -> None:
        async with self._reading:
            if len(self._at_hand) >= self._half or self._is_over:
                return  # another worker has read meanwhile
            batch: list[Item | BadRow] | None = None
            try:
                batch = await self._off_loop(next, self._batches, None)
            except ManifestError as error:
                self._problem = error
            self._is_over = batch is None
            self._at_hand.extend(batch or ())
            self._half = len(batch or ()) // 2 + 1


class Sorting(Protocol):
    """Which rows are asked, and by which request key."""

    async def of(self, row: Item | BadRow) -> tuple[Ended | None, str | None]:
        """How a row ends that is not asked; else None, and its request key."""


class Sorter:
    """Rows past the limit, bad ones, and what was asked before, are not asked."""

    def __init__(self, repeats: Repeats, limit: int | None = None) -> None:
        self._repeats = repeats
        self._limit = limit

    async def of(self, row: Item | BadRow) -> tuple[Ended | None, str | None]:
        if self._limit is not None and row.row > self._limit:
            return NotAttempted(row.id, row.row), None
        if isinstance(row, BadRow):
            return row, None
        key = await key_of(row.request)
        return (None if key is None else self._repeated(row, key)), key

    def _repeated(self, item: Item, key: str) -> Skipped | Duplicate | None:
        run_id = self._repeats.answered_by(key)
        if run_id is not None:
            return Skipped(item.id, item.row, run_id)
        first_row = self._repeats.first_row(key, item.row)
        return None if first_row == item.row else Duplicate(item.id, item.row, first_row, key)


@asynccontextmanager
async def recording(
    recorder: Recorder, set_aside_the_rest: Callable[[], Awaitable[None]], halt: Report
) -> AsyncIterator[TaskGroup]:
    """While the rows are worked through, commit groups and make parts; afterwards record the rest and write
    everything. Yields the group of what goes on meanwhile."""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(recorder.commit_groups, halt)
            tasks.start_soon(recorder.seal_parts, halt)
            yield tasks
            tasks.cancel_scope.cancel()
    finally:
        # Also when a bug or a second signal ends the run: what was answered was paid for.
        with anyio.CancelScope(shield=True):
            try:
                await set_aside_the_rest()
                await recorder.close()
            except (StoreUnwritable, LedgerDamaged) as error:
                halt(error)


class Run:
    """One session of a run over its manifest."""

    def __init__(
        self,
        feed: Rows,
        endpoints: Endpoints,
        recorder: Recorder,
        sorting: Sorting,
        *,
        stop_if_unseen: float | None = None,
    ) -> None:
        self._feed = feed
        self.endpoints = endpoints
        self._first_answers = FirstAnswers()
        self._unseen = None if stop_if_unseen is None else UnseenMedia(stop_if_unseen)
        self._recorder = recorder
        self._sorting = sorting
        self._halt: Halt | None = None
        self._stopped: Literal["interrupted", "deadline", "budget"] | None = None
        self._is_over = False
        self._dropped: list[NotAttempted] = []
        if endpoints.budget is not None:
            endpoints.budget.on_spent = partial(self.stop, "budget")
        self.is_caught = False  # whether an item went unasked because of a halt
        self._workers = 0

    @property
    def state(self) -> RunState:
        if self._stopped == "interrupted":
            return "interrupted"
        if self._halt is not None or self.is_caught:
            return "halted"
        return self._stopped or "done"

    @property
    def levels(self) -> dict[str, int]:
        """By endpoint: the slots that proved themselves."""
        return {one.name: one.gate.level for one in self.endpoints if one.gate.level is not None}

    @property
    def saved(self) -> Saved:
        return self.endpoints.delivery.saved

    def vitals(self) -> Vitals:
        return self.endpoints.vitals()

    @property
    def halts(self) -> tuple[Halt, ...]:
        found = []
        for endpoint in self.endpoints:
            gate = endpoint.gate
            found += [
                Halt(endpoint.name, model, error.error_class, str(error))
                for model, error in gate.halted.items()
            ]
            if gate.down is not None:
                found.append(Halt(endpoint.name, None, gate.down.error_class, str(gate.down)))
        return (*found, *([self._halt] if self._halt else []))

    def answered_elsewhere(self) -> None:
        """Another process of the run had an answer: what fails here is not all that there is."""
        self._first_answers.ok()

    def stop(self, why: Literal["interrupted", "deadline", "budget"]) -> None:
        """Admit nothing new; what is in flight is waited for."""
        if not self._is_over:
            self._stopped = self._stopped or why
            self.endpoints.close()

    def halt(self, reason: MediabatchError) -> None:
        """Stop the whole run for a reason that concerns all models."""
        if self._halt is None:
            name = next(iter(self.endpoints)).name
            self._halt = Halt(name, None, reason.error_class, str(reason))
        self.endpoints.close()

    async def execute(self) -> None:
        """Bring every row to its outcome and record it.

        A store that stops taking writes halts the run: what is in flight is waited for, and written if the
        store takes it by then. Cancelled, it drops what is in flight: that stands in the ledger as sent.
        """
        async with recording(self._recorder, self._set_aside_the_rest, self.halt) as tasks:
            tasks.start_soon(self.endpoints.call_waiters)
            await self._work_through()

    async def _work_through(self) -> None:
        async with anyio.create_task_group() as workers:

            def fill_up() -> None:
                """Workers for slots that are new, or were left by one that went to sleep."""
                slots = max(1, self.endpoints.slots)  # of a share, there may be none yet
                while self._workers < LIVE_PER_SLOT * slots and self._workers - self.endpoints.asleep < slots:
                    self._workers += 1
                    workers.start_soon(self._work)

            self.endpoints.on_room(fill_up)
            fill_up()

    async def _work(self) -> None:
        endpoints = self.endpoints
        try:
            # A worker too many, after sleepers woke or slots were cut, goes home between two items.
            while self._workers - endpoints.asleep <= max(1, endpoints.slots):
                row = await self._next()
                if row is None:
                    endpoints.is_work_over = True
                    return
                await self._recorder.put(await self._end(row))
        finally:
            self._workers -= 1

    async def _set_aside_the_rest(self) -> None:
        """Where workers were sent home: what was under way, and what never was."""
        self._is_over = True
        for dropped in self._dropped:
            await self._recorder.put(dropped)
        while self._stopped and (row := await self._next()) is not None:
            await self._recorder.put(row if isinstance(row, BadRow) else NotAttempted(row.id, row.row))

    async def _next(self) -> Item | BadRow | None:
        try:
            return await self._feed.next()
        except ManifestError as error:  # it changed while it was read: what is in flight still counts
            self.halt(error)
            return None

    async def _end(self, row: Item | BadRow) -> Ended:
        try:
            ended, key = await self._sorting.of(row)
            if ended is not None:
                return ended
            assert isinstance(row, Item)
            return await self._asked(row, key)
        except (StoreUnwritable, LedgerDamaged) as error:  # it could not be put on record, so it did not go
            self.halt(error)
            return NotAttempted(row.id, row.row)
        except anyio.get_cancelled_exc_class():
            self._dropped.append(NotAttempted(row.id, row.row))
            raise

    async def _asked(self, item: Item, key: str | None) -> Outcome | NotAttempted | BadRow:
        ended = await analyze(item, key, self.endpoints, self._recorder)
        if isinstance(ended, NotAttempted):
            self.is_caught = self.is_caught or self._stopped is None
        elif isinstance(ended, Outcome):
            if ended.error is None:
                self._first_answers.ok()
                if self._unseen is not None:
                    unseen = self._unseen.answered(ended.item.request.media, ended.seen)
                    if unseen is not None:
                        self.halt(unseen)
            else:
                alike = self._first_answers.failed(ended.error)
                if alike is not None:
                    self.halt(alike)
        return ended


async def key_of(request: Request) -> str | None:
    """The request key; None where a local file went away meanwhile. Files are read off the event loop."""
    if not any(media.is_local for media in request.media):
        return request_key(request)
    try:
        return await anyio.to_thread.run_sync(request_key, request)
    except OSError:
        return None


def only_one(error: BaseException) -> BaseException:
    """The error inside a task group's group, where there is just one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
