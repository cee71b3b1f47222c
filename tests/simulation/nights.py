"""Plays one night: the real `launch`, session after session, in simulated surroundings.

What happened is gathered as `Evidence`; whether the promises were kept is `promises` and `conduct`'s to say.
"""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import trio
from trio.testing import MockClock

from pipeline.errors import MediabatchError
from pipeline.launch import launch
from pipeline.plan import EndpointPlan, Plan, Secrets, plan_of
from pipeline.run import Run, Summary
from pipeline.store.reader import has_run, run_facts
from pipeline.store.rows import micros
from pipeline.surroundings import Surroundings
from pipeline.tally import Tally
from pipeline.transport import Timeouts, Transport, WireSettings
from tests.simulation.bills import FixedPrices
from tests.simulation.broken import ENDS, Broken
from tests.simulation.endpoint import Account, Asked, Wire
from tests.simulation.machine import (
    Crash,
    Machine,
    Records,
    SimulatedLedger,
    SimulatedWriter,
    open_ledger,
)
from tests.simulation.manifests import Row, signed_again, write_rows
from tests.simulation.promises import check_all
from tests.simulation.scenarios import GHOST, Scenario, SessionScenario, Stop, make_scenario
from tests.simulation.watch import Watch

START = datetime(2026, 3, 5, 22, 0, tzinfo=UTC)
LONGEST_NIGHT_S = 200_000.0
LONGEST_REAL_S = 60
KEY = "sk-simulated-0123456789"


@dataclass
class Session:
    """One session as it went. Seconds and microseconds on the clock of the night."""

    number: int
    run_id: str
    rows: tuple[Row, ...]
    scenario: SessionScenario
    begins_us: int
    plan: Plan
    ends_us: int = 0
    summary: Summary | None = None
    refusal: MediabatchError | None = None  # it never began
    is_crashed: bool = False
    is_stopped_at_us: int | None = None  # a signal or the deadline came while it ran
    is_cut: bool = False  # what was in flight was not waited for
    ledger_faults: int = 0
    store_faults: int = 0
    faults_at_finish: int = 0
    could_not_record: bool = False  # what arrived last
    most_slots: dict[str, int] = field(default_factory=dict)  # by endpoint, at any moment

    @property
    def may_lose(self) -> bool:
        """Whether answers may have arrived, or been under way, that nobody could put on record."""
        return self.is_crashed or self.is_cut or self.could_not_record


@dataclass
class Evidence:
    """All there is to know of a night that is over."""

    seed: int
    scenario: Scenario
    out: Path
    account: Account
    records: Records = field(default_factory=Records)
    sessions: list[Session] = field(default_factory=list)
    keys: dict[Any, Any] = field(default_factory=dict)  # (run, row, model) → idempotency key, and back

    def asked_in(self, session: Session) -> list[Asked]:
        return [asked for asked in self.account.asked if asked.session == session.number]


class Sound:
    """Nothing is planted: the surroundings as they should be. `planted` has those that are not."""

    ledger: type[SimulatedLedger] = SimulatedLedger
    writer: type[SimulatedWriter] = SimulatedWriter

    def plant(self, run: Run) -> None:
        """Called with every live run before it begins."""


def play(seed: int, bugs: Sound | None = None) -> Evidence:
    """Play a seed's night to its end.

    Raises:
        Broken: a promise was broken while it ran. ``evidence`` is on it.
    """
    rng = random.Random(f"{seed}/scenario")
    scenario = make_scenario(rng)
    # On memory where there is some: it is the order of writes that matters here, not the disk.
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    home = Path(tempfile.mkdtemp(prefix=f"night-{seed}-", dir=folder))
    account = Account(scenario.oddities, scenario.odd_of, GHOST)
    evidence = Evidence(seed, scenario, home / "out", account)
    try:
        with _deterministic(seed), _real_time_limit():
            _Night(evidence, home, bugs or Sound()).play()
            check_all(evidence)
    except Broken as broken:
        broken.evidence = evidence
        raise
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return evidence


