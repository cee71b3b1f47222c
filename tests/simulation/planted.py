"""Bugs to be found: one for each promise and more, the mistakes that others made, planted at a night's seams.

A bug is a class in the place of a sound one: a ledger, a writer, or what a live run is made of, exchanged
before the run begins. `test_planted` plays seeds until each is found; this folder's README has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio
from tenacity import retry_if_result, wait_fixed

from pipeline.analyze import Endpoint
from pipeline.errors import AttemptError, ConnectionLost, MediabatchError
from pipeline.gate import Gate
from pipeline.halting import HaltRules
from pipeline.ledger import Group, InFlight, Sealed
from pipeline.pricing import Rates
from pipeline.recorder import Recorder
from pipeline.records import BadRow, Ended, Item, Outcome, Reply, Request, TokenCount
from pipeline.repeats import Repeats
from pipeline.run import Feed, Run
from pipeline.sealing import Batch
from pipeline.store.rows import Entry
from pipeline.transport import Answer, Transport
from tests.simulation.bills import FixedPrices
from tests.simulation.broken import ENDS, HOLDS, KEYS, LIMIT, PAID, ROWS, STOPS, TOKENS, TRIES, TWICE, Broken
from tests.simulation.machine import SimulatedLedger, SimulatedWriter
from tests.simulation.nights import Sound, play

# --- nothing paid is lost ---


class CountsBeforeCommit(Recorder):
    def _record(self, ticket: int | None, entry: Entry) -> None:
        self._tally.add(entry)
        super()._record(ticket, entry)


class DoesNotRecordSent(Recorder):
    async def sent(
        self, row: int, item_id: str, sent_at: int, endpoint: str, model: str, dialect: str
    ) -> int:
        self._next_ticket += 1
        return self._next_ticket - 1


class SendsBeforeItIsOnRecord(Recorder):
    async def sent(
        self, row: int, item_id: str, sent_at: int, endpoint: str, model: str, dialect: str
    ) -> int:
        ticket = self._next_ticket
        self._next_ticket += 1
        number = self.tries_of(row).attempts + 1
        sent = InFlight(ticket, row, item_id, number, sent_at, endpoint, model, dialect)
        self._gathering.group.sent.append(sent)
        self._wake.set()
        return ticket


class SaysWrittenTooSoon(SimulatedLedger):
    """One transaction for several groups: a kill loses those that were called written already."""

    _later: Group | None = None

    def _commit_for_real(self, group: Group) -> None:
        later, self._later = self._later, group
        if later is not None:
            super()._commit_for_real(later)

    def in_flight(self) -> list[InFlight]:
        self._flush()
        return super().in_flight()

    def close(self) -> None:
        if self.machine.is_alive:
            self._flush()
        super().close()

    def _flush(self) -> None:
        later, self._later = self._later, None
        if later is not None:
            super()._commit_for_real(later)


class DropsWhatCouldNotBeWritten(Recorder):
    def _put_back(self, failed: Any) -> None:
        pass


class ForgetsWhatWasUnderWay(SimulatedLedger):
    def in_flight(self) -> list[InFlight]:
        self._connection.execute("DELETE FROM in_flight")
        return []


class SealsAGap(Recorder):
    """A part that could not be written is left out, and the next one sealed all the same."""

    async def _seal(self) -> None:
        batch = self._batch
        try:
            await super()._seal()
        except MediabatchError:
            self._batch = Batch(batch.last_seq + 1)
            raise


class StopsCommitting(Recorder):
    async def commit_groups(self, report: Callable[[MediabatchError], None]) -> None:
        for _ in range(20):
            await self._wake.wait()
            self._wake = anyio.Event()
            await self._commit()


class CallsResetsNotBilled(Transport):
    async def post(self, body: bytes, idempotency_key: str) -> Answer:
        try:
            return await super().post(body, idempotency_key)
        except ConnectionLost as error:
            error.state = "not_billed"
            raise


# --- every token once ---


@dataclass
class _OtherDialect:
    """The sound dialect, with another opinion of a reply."""

    sound: Any
    reply: Callable[[Reply], Reply] = lambda reply: reply
    error: Callable[[AttemptError], None] = lambda error: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sound, name)

    def parse(self, body: bytes, request: Request) -> Reply:
        try:
            return self.reply(self.sound.parse(body, request))
        except AttemptError as error:
            self.error(error)
            raise


def drop_usage(error: AttemptError) -> None:
    error.reply = None


def count_cached_twice(reply: Reply) -> Reply:
    usage = reply.usage
    if usage is None:
        return reply
    whole: dict[Any, TokenCount] = {}
    for count in usage.counts:
        if count.direction == "input" and count.kind == "fresh":
            cached = sum(
                other.tokens
                for other in usage.counts
                if other.kind == "cached" and other.modality == count.modality
            )
            count = replace(count, tokens=count.tokens + cached)
        whole[count.modality, count.direction, count.kind] = count
    return replace(reply, usage=replace(usage, counts=tuple(whole.values())))


def lose_reasoning(reply: Reply) -> Reply:
    usage = reply.usage
    if usage is None:
        return reply
    counts = tuple(count for count in usage.counts if count.kind != "reasoning")
    return replace(reply, usage=replace(usage, counts=counts))


class RoundedPrices(FixedPrices):
    """Prices to four decimals instead of six."""

    def rates(self, model: str, at: Any) -> Rates | None:
        rates = super().rates(model, at)
        if rates is None:
            return None
        sheet = {unit: replace(price, micros=price.micros // 100 * 100) for unit, price in rates.base.items()}
        return replace(rates, base=sheet)


class ForgetsEarlierCosts(Recorder):
    async def put(self, ended: Ended) -> None:
        if isinstance(ended, Outcome) and ended.item.row in self._tries:
            tries = self._tries[ended.item.row]
            self._tries[ended.item.row] = tries._replace(cost=None, cost_low=None, cost_high=None)
        await super().put(ended)


# --- every row once ---


class SkipsRows(Feed):
    """Rows get lost where one worker hands over to the next."""

    _handed_out = 0

    async def next(self) -> Item | BadRow | None:
        self._handed_out += 1
        if self._handed_out % 150 == 0:
            await super().next()
        return await super().next()


class NamesPartsAnew(SimulatedWriter):
    """A part that is made again stands beside the first, instead of in its place."""

    def write_part(self, sequence: int, part: Any) -> dict[str, bytes]:
        return super().write_part(sequence + 1_000_000 * (self._machine.session), part)


class LosesTheRest(SimulatedWriter):
    def write_rest(self, rest: Any) -> None:
        pass


class AsksDuplicates(Repeats):
    def first_row(self, request_key: str, row: int) -> int:
        return row


class AsksAgain(Repeats):
    def answered_by(self, request_key: str) -> str | None:
        return None


class ForgetsWhatEnded(SimulatedLedger):
    """A resumed run does not know which rows it had answered."""

    def sealed(self) -> list[Sealed]:
        return [sealed._replace(rows=b"", keys=b"") for sealed in super().sealed()]


# --- at the limit ---


class SleepsWithItsSlot(Gate):
    async def sleep(self, model: str, seconds: float) -> None:
        await self.acquire(model)
        try:
            await super().sleep(model, seconds)
        finally:
            self.release()


class ForgetsToRelease(Gate):
    _released = 0

    def release(self) -> None:
        self._released += 1
        if self._released % 40:
            super().release()


class IgnoresHolds(Gate):
    def hold(self, seconds: float) -> None:
        pass


class AdmitsOneTooMany(Gate):
    _has_grown = False

    async def acquire(self, model: str) -> None:
        if not self._has_grown:
            self._has_grown = True
            self._free += 1
        await super().acquire(model)


class KeepsAllItemsAlive(Run):
    async def _work_through(self) -> None:
        async with anyio.create_task_group() as workers:
            for _ in range(10 * self.gate.slots):
                self._workers += 1
                workers.start_soon(self._work)

    async def _work(self) -> None:
        while (row := await self._next()) is not None:
            await self._recorder.put(await self._end(row))


class NewKeyEachTime(Recorder):
    def idempotency_key(self, row: int) -> str:
        return f"{super().idempotency_key(row)}-{self._next_ticket}"


# --- it stops when it should, and only then ---


class HaltsOnOneOddRow(HaltRules):
    def halts_model(self, model: str, error: AttemptError) -> bool:
        return super().halts_model(model, error) or error.http_status in (400, 403)


class NeverHalts(HaltRules):
    def halts_model(self, model: str, error: AttemptError) -> bool:
        return False


class NeverGivesUp(HaltRules):
    def halts_run(self, error: AttemptError) -> None:
        return None


class IgnoresSignals(Run):
    def stop(self, why: Any) -> None:
        self._stopped = why


class SaysDone(Run):
    @property
    def state(self) -> Any:
        return "done"


def sleep_with_slot(run: Run) -> None:
    gate: Gate = run.gate
    gate.__class__ = SleepsWithItsSlot
    sound = run._endpoint.retry
    # The policy was given the sound gate's sleep.
    run._endpoint.retry = lambda model: sound(model).copy(sleep=partial(gate.sleep, model))


def retry_everything(endpoint: Endpoint) -> None:
    sound = endpoint.retry

    def policy(model: str) -> Any:
        retry = retry_if_result(lambda attempt: attempt.error is not None)
        return sound(model).copy(
            retry=retry, wait=wait_fixed(1), stop=lambda state: state.attempt_number >= 5
        )

    endpoint.retry = policy


# --- planting ---


@dataclass
class Bug(Sound):
    """One planted bug; ``promises`` are those that it breaks, of which any may show first."""

    name: str
    promises: Sequence[str]
    change: Callable[[Run], None] = lambda run: None
    ledger: type[SimulatedLedger] = SimulatedLedger
    writer: type[SimulatedWriter] = SimulatedWriter

    def plant(self, run: Run) -> None:
        self.change(run)


def _as(of: str, kind: type) -> Callable[[Run], None]:
    """Make what a run has at this place one of that class."""

    def change(run: Run) -> None:
        place: Any = run
        for name in of.split("."):
            if name:
                place = getattr(place, name)
        place.__class__ = kind

    return change


def _set(name: str, make: Callable[[Any], Any]) -> Callable[[Run], None]:
    """Exchange something of the run's endpoint."""

    def change(run: Run) -> None:
        setattr(run._endpoint, name, make(getattr(run._endpoint, name)))

    return change


