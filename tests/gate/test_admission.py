"""The gate admits no more than its slots, in order, and lets nobody starve."""

from __future__ import annotations

import random

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import KeyRejected
from pipeline.gate import Gate, GateClosed
from tests.rehearsing import on_virtual_time

HALT = KeyRejected("the key is wrong")
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])

# When an attempt comes, how long it takes, and how long its caller is willing to wait for all of it.
visits = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 4), st.one_of(st.none(), st.integers(0, 8))), max_size=25
)

holds = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), max_size=6)


@settings(deadline=None, max_examples=60)
@given(slots=st.integers(1, 4), visits=visits, holds=st.one_of(st.just([]), holds))
def test_any_schedule_keeps_to_the_slots_in_order_and_leaks_none(slots, visits, holds):
    @on_virtual_time
    async def night() -> None:
        with anyio.fail_after(1000):  # a lost slot fails instead of hanging
            await visits_and_holds()

    async def visits_and_holds() -> None:
        gate = Gate(slots)
        asked: list[int] = []
        entered: dict[int, float] = {}
        inside = 0

        async def visit(number: int, comes_s: int, takes_s: int, patience_s: int | None) -> None:
            nonlocal inside
            await anyio.sleep(comes_s)
            with anyio.move_on_after(patience_s):
                asked.append(number)
                async with gate.slot("m"):
                    entered[number] = anyio.current_time()
                    inside += 1
                    try:
                        assert inside <= slots
                        assert gate.in_use >= inside
                        await anyio.sleep(takes_s)
                    finally:
                        inside -= 1

        async def hold(comes_s: int, seconds: int) -> None:
            await anyio.sleep(comes_s)
            gate.hold(seconds)

        async with anyio.create_task_group() as tasks:
            for number, (comes_s, takes_s, patience_s) in enumerate(visits):
                tasks.start_soon(visit, number, comes_s, takes_s, patience_s)
            for comes_s, seconds in holds:
                tasks.start_soon(hold, comes_s, seconds)

        assert gate.in_use == 0
        patient = {number for number, (_, _, patience_s) in enumerate(visits) if patience_s is None}
        assert patient <= entered.keys()
        times = [entered[number] for number in asked if number in entered]
        # With holds, two that have their slots already may leave on either side of a new hold.
        assert holds or times == sorted(times), "first come, first served"
        async with anyio.create_task_group() as tasks:
            at_once = [gate.acquire("m") for _ in range(slots)]
            with anyio.fail_after(20):  # past any hold
                for acquiring in at_once:
                    await acquiring
        assert gate.in_use == slots

    night()


@BACKENDS
@pytest.mark.parametrize("seed", range(12))
def test_cancelling_at_any_moment_leaks_no_slot(backend, seed):
    chance = random.Random(seed)

    async def night() -> None:
        gate = Gate(3)
        scopes: list[anyio.CancelScope] = []
        inside = served = 0

        async def visit(works: int) -> None:
            nonlocal inside, served
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                async with gate.slot("m"):
                    inside += 1
                    try:
                        assert inside <= 3
                        for _ in range(works):
                            await checkpoint()
                    finally:
                        inside -= 1
                    served += 1

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(60):
                    tasks.start_soon(visit, chance.randrange(6))
                    if chance.random() < 0.5:
                        await checkpoint()
                    if scopes and chance.random() < 0.4:
                        chance.choice(scopes).cancel()
        assert gate.in_use == 0
        assert served >= 60 - sum(scope.cancel_called for scope in scopes)

    anyio.run(night, backend=backend)


@BACKENDS
def test_a_waiter_cancelled_just_as_its_turn_comes_hands_the_slot_on(backend):
    async def night() -> None:
        gate = Gate(1)
        entered = []
        scope = anyio.CancelScope()

        async def unlucky() -> None:
            with scope:
                async with gate.slot("m"):
                    await checkpoint()
                    entered.append("unlucky")

        async def next_in_line() -> None:
            async with gate.slot("m"):
                entered.append("next")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                async with gate.slot("m"):
                    tasks.start_soon(unlucky)
                    await anyio.wait_all_tasks_blocked()
                    tasks.start_soon(next_in_line)
                    await anyio.wait_all_tasks_blocked()
                scope.cancel()  # its turn has come, but it has not run yet
        assert entered == ["next"]
        assert gate.in_use == 0

    anyio.run(night, backend=backend)


