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

from pipeline.endpoints import Endpoint, Endpoints
from pipeline.errors import AttemptError, ConnectionLost, MediabatchError
from pipeline.gate import Entry as Admission
from pipeline.gate import Gate
from pipeline.gate.breaker import Breaker
from pipeline.gate.rates import WINDOW_S, PerMinute
from pipeline.halting import FirstAnswers, HaltRules
from pipeline.ledger import Group, InFlight, Sealed
from pipeline.pricing import Rates
from pipeline.recorder import Recorder
from pipeline.records import Attempt, BadRow, Ended, Item, Outcome, Reply, Request, TokenCount
from pipeline.repeats import Repeats
from pipeline.run import Feed, Run
from pipeline.sealing import Batch
from pipeline.store.rows import Entry
from pipeline.transport import Answer, Transport
from tests.simulation.bills import FixedPrices
from tests.simulation.broken import (
    CROWDS,
    ENDS,
    FAIR,
    HOLDS,
    KEYS,
    LIMIT,
    OUTAGES,
    PAID,
    PLACES,
    RATES,
    ROWS,
    STOPS,
    TOKENS,
    TRIES,
    TWICE,
    Broken,
)
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


class ForgetsToRelease(Gate):
    _released = 0

    def leave(self, *arguments: Any) -> None:
        super().leave(*arguments)
        self._released += 1
        if self._released % 40 == 0:
            self.in_use += 1


class IgnoresHolds(Gate):
    def hold(self, seconds: float) -> None:
        pass


class AdmitsOneTooMany(Gate):
    _has_grown = False

    async def enter(self, item: Item, *, is_first: bool = True) -> Admission:
        if not self._has_grown:
            self._has_grown = True
            self.slots.limit += 1
        return await super().enter(item, is_first=is_first)


class LeaksWhenCancelled(Gate):
    """A slot is lost where a waiter is cancelled."""

    async def enter(self, item: Item, *, is_first: bool = True) -> Admission:
        try:
            return await super().enter(item, is_first=is_first)
        except anyio.get_cancelled_exc_class():
            self.in_use += 1
            raise


class KeepsAllItemsAlive(Run):
    async def _work_through(self) -> None:
        async with anyio.create_task_group() as workers:
            for _ in range(10 * self.endpoints.slots):
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


class NeverGivesUp(FirstAnswers):
    def failed(self, error: AttemptError) -> None:
        return None


class IgnoresSignals(Run):
    def stop(self, why: Any) -> None:
        self._stopped = why


class SaysDone(Run):
    @property
    def state(self) -> Any:
        return "done"


def sleep_with_slot(run: Run) -> None:
    endpoints, sound = run.endpoints, run.endpoints.retry
    gate = next(iter(endpoints)).gate

    async def sleep(model: str, seconds: float) -> None:
        gate.in_use += 1
        try:
            await endpoints.sleep(model, seconds)
        finally:
            gate.in_use -= 1
            gate._rouse()

    endpoints.retry = lambda model: sound(model).copy(sleep=partial(sleep, model))


def retry_everything(run: Run) -> None:
    sound = run.endpoints.retry

    def policy(model: str) -> Any:
        retry = retry_if_result(lambda attempt: attempt.error is not None)
        return sound(model).copy(
            retry=retry, wait=wait_fixed(1), stop=lambda state: state.attempt_number >= 5
        )

    run.endpoints.retry = policy


# --- told limits, fairness, stampedes ---


class RemembersNoMinute(PerMinute):
    def take(self, amount: float, now_s: float) -> None:
        self._pass(now_s)
        self._level -= amount


class RefillsTooFast(RemembersNoMinute):
    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._per_s *= 1.3


