"""A process that asks: rows come from elsewhere, and what is recorded goes there.

It runs the same `Run` and `analyze` as one machine does. Three things stand in for what it does not have:
`_Hand` for the manifest (rows that were handed to it), `_Line` for the ledger (groups are durable once the
owner of the run says so), `Leases` for what is global. It needs no store and no disk, so that a worker that
is lost takes nothing with it but what was under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import exp
from typing import Any

import anyio

from pipeline.asked import schema_of
from pipeline.budget import Budget, Cap, Ceilings
from pipeline.endpoints import Endpoints, Vitals
from pipeline.engines.leasing import Leases
from pipeline.engines.messages import (
    LEASE_S,
    RENEW_S,
    Asked,
    Farewell,
    Halted,
    Said,
    Setup,
    Told,
    unpack,
)
from pipeline.engines.reaching import reach_all
from pipeline.errors import MediabatchError
from pipeline.gate import Gate, Limits
from pipeline.ledger import Group, InFlight
from pipeline.media.spool import Spool
from pipeline.plan import EndpointPlan
from pipeline.recorder import Recorder
from pipeline.records import EMBEDDED, BadRow, Ended, Item, NotAttempted
from pipeline.run import Halt, Run
from pipeline.store.resting import Duplicates, Rest
from pipeline.store.rows import NO_TRIES, Writing
from pipeline.surroundings import THE_REAL_ONES, Surroundings
from pipeline.tally import Tally

LEAST_ROWS = 16
"""At hand and not begun, at least; no more until it shows how fast they go, for others are to have some."""
AHEAD = 2
"""So many times as many as were begun of late are at hand."""
LATELY_S = 0.25
USUALLY_LATE_S = 0.1
"""Until what was admitted goes; what is more than that shortens the leases."""
FORGETS = 0.9
"""What counts of an earlier delay, each time a lease is asked for."""


class Worker:
    """One of those that ask for a run. `execute` it, and `talk` to it meanwhile, one exchange at a time."""

    def __init__(self, setup: Setup, world: Surroundings = THE_REAL_ONES) -> None:
        self._setup = setup
        self._world = world
        self._hand = _Hand(self._speak_up)
        self._line = _Line(self._speak_up)
        self._schema = schema_of(setup.plan)
        self._run: Run | None = None
        self._recorder: Recorder | None = None
        self._leases: Leases | None = None
        self._asked_s: float | None = None
        self._rested: list[tuple[str, int]] = []
        self._halts: set[tuple[str, str | None]] = set()  # said, or told
        self._succeeded: set[tuple[str, str]] = set()
        self._farewell: Farewell | None = None
        self._failure: Exception | None = None
        self._something = anyio.Event()
        self._is_ready = anyio.Event()

    async def execute(self) -> None:
        """Ask for what is handed over, until nothing more will be."""
        try:
            await self._execute()
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._is_ready.set()
            self._speak_up()

    async def talk(self, told: Told) -> Said:
        """Do as told, and say what there is to say as soon as there is anything.

        Raises:
            whatever ended the run here: a bug.
        """
        await self._is_ready.wait()
        if self._run is not None:
            self._do(told, self._run)
        await anyio.sleep(told.pause_s)
        with anyio.move_on_after(self._until_asking_s()):
            while not (self._has_something or self._failure):
                await self._something.wait()
                self._something = anyio.Event()
        if self._failure is not None:
            raise self._failure
        return self._say()

    async def _execute(self) -> None:
        plan, prices, world = self._setup.plan, self._setup.prices, self._world
        budget = None
        if self._setup.has_budget:
            currency = prices.currency(plan)
            assert currency is not None  # it was checked
            books = [(prices.of_endpoint[one.name], frozenset(one.models)) for one in plan.endpoints]
            budget = Budget([Cap(0, 0)], Ceilings(books, currency, world.now), world.now, is_leased=True)
        secrets = self._setup.secrets
        async with reach_all(plan, secrets, prices, budget, world, self._gate_of) as endpoints:
            recorder = self._recorder = Recorder(
                self._line,  # type: ignore[arg-type] # as much of a ledger as a recorder needs
                None,
                Writing(plan.run_id, plan.job, EMBEDDED if plan.is_rehearsal else None),
                Tally(),
                Rest(plan.run_id, plan.job),
                Duplicates(),
                flush_off_loop=self._line.ship,
                follow=self._follow,
            )
            run = self._run = Run(
                self._hand, endpoints, recorder, self._hand, stop_if_unseen=plan.stop_if_unseen
            )
            self._leases = Leases(endpoints)
            if endpoints.delivery.inliner is not None:
                self._hand.spool = endpoints.delivery.inliner.spool
            self._is_ready.set()
            await run.execute()
            self._farewell = Farewell(run.is_caught, run.levels, run.saved)

    def _gate_of(self, one: EndpointPlan) -> Gate:
        plan, world = self._setup.plan, self._world
        slots = self._setup.slots[one.name]
        limits = Limits(
            None if one.slots is None else max(1, slots or 0),
            one.rpm,
            one.tpm,
            plan.max_outage_s,
            slots if one.slots is None else None,
        )
        gate = Gate(
            limits,
            host=one.name,
            clock=world.clock,
            unix_clock=lambda: world.now().timestamp(),
            is_leased=True,
        )
        if one.slots is not None:
            gate.allow(slots or 0)
        return gate

    async def _follow(self, ended: Sequence[Ended]) -> None:
        self._rested += [(one.id, one.row) for one in ended if isinstance(one, NotAttempted)]
        if self._rested:
            self._speak_up()

    # The exchange

    def _do(self, told: Told, run: Run) -> None:
        assert self._recorder is not None
        assert self._leases is not None
        self._line.acknowledge(told.problem)
        rows = unpack(told.rows, self._schema)
        for row in rows:
            if row.tries != NO_TRIES:
                self._recorder.go_on_from(row.item.row, row.tries)
        self._hand.add(rows)
        endpoints = run.endpoints
        for halt in told.halts:
            self._halt(endpoints, halt)
        for name, model in told.succeeded:
            self._succeeded.add((name, model))
            run.answered_elsewhere()
            for one in endpoints:
                if one.name == name:
                    one.rules.ok(model)
        if told.granted is not None:
            late_s = max(0.0, self._line.late_s - USUALLY_LATE_S)
            self._leases.granted(told.granted, min(late_s, LEASE_S / 2))
        if told.is_work_over:
            endpoints.is_work_over = True
        if told.is_stopping:
            run.stop("interrupted")
        if told.is_stopping or told.is_over:
            self._hand.close()

    def _halt(self, endpoints: Endpoints, halt: Halt) -> None:
        self._halts.add((halt.endpoint, halt.model))
        for one in endpoints:
            if one.name != halt.endpoint:
                continue
            if halt.model is None:
                one.gate.go_down(Halted(halt))
            else:
                endpoints.halt(one, halt.model, Halted(halt))

    @property
    def _has_something(self) -> bool:
        return bool(
            self._line.group
            or self._rested
            or self._hand.wants_more
            or self._farewell
            or self._until_asking_s() <= 0.0
        )

    def _until_asking_s(self) -> float:
        if self._asked_s is None:
            return 0.0
        return max(0.0, self._asked_s + RENEW_S - self._world.clock())

    def _say(self) -> Said:
        said = Said(group=self._line.take(), room=self._hand.room())
        said.rested, self._rested = self._rested, []
        said.farewell = None if said.group or said.rested else self._farewell
        if self._run is None or self._leases is None:
            return said
        if self._until_asking_s() <= 0.0 or said.farewell:
            self._asked_s = self._world.clock()
            self._line.late_s *= FORGETS
            said.lease = self._leases.ask()
            said.vitals = _aged(self._run.vitals())
        for halt in self._run.halts:
            if (halt.endpoint, halt.model) not in self._halts:
                self._halts.add((halt.endpoint, halt.model))
                said.halts.append(halt)
        for one in self._run.endpoints:
            for model in one.rules.succeeded - {of for name, of in self._succeeded if name == one.name}:
                self._succeeded.add((one.name, model))
                said.succeeded.append((one.name, model))
        return said

    def _speak_up(self) -> None:
        self._something.set()


def _aged(vitals: Vitals) -> Vitals:
    """As another process can read it, which has another clock."""
    now_s = anyio.current_time()
    errors = {name: replace(one, at_s=now_s - one.at_s) for name, one in vitals.errors.items()}
    return replace(vitals, errors=errors)


class _Hand:
    """Rows handed to this worker, as a `Run` reads and sorts them.

    How many it takes follows how many it begins. While items wait for room in the spool, it begins none: it
    would only hold what another worker could have.
    """

    def __init__(self, speak_up: Callable[[], None]) -> None:
        self._rows: deque[Asked] = deque()
        self._keys: dict[int, str | None] = {}  # of rows begun and not sorted yet
        self._begun = 0  # since more were asked for
        self._lately = 0.0  # begun, and forgotten by and by
        self._asked_s = 0.0
        self._speak_up = speak_up
        self._is_closed = False
        self._more = anyio.Event()
        self.spool: Spool | None = None

    def add(self, rows: list[Asked]) -> None:
        self._rows.extend(rows)
        if rows:
            self._wake()

    def close(self) -> None:
        self._is_closed = True
        self._wake()

    @property
    def wants_more(self) -> bool:
        return self._begun > 0 and len(self._rows) < self._enough / 2

    @property
    def _enough(self) -> float:
        return max(LEAST_ROWS, AHEAD * (self._lately + self._begun))

    def room(self) -> int:
        """How many more it could take."""
        now_s = anyio.current_time()
        forgets = exp((self._asked_s - now_s) / LATELY_S)
        self._lately, self._begun, self._asked_s = self._lately * forgets + self._begun, 0, now_s
        return max(0, int(self._enough) - len(self._rows))

    async def next(self) -> Item | BadRow | None:
        while True:
            if self.spool is not None:
                await self.spool.no_line()
            if self._rows:
                break
            if self._is_closed:
                return None
            self._speak_up()
            await self._more.wait()
        row = self._rows.popleft()
        self._keys[row.item.row] = row.key
        self._begun += 1
        if self.wants_more:
            self._speak_up()
        return row.item

    async def of(self, row: Item | BadRow) -> tuple[Ended | None, str | None]:
        """They were sorted before they came."""
        return None, self._keys.pop(row.row)

    def _wake(self) -> None:
        self._more.set()
        self._more = anyio.Event()


@dataclass(slots=True)
class _Line:
    """The ledger's stand-in: a group that is to be committed waits here until it is on record elsewhere."""

    speak_up: Callable[[], None]
    group: Group | None = None  # to be said
    late_s: float = 0.0  # how long it took of late
    _said: Group | None = None  # and not acknowledged
    _problem: MediabatchError | None = None
    _settled: anyio.Event = field(default_factory=anyio.Event)

    def write(self, group: Group) -> None:
        """It is written where it is committed."""

    def commit(self, group: Group) -> None:
        raise AssertionError("shipped instead")

    def tries(self) -> dict[int, bytes]:
        return {}

    def in_flight(self) -> list[InFlight]:
        return []

    def last_seq(self) -> int:
        return 0

    async def ship(self, commit: Callable[[Group], None], group: Group) -> Any:
        """In the place of committing off the loop."""
        began_s = anyio.current_time()
        self.group, self._settled = group, anyio.Event()
        self.speak_up()
        await self._settled.wait()
        took_s = anyio.current_time() - began_s
        self.late_s = max(took_s, self.late_s + (took_s - self.late_s) / 16)
        if self._problem is not None:
            # All but what was to be sent waits elsewhere to be written.
            group.answered, group.tries, group.ended, group.done = [], [], [], []
            raise self._problem

    def take(self) -> Group | None:
        self._said, self.group = self.group, None
        return self._said

    def acknowledge(self, problem: MediabatchError | None) -> None:
        if self._said is not None:
            self._said, self._problem = None, problem
            self._settled.set()
