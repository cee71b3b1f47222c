"""Promises about how a session behaves: what it asks, how many at once, when it waits, and when it stops.

`Watch` looks on while it runs; `check_conduct` judges a session that is over.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import trio

from jobs.summary import exit_code
from pipeline.run import LIVE_PER_SLOT, Run
from pipeline.store.schemas import RESULTS
from pipeline.tally import Tally
from tests.simulation.broken import HOLDS, KEYS, LIMIT, PAID, ROWS, STOPS, TRIES, TWICE, Broken
from tests.simulation.endpoint import Asked, Wire

if TYPE_CHECKING:
    from tests.simulation.nights import Evidence, Session

_FINISHED_AT = RESULTS.names().index("finished_at")

IDLE_S = 4.0
HALTS_IN_A_ROW = 5
FIRST_ANSWERS = 20


class Watch:
    """Looks at every request as it arrives, every write as it begins, and at the slots now and then."""

    def __init__(self, evidence: Evidence, session: Session, run: Run, tally: Tally, wire: Wire) -> None:
        self._session = session
        self._records = records = evidence.records
        self._keys = evidence.keys
        self._run = run
        self._tally = tally
        self._wire = wire
        self._slots = run.gate.slots
        answered = self._answered = records.answered_rows(but_run=session.run_id)
        self._rows = {row.prompt: row for row in session.rows if row.kind == "asked"}
        self._to_ask = {
            row.prompt
            for row in self._rows.values()
            if row.number not in answered and (session.run_id, row.number) not in records.results
        }
        self._duplicates = [row for row in session.rows if row.kind == "duplicate"]
        self._free_since_s = deque([trio.current_time()] * self._slots)  # slots that nobody uses
        wire.on_departure = lambda: self._free_since_s.append(trio.current_time())

    def on_arrival(self, asked: Asked) -> None:
        """A request may come only if all this is true."""
        session, records = self._session, self._records
        row = self._rows.get(asked.prompt)
        if row is None or asked.model != row.model:
            raise Broken(ROWS, f"{asked.prompt} was asked of {asked.model}, which no row asks")
        asked.row = row.number
        asked.run_id = session.run_id
        place = (session.run_id, row.number)
        if place in records.results:
            raise Broken(TWICE, f"row {place} is asked again, its end is on record")
        if row.number in self._answered:
            raise Broken(TWICE, f"row {place} is asked, an earlier run had it answered")
        if not records.may_go(place):
            for twin in self._duplicates:
                if twin.first == row.number and records.may_go((session.run_id, twin.number)):
                    raise Broken(ROWS, f"row {twin.number} is asked, as row {row.number} was")
            raise Broken(PAID, f"row {place} is asked without being on record as sent")
        keys = self._keys
        if keys.setdefault(place, asked.key) != asked.key or keys.setdefault(asked.key, place) != place:
            raise Broken(KEYS, f"row {place} came with {asked.key!r}")
        self._to_ask.discard(asked.prompt)
        if self._wire.in_flight > self._slots:
            raise Broken(LIMIT, f"{self._wire.in_flight} in flight with {self._slots} slots")
        self._free_since_s.popleft()
        live = self._wire.in_flight + self._run.gate.asleep
        if live > LIVE_PER_SLOT * self._slots:
            raise Broken(LIMIT, f"{live} items live with {self._slots} slots")

    def before_write(self) -> None:
        """Nothing is counted that is not on record."""
        run_id, records, tally = self._session.run_id, self._records, self._tally
        if tally.attempts > records.attempts_of[run_id]:
            raise Broken(PAID, f"attempt {tally.attempts} is counted before it is written")
        if tally.ok + tally.failed > records.results_of[run_id]:
            raise Broken(PAID, "an outcome is counted before it is written")

    async def follow(self) -> None:
        """While there is work and nothing in its way, no slot may lie idle."""
        free = self._free_since_s
        times_seen = 0
        while True:
            now_s = trio.current_time()
            if not self._could_ask():
                for _ in range(len(free)):
                    free.popleft()
                    free.append(now_s)
            idle_s = now_s - max(free[0], self._wire.held_until_s) if free else 0.0
            times_seen = times_seen + 1 if idle_s > IDLE_S else 0
            if times_seen == 2:
                raise Broken(
                    LIMIT,
                    f"a slot was free for {idle_s:g} s, with {len(self._to_ask)} rows to ask, "
                    f"{self._run.gate.asleep} asleep, and no hold",
                )
            await trio.sleep(IDLE_S / 2)

    def _could_ask(self) -> bool:
        wire, slots = self._wire, self._slots
        return (
            self._run.state == "done"
            and bool(self._to_ask)
            and wire.in_flight < slots
            and self._run.gate.asleep <= (LIVE_PER_SLOT - 1) * slots
            and trio.current_time() >= wire.held_until_s
        )


def check_conduct(evidence: Evidence, session: Session, sent_at_us: dict[int, int]) -> None:
    """Judge a session that is over. ``sent_at_us``: when each request (by number) was admitted.

    Raises:
        Broken: it did what it should not, or left what it should do.
    """
    asked = evidence.asked_in(session)
    _check_holds(asked, sent_at_us)
    _check_tries(evidence, asked)
    halts = _Oracle(evidence, session, asked)
    for one in asked:
        admitted_us = sent_at_us[one.number]
        for model, (halted_us, why) in halts.halted.items():
            if model in (None, one.model) and admitted_us > halted_us:
                raise Broken(STOPS, f"{one.prompt} was admitted after {model} halted: {why}")
        if session.is_stopped_at_us is not None and admitted_us > session.is_stopped_at_us:
            raise Broken(STOPS, f"{one.prompt} was admitted after the signal")
    _check_hopeless_start(session, asked)
    if session.summary is not None:
        _check_state(evidence, session, halts)


def _check_holds(asked: list[Asked], sent_at_us: dict[int, int]) -> None:
    holds = [
        (one.done_us, one.done_us + round(one.hold_s * 1e6)) for one in asked if one.hold_s and one.done_us
    ]
    if not holds:
        return
    for one in asked:
        admitted_us = sent_at_us[one.number]
        for begins_us, ends_us in holds:
            if begins_us < admitted_us < ends_us - 10:  # rounded to microseconds, several times
                wait_s = (ends_us - admitted_us) / 1e6
                raise Broken(HOLDS, f"{one.prompt} was admitted {wait_s:.3f} s too soon")


def _check_tries(evidence: Evidence, asked: list[Asked]) -> None:
    """A row is asked again only after what may pass, and no more often than the rules say."""
    most = evidence.scenario.retry.max_attempts
    before: dict[int, list[Asked]] = {}
    for one in asked:
        earlier = before.setdefault(one.row, [])
        if earlier:
            fate = earlier[-1].fate
            alike = sum(other.fate.error_class == fate.error_class for other in earlier)
            if fate.verdict != "transient" or len(earlier) >= most or alike == fate.max_tries:
                raise Broken(TRIES, f"{one.prompt} was asked after {alike} x {fate.name}")
        earlier.append(one)


def _check_hopeless_start(session: Session, asked: list[Asked]) -> None:
    for_good = session.scenario.weather.for_good
    if for_good is None or for_good[0] > 0:
        return
    for model, count in Counter(one.model for one in asked).items():
        if count > session.scenario.slots:
            raise Broken(STOPS, f"{count} requests of {model}, though all were refused from the start")


class _Oracle:
    """What the rules of halting, as they are written, make of a session's answers.

    ``halted``: model → (since when, why); None is the whole run. ``is_sure``: every item's last answer is
    known to be its last.
    """

    def __init__(self, evidence: Evidence, session: Session, asked: list[Asked]) -> None:
        self.halted: dict[str | None, tuple[int, str]] = {}
        self.caught: set[int] = set()  # rows caught in a halt: not attempted
        self.is_sure = True
        self._results = evidence.records.results
        self._session = session
        self._most = evidence.scenario.retry.max_attempts
        by_row: dict[int, list[Asked]] = {}
        for one in asked:
            by_row.setdefault(one.row, []).append(one)
        ends = [attempts[-1] for attempts in by_row.values() if self._is_end(attempts)]
        self._judge(sorted(ends, key=lambda one: one.done_us))

    def _is_end(self, attempts: list[Asked]) -> bool:
        last = attempts[-1]
        if not last.is_delivered:
            return False
        fate = last.fate
        if fate.verdict != "transient" or len(attempts) >= self._most:
            return True
        alike = sum(one.fate.error_class == fate.error_class for one in attempts)
        if fate.max_tries is not None and alike >= fate.max_tries:
            return True
        if self.ended_here(last.row):
            return True  # its time was over
        # Caught by a stop between two attempts; only where the time of patience ran out could it be its end.
        span_s = (last.done_us - attempts[0].at_us) / 1e6
        if fate.then_halts and span_s > 1_700:
            self.is_sure = False
        return False

    def ended_here(self, row: int) -> bool:
        """Whether the row's end was recorded in this session, and not in a later one of the run."""
        result = self._results.get((self._session.run_id, row))
        return result is not None and result[_FINISHED_AT] <= self._session.ends_us

    def _judge(self, ends: list[Asked]) -> None:
        succeeded: set[str] = set()
        in_a_row: Counter[str] = Counter()
        first_class: str | None = None
        answers = 0
        for end in ends:
            fate, model = end.fate, end.model
            if fate.verdict == "ok":
                succeeded.add(model)
                in_a_row[model] = 0
                answers = FIRST_ANSWERS
                continue
            if fate.verdict == "halting" or fate.then_halts:
                in_a_row[model] += 1
                if model not in succeeded or in_a_row[model] >= HALTS_IN_A_ROW:
                    self.halted.setdefault(model, (end.done_us, fate.error_class or ""))
                if model in self.halted:
                    self.caught.add(end.row)
                    continue
            else:
                in_a_row[model] = 0
            if answers >= FIRST_ANSWERS or not fate.is_alike_evidence:
                continue
            if first_class not in (None, fate.error_class):
                answers = FIRST_ANSWERS
                continue
            first_class = fate.error_class
            answers += 1
            if answers == FIRST_ANSWERS:
                self.halted[None] = (end.done_us, "AllAlike")