class ForgetsTheBurst(RemembersNoMinute):
    """The whole limit is refilled each minute, and what may go at once comes on top."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._per_s = limit / WINDOW_S


class NeverSettles(PerMinute):
    """What was taken as an estimate stays so, whatever was used."""

    def settle(self, taken: float, used: float, at_s: float) -> None:
        pass


class ReadsNoHeaders(Gate):
    def _read(self, entry: Admission, headers: Any, now_s: float) -> None:
        pass


class LetsNewcomersPass(Gate):
    async def enter(self, item: Item, *, is_first: bool = True) -> Admission:
        self.check(item.request.model)
        tokens = self._need(item)
        return (
            self._admit(item, tokens, is_first)
            if self._delay_s(tokens) <= 0
            else await super().enter(item, is_first=is_first)
        )


class ForgetsTheSecond(Gate):
    """Where two wait, nobody is told that there is room."""

    def _rouse(self) -> None:
        if len(self._queue) != 2:
            super()._rouse()


class Stampedes(Gate):
    def _open_slots(self, now_s: float) -> float:
        return self.slots.limit


# --- outages ---


class NeverOpens(Breaker):
    def failed(self, now_s: float, **told: Any) -> None:
        pass


class ProbesInCrowds(Breaker):
    def delay_s(self, now_s: float) -> float:
        return self._probe_s - now_s if self.is_open else 0.0


class ClosesOnLateAnswers(Breaker):
    """What was sent before the outage, and answered in it, passes for its end."""

    def answered(self, now_s: float, *, is_probe: bool) -> None:
        super().answered(now_s, is_probe=True)


class LosesItsProbe(Breaker):
    """After a probe in vain nobody else may look."""

    def failed(self, now_s: float, **told: Any) -> None:
        if not self.is_open:
            super().failed(now_s, **told)


def burn_tries(run: Run) -> None:
    """Attempts count, outage or not."""
    sound = run.endpoints.retry

    def policy(model: str) -> Any:
        stop = sound(model).stop
        return sound(model).copy(stop=lambda state: state.attempt_number >= 5 or stop(state))

    run.endpoints.retry = policy


def wait_times(factor: float) -> Callable[[Run], None]:
    """Be patient for so many times as long as told."""

    def change(run: Run) -> None:
        for one in run.endpoints:
            limits = one.gate.limits
            one.gate.limits = replace(limits, max_outage_s=limits.max_outage_s * factor)

    return change


# --- several endpoints, fallbacks ---


class ForgetsItsHalts(Gate):
    def serves(self, model: str) -> bool:
        return not self._is_closed and self._down is None


class AsksTheDead(Gate):
    def serves(self, model: str) -> bool:
        return not self._is_closed and model not in self._halted


class NeverGoesElsewhere(Endpoints):
    def _choose(self, me: Any) -> tuple[Endpoint, bool]:
        return next(one for one in self if one.serves(me.item.request.model)), True

    def _call(self) -> None:
        pass


class WaitsWithEverybody(Endpoints):
    """An endpoint lies idle while all workers wait for another one, which alone serves their models."""

    def _is_of_no_use_elsewhere(self, model: str) -> bool:
        return False


class NamesTheFirstEndpoint(Recorder):
    def tried(self, row: int, item_id: str, attempt: Attempt) -> None:
        super().tried(row, item_id, replace(attempt, endpoint="https://endpoint.example/v1"))

    async def put(self, ended: Ended) -> None:
        if isinstance(ended, Outcome):
            ended = replace(ended, last=replace(ended.last, endpoint="https://endpoint.example/v1"))
        await super().put(ended)


def fall_back_anyhow(run: Run) -> None:
    """To another model than the one named for this error."""
    run.endpoints.fallbacks = dict.fromkeys(run.endpoints.fallbacks, "a-model")


def never_fall_back(run: Run) -> None:
    run.endpoints.fallbacks = {}


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


def _each(of: str, kind: type) -> Callable[[Run], None]:
    """Make what each endpoint has at this place, if it has it, one of that class."""

    def change(run: Run) -> None:
        for one in run.endpoints:
            place: Any = one
            for name in of.split("."):
                place = getattr(place, name)
            if place is not None:
                place.__class__ = kind

    return change


def _set(name: str, make: Callable[[Any], Any]) -> Callable[[Run], None]:
    """Exchange something of each endpoint."""

    def change(run: Run) -> None:
        for one in run.endpoints:
            setattr(one, name, make(getattr(one, name)))

    return change


def _meters(kind: type) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        _each("gate._requests", kind)(run)
        _each("gate._tokens", kind)(run)

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
    Bug("calls resets not billed", [PAID], _each("transport", CallsResetsNotBilled)),
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
    Bug("asks duplicates", [ROWS], _as("_sorting._repeats", AsksDuplicates)),
    Bug("asks what was answered before", [TWICE], _as("_sorting._repeats", AsksAgain)),
    Bug("forgets what ended when it resumes", [TWICE, ROWS], ledger=ForgetsWhatEnded),
    Bug("sleeps with its slot", [LIMIT], sleep_with_slot),
    Bug("forgets to release a slot", [LIMIT], _each("gate", ForgetsToRelease)),
    Bug("admits one too many", [LIMIT], _each("gate", AdmitsOneTooMany)),
    Bug("keeps all items alive", [LIMIT, ENDS], _as("", KeepsAllItemsAlive)),
    Bug("ignores holds", [HOLDS], _each("gate", IgnoresHolds)),
    Bug("makes a new key each time", [KEYS], _as("_recorder", NewKeyEachTime)),
    Bug("halts on one odd row", [STOPS], _each("rules", HaltsOnOneOddRow)),
    Bug("never halts", [STOPS, PLACES], _each("rules", NeverHalts)),
    Bug("never gives up on a hopeless manifest", [STOPS], _as("_first_answers", NeverGivesUp)),
    Bug("ignores signals", [STOPS], _as("", IgnoresSignals)),
    Bug("says done, whatever happened", [STOPS, ROWS, LIMIT, PAID], _as("", SaysDone)),
    Bug("tries terminal errors again", [TRIES], retry_everything),
    Bug("leaks a slot when cancelled", [LIMIT], _each("gate", LeaksWhenCancelled)),
    Bug("refills its buckets too fast", [RATES], _meters(RefillsTooFast)),
    Bug("forgets the burst in the window", [RATES], _meters(ForgetsTheBurst)),
    Bug("never settles its estimates", [RATES], _meters(NeverSettles)),
    Bug("reads no headers", [RATES], _each("gate", ReadsNoHeaders)),
    Bug("lets newcomers pass", [FAIR], _each("gate", LetsNewcomersPass)),
    Bug("forgets the second in line", [LIMIT, ENDS], _each("gate", ForgetsTheSecond)),
    Bug("stampedes after a hold", [CROWDS], _each("gate", Stampedes)),
    Bug("never sees an outage", [OUTAGES], _each("gate._breaker", NeverOpens)),
    Bug("sends probes in crowds", [OUTAGES], _each("gate._breaker", ProbesInCrowds)),
    Bug(
        "takes late answers for the end of an outage", [OUTAGES], _each("gate._breaker", ClosesOnLateAnswers)
    ),
    Bug("loses its probe", [OUTAGES], _each("gate._breaker", LosesItsProbe)),
    Bug("burns tries in an outage", [OUTAGES, STOPS], burn_tries),
    Bug("gives an endpoint up too soon", [OUTAGES], wait_times(0.25)),
    Bug("never gives an endpoint up", [OUTAGES, STOPS, PLACES], wait_times(1e9)),
    Bug("keeps asking a halted endpoint", [PLACES, STOPS, TRIES], _each("gate", ForgetsItsHalts)),
    Bug("keeps asking a dead endpoint", [PLACES], _each("gate", AsksTheDead)),
    Bug("never goes elsewhere", [LIMIT], _as("endpoints", NeverGoesElsewhere)),
    Bug("waits with everybody", [LIMIT], _as("endpoints", WaitsWithEverybody)),
    Bug("names the first endpoint, whoever answered", [PLACES], _as("_recorder", NamesTheFirstEndpoint)),
    Bug("falls back to another model", [TRIES], fall_back_anyhow),
    Bug("never falls back", [TRIES], never_fall_back),
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
