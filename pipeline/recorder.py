"""The one door to the disk during a run: every write goes through the ledger first.

Writes are gathered into groups; a group is flushed off the event loop, the next as soon as the last is
done. An attempt may go only once it stands in the ledger as sent; an answer is counted only once it stands
there as done. Parts are made of what was committed, in the background; the ledger learns of them when they
are verified.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread

from pipeline.errors import MediabatchError
from pipeline.ledger import Group, InFlight, Ledger, Sealed
from pipeline.off_loop import OffLoop
from pipeline.records import Attempt, BadRow, Duplicate, Ended, Outcome, Skipped
from pipeline.sealing import PART_ITEMS, Batch, seal
from pipeline.store.resting import Duplicates, Rest
from pipeline.store.rows import NO_TRIES, Entry, Tries, Writing
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally

MOST_WAITING = 4_096
"""Writes that may wait for the disk before workers wait with them."""

Report = Callable[[MediabatchError], None]
Follow = Callable[[Sequence[Ended]], Awaitable[None]]
"""Gets rows that ended, once they are durable; the next commit waits for it."""
Durable = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Gathering:
    """What the next commit takes, and who hears of it."""

    group: Group = field(default_factory=Group)
    entries: list[tuple[int, Entry]] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)  # where somebody follows
    durable: anyio.Event = field(default_factory=anyio.Event)
    problem: MediabatchError | None = None


class Recorder:
    """What one session of a run writes. ``tally`` counts what is durable. No ``writer``: its ledger is
    another process's, which makes the parts."""

    def __init__(
        self,
        ledger: Ledger,
        writer: RunWriter | None,
        writing: Writing,
        tally: Tally,
        rest: Rest,
        duplicates: Duplicates,
        *,
        off_loop: OffLoop = anyio.to_thread.run_sync,
        flush_off_loop: OffLoop = anyio.to_thread.run_sync,
        part_items: int = PART_ITEMS,
        follow: Follow | None = None,
    ) -> None:
        self._ledger = ledger
        self._writer = writer
        self._writing = writing
        self._tally = tally
        self._off_loop = off_loop
        self._flush_off_loop = flush_off_loop
        self._part_items = part_items
        self._follow = follow
        self._tries = {row: Tries.decode(body) for row, body in ledger.tries().items()}
        self._next_seq = ledger.last_seq() + 1
        self._next_ticket = max((sent.id for sent in ledger.in_flight()), default=0) + 1
        self._gathering = _Gathering()
        self._wake = anyio.Event()
        self._committing = anyio.Lock()
        self._batch = Batch(self._next_seq)
        self._is_due = anyio.Event()
        self._sealing = anyio.Lock()
        self._rest = rest
        self._duplicates = duplicates

    def idempotency_key(self, row: int) -> str:
        """The same for all attempts at a row in this run, whichever session they fall into, and never that of
        a run in another store."""
        return f"{self._writing.run_id}{self._writing.stamp}-{row}"

    def tries_of(self, row: int) -> Tries:
        """What was recorded of earlier attempts at this row in this run."""
        return self._tries.get(row, NO_TRIES)

    async def sent(
        self, row: int, item_id: str, sent_at: int, endpoint: str, model: str, dialect: str
    ) -> int:
        """Record an attempt as sent, and return its ticket once that is durable.

        Raises:
            StoreUnwritable, LedgerDamaged: it is not on record, so it must not go.
        """
        ticket = self._next_ticket
        self._next_ticket += 1
        number = self.tries_of(row).attempts + 1
        gathering = self._gathering
        gathering.group.sent.append(InFlight(ticket, row, item_id, number, sent_at, endpoint, model, dialect))
        self._wake.set()
        try:
            await gathering.durable.wait()
        except BaseException:
            self._gathering.group.answered.append((ticket,))  # cancelled before it went
            raise
        if gathering.problem is not None:
            raise gathering.problem
        return ticket

    def tried(self, row: int, item_id: str, attempt: Attempt) -> None:
        """Record an attempt of an item that goes on."""
        tries = self._tries[row] = self.tries_of(row).and_then([attempt])
        group = self._gathering.group
        group.tries.append((row, tries.encode()))
        self._record(attempt.ticket, self._writing.tried(item_id, [attempt], self._typical(attempt)))

    def take_over(self, group: Group) -> tuple[list[Entry], Durable]:
        """Record what the recorder of another process gathered, under this ledger's sequences. Returns its
        entries, and what to wait for until they are durable; where that raises, what was to be sent must not
        go, and the rest waits here.
        """
        gathering = self._gathering
        mine = gathering.group
        mine.sent += group.sent
        mine.answered += group.answered
        mine.tries += group.tries
        mine.ended += group.ended
        for row, body in group.tries:
            self._tries[row] = Tries.decode(body)
        for (row,) in group.ended:
            self._tries.pop(row, None)
        entries = []
        for _, body in group.done:
            entry = Entry.decode(body)
            mine.done.append((self._next_seq, body))
            gathering.entries.append((self._next_seq, entry))
            entries.append(entry)
            self._next_seq += 1
        self._wake.set()

        async def durable() -> None:
            await gathering.durable.wait()
            if gathering.problem is not None:
                raise gathering.problem

        return entries, durable

    def lost(self, sent: InFlight) -> None:
        """Record of an attempt under way that nobody will ever tell how it ended."""
        tries = self._tries[sent.row] = self.tries_of(sent.row).and_lost(sent.sent_at)
        self._gathering.group.tries.append((sent.row, tries.encode()))
        self._record(sent.id, self._writing.lost(sent, self._tally.typical_cost(sent.model)))

    def go_on_from(self, row: int, tries: Tries) -> None:
        """What another process recorded of earlier attempts at this row."""
        self._tries[row] = tries

    async def put(self, ended: Ended) -> None:
        """Record a row's end. Waits only while the disk is far behind."""
        if self._follow is not None:
            self._gathering.ended.append(ended)
            self._wake.set()
        if isinstance(ended, Outcome):
            last, earlier = ended.last, self._over(ended.item.row)
            if ended.is_on_record:
                self._record(None, self._writing.settled(ended, earlier))
            else:
                tries = earlier.and_then([last])
                self._record(last.ticket, self._writing.ended(ended, tries, self._typical(last)))
        elif isinstance(ended, BadRow):
            self._record(None, self._writing.bad_row(ended, self._over(ended.row)))
        elif isinstance(ended, Duplicate):
            self._duplicates.add(ended)
        elif isinstance(ended, Skipped):
            self._rest.add(ended.id, ended.row, "skipped", ended.answered_by_run_id)
            self._tally.skipped += 1
        else:
            if ended.last is not None:
                self.tried(ended.row, ended.id, ended.last)
            self._rest.add(ended.id, ended.row, "not_attempted")
            self._tally.not_attempted += 1
        gathering = self._gathering
        if len(gathering.entries) >= MOST_WAITING:
            await gathering.durable.wait()

    def _over(self, row: int) -> Tries:
        """What the attempts at a row came to, as it ends."""
        earlier = self._tries.pop(row, None)
        if earlier is None:
            return NO_TRIES
        self._gathering.group.ended.append((row,))
        return earlier

    async def commit_groups(self, report: Report) -> None:
        """Commit for as long as the run lasts; what goes wrong is reported, and tried again with what
        comes."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            problem = await self._commit()
            if problem is not None:
                report(problem)

    async def seal_parts(self, report: Report) -> None:
        """Make parts for as long as the run lasts."""
        while True:
            await self._is_due.wait()
            self._is_due = anyio.Event()
            try:
                await self._seal()
            except MediabatchError as problem:
                report(problem)

    async def close(self) -> None:
        """Commit and seal what is left.

        Raises:
            StoreUnwritable, LedgerDamaged: something could not be written; what is in the ledger stays there.
        """
        with anyio.CancelScope(shield=True):
            while self._gathering.group or self._gathering.ended:
                problem = await self._commit()
                if problem is not None:
                    raise problem
            await self._seal()
            problem = await self._commit()
            if problem is not None:
                raise problem

    async def _commit(self) -> MediabatchError | None:
        async with self._committing:
            gathering, self._gathering = self._gathering, _Gathering()
            if not gathering.group:
                await self._tell(gathering)
                return None
            problem: MediabatchError | None
            try:
                with anyio.CancelScope(shield=True):
                    # Written here, flushed there: a statement takes microseconds, and in another thread each
                    # would have both wait for the interpreter lock.
                    self._ledger.write(gathering.group)
                    problem = await self._flush_off_loop(self._ledger.commit, gathering.group)
            except MediabatchError as error:
                gathering.problem = problem = error
                self._put_back(gathering)
            else:
                self._count(gathering.entries)
                if len(self._batch) >= self._part_items:
                    self._is_due.set()
            gathering.durable.set()
            if problem is None:
                await self._tell(gathering)
            return problem

    async def _tell(self, gathering: _Gathering) -> None:
        if self._follow is not None and gathering.ended:
            with anyio.CancelScope(shield=True):  # they are on record: whoever follows hears of all of them
                await self._follow(gathering.ended)

    def _count(self, entries: list[tuple[int, Entry]]) -> None:
        """Into the tally and the next part; added up once, for both."""
        if entries:
            group = Batch(entries[0][0])
            for seq, entry in entries:
                group.add(seq, entry)
            self._tally.merge(group.tally)
            if self._writer is not None:
                self._batch.extend(group)

    def _put_back(self, failed: _Gathering) -> None:
        """What could not be written waits in front of what came meanwhile; attempts not recorded do not
        go."""
        later = self._gathering
        for name in ("answered", "tries", "ended", "done", "sealed"):
            setattr(later.group, name, getattr(failed.group, name) + getattr(later.group, name))
        unsent = {sent.id for sent in failed.group.sent}
        later.group.answered = [one for one in later.group.answered if one[0] not in unsent]
        later.entries = failed.entries + later.entries
        later.ended = failed.ended + later.ended

    async def _seal(self) -> None:
        async with self._sealing:
            if not len(self._batch):
                return
            batch, self._batch = self._batch, Batch(self._batch.last_seq + 1)
            try:
                with anyio.CancelScope(shield=True):
                    sealed: Sealed = await self._off_loop(seal, batch, self._writer)
            except BaseException:
                batch.extend(self._batch)  # nothing later may be sealed without it
                self._batch = batch
                raise
            self._gathering.group.sealed.append(sealed)
            self._wake.set()

    def _record(self, ticket: int | None, entry: Entry) -> None:
        seq = self._next_seq
        self._next_seq += 1
        gathering = self._gathering
        if ticket is not None:
            gathering.group.answered.append((ticket,))
        gathering.group.done.append((seq, entry.encode()))
        gathering.entries.append((seq, entry))
        self._wake.set()

    def _typical(self, attempt: Attempt) -> Any:
        return self._tally.typical_cost(attempt.model) if attempt.state == "possibly_billed" else None