@BACKENDS
def test_a_waiter_cancelled_in_the_queue_leaves_it(backend):
    async def night() -> None:
        gate = Gate(1)
        async with gate.slot("m"):
            with anyio.move_on_after(0.001) as waiting:
                async with gate.slot("m"):
                    pytest.fail("there is one slot")
        assert waiting.cancelled_caught
        assert gate.in_use == 0

    anyio.run(night, backend=backend)


@on_virtual_time
async def test_a_hold_closes_the_gate_for_everyone():
    gate = Gate(2)
    entered = []

    async def visit(model: str) -> None:
        async with gate.slot(model):
            entered.append((model, anyio.current_time()))

    gate.hold(30)
    async with anyio.create_task_group() as tasks:
        for model in ("a", "b", "a", "c"):
            tasks.start_soon(visit, model)
    assert sorted(entered) == [("a", 30), ("a", 30), ("b", 30), ("c", 30)]


@on_virtual_time
async def test_a_hold_only_moves_forward():
    gate = Gate(1)
    gate.hold(30)
    gate.hold(3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.acquire, "m")
        await anyio.sleep(20)
        gate.hold(25)
        gate.hold(1)
    assert anyio.current_time() == 45


@on_virtual_time
async def test_a_hold_leaves_what_is_in_flight_alone():
    gate = Gate(1)
    async with gate.slot("m"):
        gate.hold(100)
        await anyio.sleep(1)
    assert anyio.current_time() == 1


@on_virtual_time
async def test_a_sleeper_holds_no_slot():
    gate = Gate(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.sleep, "m", 100)
        await anyio.wait_all_tasks_blocked()
        assert (gate.asleep, gate.in_use) == (1, 0)
        async with gate.slot("m"):
            assert anyio.current_time() == 0
    assert anyio.current_time() == 100
    assert gate.asleep == 0


@on_virtual_time
async def test_who_goes_to_sleep_is_announced_once_it_counts():
    gate = Gate(1)
    seen = []
    gate.on_sleep = lambda: seen.append(gate.asleep)
    await gate.sleep("m", 1)
    assert seen == [1]


@on_virtual_time
async def test_a_halt_concerns_one_model_and_says_why():
    gate = Gate(1)
    gate.halt("a", HALT)
    gate.halt("a", KeyRejected("a later reason"))
    with pytest.raises(GateClosed) as caught:
        await gate.acquire("a")
    assert caught.value.reason is HALT
    assert gate.halted == {"a": HALT}
    async with gate.slot("b"):
        assert gate.in_use == 1
    assert not gate.closed


@on_virtual_time
async def test_a_halt_wakes_the_models_sleepers_and_nobody_elses():
    gate = Gate(1)
    woke = {}

    async def sleep(model: str) -> None:
        try:
            await gate.sleep(model, 60)
        except GateClosed:
            woke[model, "closed"] = anyio.current_time()
        else:
            woke[model, "rested"] = anyio.current_time()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep, "a")
        tasks.start_soon(sleep, "b")
        await anyio.sleep(10)
        gate.halt("a", HALT)
    assert woke == {("a", "closed"): 10, ("b", "rested"): 60}
    assert gate.asleep == 0


@on_virtual_time
async def test_a_halt_ends_the_models_wait_for_a_hold_and_frees_the_slot():
    gate = Gate(1)
    gate.hold(60)
    left = {}

    async def visit(model: str) -> None:
        try:
            async with gate.slot(model):
                left[model] = anyio.current_time()
        except GateClosed:
            left[model] = anyio.current_time()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit, "a")
        await anyio.sleep(10)
        tasks.start_soon(visit, "b")
        gate.halt("a", HALT)
    assert left == {"a": 10, "b": 60}
    assert gate.in_use == 0


@on_virtual_time
async def test_closing_turns_everyone_away_and_waits_for_nobodys_sleep():
    gate = Gate(1)
    turned_away = []

    async def visit(name: str) -> None:
        with pytest.raises(GateClosed) as caught:
            async with gate.slot(name):
                pytest.fail("the gate is closed")
        assert caught.value.reason is None
        turned_away.append((name, anyio.current_time()))

    async def sleep() -> None:
        with pytest.raises(GateClosed):
            await gate.sleep("m", 500)
        turned_away.append(("sleeper", anyio.current_time()))

    async with anyio.create_task_group() as tasks:
        async with gate.slot("m"):
            tasks.start_soon(visit, "waiter")
            tasks.start_soon(sleep)
            await anyio.sleep(5)
            gate.close()
            await anyio.sleep(2)  # in flight still
        tasks.start_soon(visit, "late")
    assert gate.closed
    assert sorted(turned_away) == [("late", 7), ("sleeper", 5), ("waiter", 7)]
    assert gate.in_use == 0