BUGS = (
    Bug("counts before it commits", [PAID], _as("_recorder", CountsBeforeCommit)),
    Bug("does not record what it sends", [PAID], _as("_recorder", DoesNotRecordSent)),
    Bug("sends before that is on record", [PAID], _as("_recorder", SendsBeforeItIsOnRecord)),
    Bug("says written too soon", [PAID], ledger=SaysWrittenTooSoon),
    Bug("drops what could not be written", [PAID, ROWS], _as("_recorder", DropsWhatCouldNotBeWritten)),
    Bug("forgets what was under way", [PAID], ledger=ForgetsWhatWasUnderWay),
    Bug("seals a gap", [PAID, TWICE], _as("_recorder", SealsAGap)),
    Bug("stops committing", [LIMIT, ENDS], _as("_recorder", StopsCommitting)),
    Bug("calls resets not billed", [PAID], _as("_endpoint.transport", CallsResetsNotBilled)),
    Bug(
        "drops the usage of failed replies",
        [TOKENS, PAID],
        _set("dialect", lambda sound: _OtherDialect(sound, error=drop_usage)),
    ),
    Bug(
        "counts cached tokens twice",
        [TOKENS],
        _set("dialect", lambda sound: _OtherDialect(sound, count_cached_twice)),
    ),
    Bug(
        "loses reasoning tokens",
        [TOKENS],
        _set("dialect", lambda sound: _OtherDialect(sound, lose_reasoning)),
    ),
    Bug("rounds its prices", [TOKENS], _set("prices", lambda sound: RoundedPrices())),
    Bug("forgets the cost of earlier tries", [TOKENS], _as("_recorder", ForgetsEarlierCosts)),
    Bug("skips rows on hand-over", [ROWS], _as("_feed", SkipsRows)),
    Bug("names parts anew", [ROWS, PAID], writer=NamesPartsAnew),
    Bug("loses the rest", [ROWS], writer=LosesTheRest),
    Bug("asks duplicates", [ROWS], _as("_repeats", AsksDuplicates)),
    Bug("asks what was answered before", [TWICE], _as("_repeats", AsksAgain)),
    Bug("forgets what ended when it resumes", [TWICE, ROWS], ledger=ForgetsWhatEnded),
    Bug("sleeps with its slot", [LIMIT], sleep_with_slot),
    Bug("forgets to release a slot", [LIMIT], _as("gate", ForgetsToRelease)),
    Bug("admits one too many", [LIMIT], _as("gate", AdmitsOneTooMany)),
    Bug("keeps all items alive", [LIMIT], _as("", KeepsAllItemsAlive)),
    Bug("ignores holds", [HOLDS], _as("gate", IgnoresHolds)),
    Bug("makes a new key each time", [KEYS], _as("_recorder", NewKeyEachTime)),
    Bug("halts on one odd row", [STOPS], _as("_endpoint.rules", HaltsOnOneOddRow)),
    Bug("never halts", [STOPS], _as("_endpoint.rules", NeverHalts)),
    Bug("never gives up on a hopeless manifest", [STOPS], _as("_endpoint.rules", NeverGivesUp)),
    Bug("ignores signals", [STOPS], _as("", IgnoresSignals)),
    Bug("says done, whatever happened", [STOPS, ROWS, LIMIT, PAID], _as("", SaysDone)),
    Bug("tries terminal errors again", [TRIES], lambda run: retry_everything(run._endpoint)),
)


def seeds_needed(bug: Bug, seeds: Sequence[int]) -> tuple[int, str] | None:
    """How many of the seeds are played until the bug shows, and which promise tells; None: it hides."""
    for count, seed in enumerate(seeds, 1):
        try:
            play(seed, bug)
        except Broken as broken:
            return count, broken.promise
        except Exception:  # noqa: BLE001 - planted bugs surface in any way they like
            return count, "no bug surfaces"
    return None