class _Night:
    def __init__(self, evidence: Evidence, home: Path, bugs: Sound) -> None:
        self.evidence = evidence
        self.home = home
        self.bugs = bugs
        self.now_us = micros(START)

    def play(self) -> None:
        scenario = self.evidence.scenario
        if scenario.earlier_rows:
            rows = [signed_again(row) for row in scenario.rows[: scenario.earlier_rows]]
            self._session("run-0", rows, write_rows(rows, self.home, "earlier", "csv"), scenario.earlier)
        manifest = write_rows(scenario.rows, self.home, "manifest", scenario.ending)
        number = 1
        for session in scenario.sessions:
            run_id = f"run-{number}"
            told = self._session(run_id, scenario.rows, manifest, session)
            if self.state_of(run_id) == "done":
                break
            if session.damages_a_part and (session.goes_on or self.state_of(run_id) == "running"):
                self._damage_a_part(told)
            if not session.goes_on:
                number += 1

    def state_of(self, run_id: str) -> str | None:
        out = self.evidence.out
        return run_facts(out, run_id)["state"] if has_run(out, run_id) else None

    def _damage_a_part(self, session: Session) -> None:
        parts = sorted(self.evidence.out.glob(f"*/date=*/run={session.run_id}/part-*.parquet"))
        if not parts:
            return
        rng = random.Random(f"{self.evidence.seed}/damage/{session.number}")
        part = rng.choice(parts)
        content = bytearray(part.read_bytes())
        match rng.randrange(3):
            case 0:
                part.unlink()
            case 1:
                part.write_bytes(content[: rng.randrange(len(content))])
            case _:
                content[rng.randrange(len(content))] ^= 0xFF
                part.write_bytes(content)

    def _session(
        self, run_id: str, rows: Sequence[Row], manifest: Path, scenario: SessionScenario
    ) -> Session:
        evidence = self.evidence
        plan = self._plan(run_id, manifest, scenario)
        session = Session(len(evidence.sessions) + 1, run_id, tuple(rows), scenario, self.now_us, plan)
        evidence.sessions.append(session)
        rng = random.Random(f"{evidence.seed}/session/{session.number}")
        machine = Machine(session.number, scenario.misfortune, rng, evidence.records)
        played = _PlayedSession(self, session, machine, rng, plan)
        clock = MockClock(autojump_threshold=0)
        anyio.run(played.play, backend="trio", backend_options={"clock": clock})
        session.ledger_faults = machine.faults.count("ledger")
        session.store_faults = machine.faults.count("store")
        session.faults_at_finish = machine.faults_at_finish
        session.could_not_record = machine.could_not_record
        session.most_slots = played.watch.most_slots if played.watch else {}
        self.now_us = session.ends_us + 3_600_000_000
        return session

    def _plan(self, run_id: str, manifest: Path, scenario: SessionScenario) -> Plan:
        """As `run` makes it, or, where the run was begun, as `resume` does."""
        evidence = self.evidence
        seconds = evidence.scenario.timeout_s
        if has_run(evidence.out, run_id):
            plan = plan_of(run_facts(evidence.out, run_id), evidence.out)
        else:
            plan = Plan(
                run_id=run_id,
                job="captions",
                manifest=str(manifest),
                out=evidence.out,
                endpoints=(),
                model="a-model",
                prompt="What is it?",
                parameters={"max_tokens": 9},
                fallbacks=evidence.scenario.fallbacks,
                started_at=START + timedelta(microseconds=self.now_us - micros(START)),
                timezone=ZoneInfo("UTC"),
            )
        timeouts = Timeouts(connect_s=10.0, read_s=seconds, total_s=seconds)
        return replace(
            plan,
            endpoints=tuple(
                EndpointPlan(one.name, "newapi", one.models, one.slots, one.rpm, one.tpm)
                for one in scenario.places
            ),
            max_outage_s=evidence.scenario.max_outage_s,
            retry=evidence.scenario.retry,
            timeouts=timeouts,
        )


