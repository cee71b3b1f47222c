"""What is global, handed out as leases: a thousand workers with real gates, in virtual time."""

from __future__ import annotations

import random
from collections import deque
from datetime import UTC, datetime

import anyio
import pytest

from pipeline.budget import Cap
from pipeline.engines.coordinator import Coordinator, Purse
from pipeline.engines.leasing import Leases
from pipeline.engines.messages import RENEW_S, Asks, Lease, MoneyAsks
from pipeline.errors import Throttled
from pipeline.gate import Limits
from pipeline.gate.leased import Returned
from tests.rehearsing import ScriptedWire, an_endpoint, answer, in_turn, item, on_virtual_time, several

WINDOW_S = 60.0


class LimitedServer:
    """Counts what arrives in every window of a minute; refuses what is too much."""

    def __init__(self, rpm: int) -> None:
        self.rpm = rpm
        self.accepted = 0
        self.refused = 0
        self.first_s = 0.0
        self._minute: deque[float] = deque()

    def arrives(self, now_s: float) -> bool:
        while self._minute and self._minute[0] <= now_s - WINDOW_S:
            self._minute.popleft()
        if len(self._minute) >= self.rpm:
            self.refused += 1
            return False
        self._minute.append(now_s)
        self.accepted += 1
        return True


class Simulated:
    """One worker: a gate with leases, more items than could ever go, and a wire that takes a while."""

    def __init__(self, number: int, limits: Limits, server: LimitedServer, latency_s: float) -> None:
        endpoint = an_endpoint(ScriptedWire(in_turn(answer)), limits=limits, is_leased=True)
        self.number = number
        self.gate = endpoint.gate
        self.leases = Leases(several(endpoint))
        self.asked = 0
        self._server = server
        self._latency_s = latency_s
        self._rng = random.Random(number)

    async def live(self, coordinator: Coordinator, lively: int) -> None:
        coordinator.join(self.number, 1_000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._renew, coordinator)
            for _ in range(lively):
                tasks.start_soon(self._ask)

    async def _renew(self, coordinator: Coordinator) -> None:
        await anyio.sleep(self._rng.uniform(0.0, RENEW_S))
        while True:
            lease = self.leases.ask()
            self.asked += 1
            await anyio.sleep(self._rng.uniform(0.001, 0.05))
            granted = coordinator.renew(self.number, lease)
            await anyio.sleep(self._rng.uniform(0.001, 0.05))
            self.leases.granted(granted, 0.0)
            await anyio.sleep(RENEW_S)

    async def _ask(self) -> None:
        while True:
            entry = await self.gate.enter(item("i"))
            await anyio.sleep(self._rng.uniform(0.0, 0.2))  # on record, and on its way
            accepted = self._server.arrives(anyio.current_time())
            await anyio.sleep(self._rng.uniform(0.5, 1.5) * self._latency_s)
            self.gate.leave(entry, None if accepted else Throttled("endpoint.example", None))


async def use_of_the_limit(workers: int, rpm: int, lively: int, minutes: float) -> tuple[float, float, float]:
    """(share of the limit that was used, share of 429s, calls a second of a worker), after the first
    minute."""
    server = LimitedServer(rpm)
    limits = Limits(None, rpm)
    coordinator = Coordinator([limits], None, anyio.current_time)
    crew = [Simulated(number, limits, server, 5.0) for number in range(workers)]
    with anyio.move_on_after(minutes * 60.0):
        async with anyio.create_task_group() as tasks:
            for one in crew:
                tasks.start_soon(one.live, coordinator, lively)
            await anyio.sleep(60.0)
            server.accepted = server.refused = 0
            before = sum(one.asked for one in crew)
    seconds = (minutes - 1.0) * 60.0
    used = server.accepted / (rpm * seconds / 60.0)
    calls = (sum(one.asked for one in crew) - before) / workers / seconds
    return used, server.refused / max(1, server.accepted + server.refused), calls