def _check_state(evidence: Evidence, session: Session, oracle: _Oracle) -> None:
    summary = session.summary
    assert summary is not None
    told = {(halt.model, halt.error_class) for halt in summary.halts}
    disk = {(model, name) for model, name in told if name == "StoreUnwritable"}
    if disk and not (session.ledger_faults or session.store_faults):
        raise Broken(STOPS, "it halted for its disk, which was well")
    expected = {(model, why) for model, (_, why) in oracle.halted.items()}
    if disk:
        expected.discard((None, "AllAlike"))  # one reason to halt the whole run is told, the first
    if oracle.is_sure and told - disk != expected:
        raise Broken(STOPS, f"it halted for {told - disk}, the rules say {expected}")
    for row in oracle.caught:
        if oracle.is_sure and oracle.ended_here(row):
            raise Broken(STOPS, f"row {row} was caught in a halt, and yet it failed")
    why = session.scenario.stop.why if session.scenario.stop else None
    state: Any = summary.state
    was_stopped = session.is_stopped_at_us is not None
    if state in ("interrupted", "deadline") and not (was_stopped and state == why):
        raise Broken(STOPS, f"the state is {state}, the stop was {why}")
    if state == "halted" and not told:
        raise Broken(STOPS, "it halted for no reason that it tells")
    if state == "done" and (told or summary.tally.not_attempted):
        raise Broken(STOPS, "it is done, with halts or rows not attempted")
    code = {"interrupted": 130, "halted": 3, "deadline": 4}.get(state)
    if code is None:
        code = 5 if summary.tally.failed else 0
    if exit_code(summary, session.plan) != code:
        raise Broken(STOPS, f"exit code {exit_code(summary, session.plan)}, not {code}")