class _PlayedSession:
    def __init__(
        self, night: _Night, session: Session, machine: Machine, rng: random.Random, plan: Plan
    ) -> None:
        self.night = night
        self.session = session
        self.machine = machine
        self.rng = rng
        self.plan = plan
        self.watch: Watch | None = None
        self.wires = {
            place.name: Wire(
                night.evidence.account,
                session.number,
                place,
                rng,
                self.now_us,
                plan.timeouts.total_s,
                self.on_arrival,
            )
            for place in session.scenario.places
        }

    def now(self) -> datetime:
        return START + timedelta(microseconds=self.now_us() - micros(START))

    def now_us(self) -> int:
        return self.session.begins_us + round(trio.current_time() * 1_000_000)

    def on_arrival(self, asked: Asked) -> None:
        self.machine.check()
        assert self.watch is not None, "a request before the run began"
        self.watch.on_arrival(asked)

    @asynccontextmanager
    async def reach(self, settings: WireSettings) -> AsyncIterator[Transport]:
        async with Transport(
            settings, self.wires[settings.url.removesuffix("/chat/completions")]
        ) as transport:
            yield transport

    def world(self) -> Surroundings:
        bugs = self.night.bugs
        return Surroundings(
            off_loop=self.machine.off_loop,
            own_thread=lambda: nullcontext(self.machine.off_loop),
            reach=self.reach,
            price_book=FixedPrices,
            now=self.now,
            clock=trio.current_time,
            open_ledger=partial(open_ledger, self.machine, bugs.ledger),
            run_writer=partial(bugs.writer, self.machine),
            part_items=self.night.evidence.scenario.part_items,
        )

    async def play(self) -> None:
        """The session, until it ends or its machine dies."""
        session = self.session
        at_once = anyio.CancelScope()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.machine.die_in_time)

                def on_start(run: Run, tally: Tally, notes: Sequence[str]) -> None:
                    self.night.bugs.plant(run)
                    self.watch = Watch(self.night.evidence, session, run, tally, self.wires)
                    self.machine.before_write = self.watch.before_write
                    tasks.start_soon(self.watch.follow)
                    if session.scenario.stop is not None:
                        tasks.start_soon(self._stop, run, session.scenario.stop, at_once)

                with anyio.fail_after(LONGEST_NIGHT_S):
                    try:
                        session.summary = await launch(
                            self.plan,
                            Secrets(api_key=KEY),
                            on_start=on_start,
                            at_once=at_once,
                            world=self.world(),
                        )
                    except MediabatchError as refusal:
                        session.refusal = refusal
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            others = group.split(Crash)[1]
            if others is not None:
                error = _most_telling(others)
                if isinstance(error, TimeoutError):
                    raise Broken(ENDS, f"session {session.number} took {LONGEST_NIGHT_S:g} s") from None
                raise error from None
        except Crash:
            pass
        finally:
            session.is_crashed = not self.machine.is_alive
            session.ends_us = self.now_us()

    async def _stop(self, run: Run, stop: Stop, at_once: anyio.CancelScope) -> None:
        await anyio.sleep(stop.at_s)
        self.session.is_stopped_at_us = self.now_us()
        run.stop(stop.why)
        await anyio.sleep(stop.grace_s)
        self.session.is_cut = True
        at_once.cancel()


def _most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """A broken promise, where there is one, else the first of several errors."""
    errors = list(_leaves(group))
    return next((error for error in errors if isinstance(error, Broken)), errors[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """The same seed plays the same night: tenacity's jitter, and trio's order among tasks that are ready."""
    # trio's own hook for this, which pytest-trio uses as well; there is no public one.
    scheduler = trio._core._run
    state = random.getstate()
    random.seed(seed)
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def _real_time_limit() -> Iterator[None]:
    """Where every task waits for another one, virtual time stands still and only real time can tell."""

    def stuck(number: int, frame: FrameType | None) -> None:
        raise Broken(ENDS, f"nothing moves any more, and {LONGEST_REAL_S} s of real time are over")

    before = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(LONGEST_REAL_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