@pytest.mark.parametrize(
    ("workers", "rpm", "lively", "minutes"),
    [(1, 600, 400, 4.0), (3, 600, 400, 4.0), (10, 3_000, 400, 4.0), (200, 1_200, 2, 2.0)],
)
def test_workers_use_nearly_all_of_a_limit_and_never_more(
    workers: int, rpm: int, lively: int, minutes: float
):
    """`python -m tests.engines` has a thousand of them."""

    @on_virtual_time
    async def play() -> None:
        used, refused, calls = await use_of_the_limit(workers, rpm, lively, minutes)
        print(f"{workers:,} x {rpm:,}: {used:.4f} used, {refused:.4%} refused, {calls:.2f} calls/s")
        assert used >= 0.97
        assert refused == 0.0
        assert calls <= 10.0

    play()


def money(spent: int = 0, keep: int = 0, want: int = 0, least: int = 0, guess: int = 0) -> MoneyAsks:
    return MoneyAsks(spent, keep, want, least, guess or least, {})


def purse(limit: int, spent: int = 0) -> Purse:
    return Purse([Cap(limit, spent)], lambda: datetime(2026, 3, 5, tzinfo=UTC))


def test_money_that_was_handed_out_is_nobody_elses():
    shared = purse(100)
    assert shared.renew(1, money(want=80, least=10), 1).amount == 80
    assert shared.renew(2, money(want=80, least=10), 2).amount == 10
    assert shared.renew(3, money(want=80, least=20), 3).amount == 0
    assert not shared.is_spent


def test_money_that_is_given_back_goes_to_others():
    shared = purse(100)
    shared.renew(1, money(want=100, least=10), 1)
    assert shared.renew(2, money(want=50, least=50), 2).amount == 0
    shared.renew(1, money(spent=30, keep=10), 2)
    assert shared.renew(2, money(want=50, least=50), 2).amount == 50


def test_a_budget_is_spent_once_nobody_has_any_and_the_least_does_not_fit():
    shared = purse(100, spent=60)
    shared.renew(1, money(want=40, least=40), 1)
    shared.renew(2, money(want=10, least=10), 2)
    assert not shared.is_spent
    shared.renew(1, money(spent=35), 2)
    assert shared.renew(2, money(want=10, least=10), 2).amount == 0
    assert shared.is_spent


def test_what_a_lost_worker_had_counts_as_spent():
    shared = purse(100)
    shared.renew(1, money(want=70, least=10), 1)
    shared.leave(1, is_lost=True)
    assert shared.renew(2, money(want=70, least=30), 1).amount == 30


def test_one_of_unknown_cost_goes_alone():
    shared = purse(100)
    shared.renew(1, money(keep=5), 2)
    assert shared.renew(2, money(want=500, least=500, guess=20), 2).amount == 0
    shared.renew(1, money(spent=5), 2)
    granted = shared.renew(2, money(want=500, least=500, guess=20), 2)
    assert (granted.amount, granted.is_alone) == (95, True)


def slots_of(coordinator: Coordinator, worker: int, in_use: int, waiting: int) -> int | None:
    asks = Asks(in_use, waiting, 0, 0.0, 0.0, 0.0, Returned(), Returned(), 0.0, is_out=False)
    return coordinator.renew(worker, Lease([asks], None)).grants[0].slots


def test_slots_that_nobody_else_wants_are_given_up_to_whoever_wants_one():
    coordinator = Coordinator([Limits(12)], None, lambda: 0.0)
    assert [coordinator.join(number, 3) for number in (1, 2, 3)] == [[4], [4], [4]]
    coordinator.leave(3, is_lost=True)
    assert slots_of(coordinator, 1, in_use=0, waiting=0) == 6
    assert coordinator.join(4, 3) == [2]
    assert slots_of(coordinator, 4, in_use=0, waiting=5) == 2  # the others have not heard of it yet
    assert slots_of(coordinator, 1, in_use=1, waiting=0) == 4
    assert slots_of(coordinator, 4, in_use=0, waiting=5) == 4


def test_slots_in_use_are_not_taken_away():
    coordinator = Coordinator([Limits(8)], None, lambda: 0.0)
    coordinator.join(1, 1)
    assert coordinator.join(2, 2) == [0]
    assert slots_of(coordinator, 2, in_use=0, waiting=9) == 0
    assert slots_of(coordinator, 1, in_use=7, waiting=9) == 7
    assert slots_of(coordinator, 2, in_use=0, waiting=9) == 1
