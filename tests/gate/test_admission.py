"""The gate admits no more than its limits allow, in order, lets nobody starve, and loses nothing."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import (
    AttemptError,
    BadInput,
    ConnectFailed,
    EndpointDown,
    KeyRejected,
    NeedsTooMuch,
    Overloaded,
    RowError,
    Throttled,
)
from pipeline.gate import Entry, Gate, GateClosed, Limits
from pipeline.records import Item, Request
from tests.rehearsing import admitted, gaps, item, items, on_virtual_time

HALT = KeyRejected("the key is wrong")
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
ONE = item("one")

# When an attempt comes, how long it takes, and how long its caller is willing to wait for all of it.
visits = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 4), st.one_of(st.none(), st.integers(0, 8))), max_size=25
)

holds = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), max_size=6)


def virtual(limits: Limits) -> Gate:
    return Gate(limits, host="endpoint.example", clock=anyio.current_time)


def throttled(retry_after_s: float | None = None) -> Throttled:
    error = Throttled("slow down", http_status=429)
    error.retry_after_s = retry_after_s
    return error


def overloaded() -> Overloaded:
    return Overloaded("it is overloaded", http_status=503)


def asking(tokens: int, row: int = 1, model: str = "a-model") -> Item:
    """An item that is guessed to need so many tokens: three characters each."""
    return Item(f"i{row}", row, Request(model, "xxx" * tokens, (), {}))


async def tried(
    gate: Gate,
    one: Item,
    error: AttemptError | None = None,
    *,
    takes_s: float = 0.0,
    is_first: bool = True,
) -> Entry:
    """One attempt with this end."""
    entry = await gate.enter(one, is_first=is_first)
    await anyio.sleep(takes_s)
    gate.leave(entry, error)
    return entry


async def knock_out(gate: Gate) -> None:
    """Somebody was there; then many items in a row find nobody."""
    await tried(gate, ONE)
    for one in items(50):
        if not gate.is_out:
            await tried(gate, one, overloaded())
    assert gate.is_out


@settings(deadline=None, max_examples=60)
@given(slots=st.integers(1, 4), visits=visits, holds=st.one_of(st.just([]), holds))
def test_any_schedule_keeps_to_the_slots_in_order_and_leaks_none(slots, visits, holds):
    @on_virtual_time
    async def night() -> None:
        with anyio.fail_after(1000):  # a lost slot fails instead of hanging
            await visits_and_holds()

    async def visits_and_holds() -> None:
        gate = virtual(Limits(slots))
        asked: list[int] = []
        entered: dict[int, float] = {}
        inside = 0

        async def visit(number: int, comes_s: int, takes_s: int, patience_s: int | None) -> None:
            nonlocal inside
            await anyio.sleep(comes_s)
            with anyio.move_on_after(patience_s):
                asked.append(number)
                async with admitted(gate, ONE):
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
        assert times == sorted(times), "first come, first served"
        with anyio.fail_after(20):  # past any hold
            for _ in range(slots):
                await gate.enter(ONE)
        assert gate.in_use == slots

    night()


@BACKENDS
@pytest.mark.parametrize("seed", range(12))
def test_cancelling_at_any_moment_leaks_no_slot(backend, seed):
    chance = random.Random(seed)

    async def night() -> None:
        gate = Gate(Limits(3))
        scopes: list[anyio.CancelScope] = []
        inside = served = 0

        async def visit(works: int) -> None:
            nonlocal inside, served
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                async with admitted(gate, ONE):
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


@pytest.mark.parametrize("seed", range(20))
@on_virtual_time
async def test_cancelling_at_any_moment_leaks_nothing_in_any_weather(seed: int):
    """Limits of requests and tokens, holds, 429s and outages; whoever is left, and comes after, is served."""
    chance = random.Random(seed)
    gate = virtual(Limits(chance.choice([1, 3, None]), rpm=600, tpm=60_000))
    ends = [None, None, overloaded(), throttled(), throttled(2.0), BadInput("no")]
    scopes: list[anyio.CancelScope] = []

    async def visit(row: int) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            entry = await gate.enter(asking(chance.randrange(400), row), is_first=chance.random() < 0.7)
            try:
                await anyio.sleep(chance.uniform(0, 3))
            except BaseException:
                gate.abandon(entry)
                raise
            gate.leave(entry, chance.choice(ends), tokens=chance.randrange(400))

    with anyio.fail_after(3000):
        async with anyio.create_task_group() as tasks:
            for row in range(150):
                tasks.start_soon(visit, row)
                await anyio.sleep(chance.uniform(0, 0.2))
                if chance.random() < 0.4:
                    chance.choice(scopes).cancel()
        assert gate.in_use == 0
        for row in range(10):
            await tried(gate, item("after", row))
        assert not gate.is_out
        for _ in range(gate.slots.limit):
            await gate.enter(ONE)
    assert gate.in_use == gate.slots.limit


@BACKENDS
def test_a_waiter_cancelled_just_as_its_turn_comes_hands_the_slot_on(backend):
    async def night() -> None:
        gate = Gate(Limits(1))
        entered = []
        scope = anyio.CancelScope()

        async def unlucky() -> None:
            with scope:
                async with admitted(gate, ONE):
                    await checkpoint()
                    entered.append("unlucky")

        async def next_in_line() -> None:
            async with admitted(gate, ONE):
                entered.append("next")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                async with admitted(gate, ONE):
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
        gate = Gate(Limits(1))
        async with admitted(gate, ONE):
            with anyio.move_on_after(0.001) as waiting:
                async with admitted(gate, ONE):
                    pytest.fail("there is one slot")
        assert waiting.cancelled_caught
        assert gate.in_use == 0

    anyio.run(night, backend=backend)


# Order


async def order_of(gate: Gate, *waiting: Item) -> list[int]:
    """In which order these are admitted, by row, when they come one after another."""
    order: list[int] = []

    async def visit(one: Item) -> None:
        async with admitted(gate, one):
            order.append(one.row)

    async with anyio.create_task_group() as tasks:
        for one in waiting:
            tasks.start_soon(visit, one)
            await anyio.wait_all_tasks_blocked()
    return order


@on_virtual_time
async def test_a_small_request_does_not_overtake_a_large_one_that_waits_for_tokens():
    gate = virtual(Limits(9, tpm=6_000))
    await tried(gate, asking(60))
    assert await order_of(gate, asking(3_000, 1), *(asking(1, row) for row in range(2, 6))) == [1, 2, 3, 4, 5]


@on_virtual_time
async def test_who_comes_when_there_is_room_waits_behind_those_who_came_before():
    gate = virtual(Limits(2))
    gate.hold(5)
    order: list[int] = []

    async def visit(row: int, comes_s: float) -> None:
        await anyio.sleep(comes_s)
        async with admitted(gate, item("x", row)):
            order.append(row)
            await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        for row in range(1, 9):
            tasks.start_soon(visit, row, row)  # row 5 comes just as the hold ends
    assert order == list(range(1, 9))


@on_virtual_time
async def test_there_is_room_only_where_an_attempt_would_go_at_once():
    gate = virtual(Limits(1))
    assert gate.has_room(ONE)
    entry = await gate.enter(ONE)
    assert not gate.has_room(ONE)
    gate.leave(entry, None)
    assert gate.has_room(ONE)
    gate.hold(5)
    assert not gate.has_room(ONE)
    await anyio.sleep(5)
    assert gate.has_room(ONE)


# Holds


@on_virtual_time
async def test_a_hold_closes_the_gate_for_everyone():
    gate = virtual(Limits(2))
    entered = []

    async def visit(model: str) -> None:
        async with admitted(gate, item("x", model=model)):
            entered.append((model, anyio.current_time()))

    gate.hold(30)
    async with anyio.create_task_group() as tasks:
        for model in ("a", "b", "a", "c"):
            tasks.start_soon(visit, model)
    assert sorted(entered) == [("a", 30), ("a", 30), ("b", 30), ("c", 30)]


@on_virtual_time
async def test_a_hold_only_moves_forward():
    gate = virtual(Limits(1))
    gate.hold(30)
    gate.hold(3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.enter, ONE)
        await anyio.sleep(20)
        gate.hold(25)
        gate.hold(1)
    assert anyio.current_time() == 45


@on_virtual_time
async def test_a_hold_leaves_what_is_in_flight_alone():
    gate = virtual(Limits(1))
    async with admitted(gate, ONE):
        gate.hold(100)
        await anyio.sleep(1)
    assert anyio.current_time() == 1


@on_virtual_time
async def test_a_429_that_names_a_time_holds_everyone_until_then_and_only_moves_forward():
    gate = virtual(Limits(40))
    entries = [await gate.enter(one) for one in items(3)]
    gate.leave(entries[0], throttled(30))
    await anyio.sleep(1)
    gate.leave(entries[1], throttled(2))
    gate.leave(entries[2], throttled(29.5))
    await tried(gate, ONE)
    assert anyio.current_time() == 30.5


@on_virtual_time
async def test_a_429_that_names_no_time_holds_for_about_a_round_trip():
    gate = virtual(Limits(4))
    for one in items(5):
        await tried(gate, one, takes_s=0.5)
    before_s = anyio.current_time()
    await tried(gate, ONE, throttled())
    await tried(gate, ONE)
    assert 0.25 <= anyio.current_time() - before_s <= 1.0


@on_virtual_time
async def test_a_429_among_very_many_that_went_well_holds_nobody():
    gate = virtual(Limits(4))
    for one in items(500):
        await tried(gate, one, takes_s=0.1)
    before_s = anyio.current_time()
    await tried(gate, ONE, throttled())
    await tried(gate, ONE)
    assert anyio.current_time() - before_s < 0.1


async def opened(gate: Gate, count: int) -> list[float]:
    """When each of so many long attempts is admitted, all of which have been waiting."""
    times: list[float] = []

    async def visit(one: Item) -> None:
        async with admitted(gate, one):
            times.append(anyio.current_time())
            await anyio.sleep(100)

    async with anyio.create_task_group() as tasks:
        for one in items(count):
            tasks.start_soon(visit, one)
    return times


@on_virtual_time
async def test_after_a_hold_the_slots_open_again_one_after_another_and_nobody_stampedes():
    gate = virtual(Limits(100))
    throttled_one, *others = [await gate.enter(one) for one in items(100)]
    gate.leave(throttled_one, throttled(20))
    for entry in others:
        gate.leave(entry, None)
    times = await opened(gate, 60)
    assert times[0] == 20
    assert sum(when < 20.1 for when in times) <= 30
    assert 20.5 <= times[-1] <= 25


@on_virtual_time
async def test_after_a_short_hold_they_open_as_soon():
    gate = virtual(Limits(100))
    gate.hold(0.2)
    assert max(await opened(gate, 100)) <= 1


# Rates


async def admissions(gate: Gate, waiting: Iterable[Item], takes_s: float = 0.0) -> list[float]:
    """When each was admitted; all of them wait from the beginning."""
    times: list[float] = []

    async def visit(one: Item) -> None:
        async with admitted(gate, one):
            times.append(anyio.current_time())
            await anyio.sleep(takes_s)

    async with anyio.create_task_group() as tasks:
        for one in waiting:
            tasks.start_soon(visit, one)
    return times


@on_virtual_time
async def test_requests_a_minute_are_kept_and_used():
    times = await admissions(virtual(Limits(50, rpm=120)), items(600), takes_s=3)
    assert max(sum(start <= when < start + 60 for when in times) for start in times) <= 120
    assert times[-1] - times[0] <= 600 / (0.97 * 2)


@on_virtual_time
async def test_tokens_a_minute_are_kept_by_what_requests_are_guessed_to_need():
    times = await admissions(virtual(Limits(50, tpm=6_000)), [asking(100, row) for row in range(300)])
    assert max(sum(start <= when < start + 60 for when in times) for start in times) <= 60
    assert times[-1] - times[0] <= 300 / 0.95


@on_virtual_time
async def test_tokens_a_minute_are_kept_by_what_replies_really_needed():
    """Guessed at 10 tokens and taking 100 each: 60 a minute as soon as that is known."""
    gate = virtual(Limits(1, tpm=6_000))
    times = []
    for row in range(300):
        entry = await gate.enter(asking(10, row))
        times.append(anyio.current_time())
        gate.leave(entry, None, tokens=100)
    assert max(sum(start <= when < start + 60 for when in times) for start in times) <= 61
    assert times[-1] - times[0] <= 300 / 0.95


@on_virtual_time
async def test_tokens_of_an_attempt_that_was_not_billed_are_given_back():
    gate = virtual(Limits(1, tpm=6_000))
    for row in range(20):
        await tried(gate, asking(3_000, row), BadInput("no"))
    assert anyio.current_time() < 60


@on_virtual_time
async def test_a_request_that_could_never_fit_is_refused_at_once_with_a_sentence():
    gate = virtual(Limits(4, tpm=1_000))
    gate.hold(100)
    with pytest.raises(NeedsTooMuch) as caught:
        await gate.enter(asking(1_200, 7))
    assert anyio.current_time() == 0
    assert isinstance(caught.value, RowError)
    assert caught.value.row == 7
    assert str(caught.value) == (
        "row 7: it needs about 1,200 tokens, and --tpm allows 1,000 a minute: it could never go; raise "
        "--tpm, or lower --max-tokens"
    )


# What headers tell


def left(remaining: int, reset: str = "30s", limit: int = 100) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": f"{limit}",
        "x-ratelimit-remaining-requests": f"{remaining}",
        "x-ratelimit-reset-requests": reset,
    }


async def answered(gate: Gate, entry: Entry, headers: dict[str, str]) -> None:
    gate.leave(entry, None, headers=headers)


@on_virtual_time
async def test_headers_that_say_little_is_left_slow_everybody_down():
    gate = virtual(Limits(50))
    entry = await gate.enter(ONE)
    gate.leave(entry, None, headers=left(10))
    times = await admissions(gate, items(10))
    assert min(gaps(times)) > 1, "ten that are left, over thirty seconds"
    assert times[-1] <= 31


@on_virtual_time
async def test_headers_that_say_much_is_left_slow_nobody_down():
    gate = virtual(Limits(50))
    entry = await gate.enter(ONE)
    gate.leave(entry, None, headers=left(90))
    assert (await admissions(gate, items(30)))[-1] == 0


@on_virtual_time
async def test_headers_of_a_request_older_than_one_already_read_are_stale():
    """The first was answered when 90 were left; its answer overtakes nothing by coming last."""
    gate = virtual(Limits(50))
    first, second = await gate.enter(ONE), await gate.enter(ONE)
    gate.leave(second, None, headers=left(2))
    gate.leave(first, None, headers=left(90))
    assert not gate.has_room(ONE)
    third_s = (await admissions(gate, [ONE]))[0]
    assert third_s > 1


@on_virtual_time
async def test_what_went_after_the_request_whose_headers_are_read_is_taken_off():
    """60 of 100 were left when the first was answered, and 58 have gone since."""
    gate = virtual(Limits(100))
    first, *_ = [await gate.enter(one) for one in items(59)]
    gate.leave(first, None, headers=left(60))
    assert not gate.has_room(ONE)


@on_virtual_time
async def test_after_the_reset_nobody_waits_any_more():
    gate = virtual(Limits(50))
    entry = await gate.enter(ONE)
    gate.leave(entry, None, headers=left(0, reset="5s"))
    await anyio.sleep(5)
    assert (await admissions(gate, items(30)))[-1] == 5


@pytest.mark.parametrize("reset", ["soon", "", "-5", "1e9s", "∞"])
@on_virtual_time
async def test_headers_that_cannot_be_read_change_nothing(reset: str):
    gate = virtual(Limits(50))
    entry = await gate.enter(ONE)
    gate.leave(entry, None, headers=left(0, reset=reset))
    assert gate.has_room(ONE)


# Outages


@asynccontextmanager
async def outage(gate: Gate, waiting: int) -> AsyncIterator[list[tuple[float, Entry]]]:
    """Nobody answers, while so many wait: yields the probes as they go, each of which fails after 0.1 s."""
    await knock_out(gate)
    probes: list[tuple[float, Entry]] = []

    async def visit(one: Item) -> None:
        while True:
            entry = await gate.enter(one, is_first=False)
            probes.append((anyio.current_time(), entry))
            await anyio.sleep(0.1)
            gate.leave(entry, overloaded())

    async with anyio.create_task_group() as tasks:
        for one in items(waiting):
            tasks.start_soon(visit, one)
        yield probes
        tasks.cancel_scope.cancel()


@on_virtual_time
async def test_in_an_outage_single_probes_go_and_everyone_else_waits():
    gate = virtual(Limits(20))
    async with outage(gate, waiting=50) as probes:
        for _ in range(3_000):
            await anyio.sleep(0.1)
            assert gate.in_use <= 1
    assert all(entry.is_probe for _, entry in probes)
    times = [when for when, _ in probes]
    assert min(gaps(times)) >= 1
    assert max(gaps(times)) <= 30
    assert 10 <= len(probes) <= 200, "five minutes"


@on_virtual_time
async def test_when_a_probe_is_answered_everyone_goes_again_and_nobody_stampedes():
    gate = virtual(Limits(100))
    await knock_out(gate)
    await tried(gate, ONE, BadInput("somebody is there, and says no"))
    assert not gate.is_out
    back_s = anyio.current_time()
    times = await opened(gate, 100)
    assert times[0] == back_s
    assert sum(when < back_s + 0.1 for when in times) <= 50
    assert times[-1] <= back_s + 5


@on_virtual_time
async def test_a_cancelled_probe_lets_the_next_one_go():
    gate = virtual(Limits(5))
    await knock_out(gate)
    with anyio.move_on_after(60):
        async with admitted(gate, ONE):
            await anyio.sleep_forever()
    assert gate.in_use == 0
    assert gate.is_out
    with anyio.fail_after(1):
        entry = await gate.enter(ONE)
    assert entry.is_probe
    gate.leave(entry, None)
    assert not gate.is_out


@on_virtual_time
async def test_a_waiter_cancelled_before_it_became_the_probe_hands_that_on():
    gate = virtual(Limits(5))
    await knock_out(gate)
    with anyio.move_on_after(0.5):
        await gate.enter(ONE)
    entry = await gate.enter(ONE)
    assert entry.is_probe


@on_virtual_time
async def test_a_few_odd_items_that_find_nobody_every_time_are_no_outage():
    gate = virtual(Limits(5))
    await tried(gate, ONE)
    for number in range(60):
        await tried(gate, item("odd", number % 3), overloaded(), is_first=number < 3)
    assert not gate.is_out
    assert gate.out_s() == 0


@on_virtual_time
async def test_an_endpoint_that_answered_nobody_for_so_long_is_down_and_says_so():
    gate = virtual(Limits(5, max_outage_s=60))
    turned_away: list[tuple[float, BaseException | None]] = []
    await knock_out(gate)

    async def visit(one: Item) -> None:
        try:
            while True:
                await tried(gate, one, overloaded(), is_first=False)
        except GateClosed as closed:
            turned_away.append((anyio.current_time(), closed.reason))

    async with anyio.create_task_group() as tasks:
        for one in items(10):
            tasks.start_soon(visit, one)
    assert len(turned_away) == 10
    assert all(60 <= when <= 80 for when, _ in turned_away)
    assert all(reason is gate.down for _, reason in turned_away)
    assert isinstance(gate.down, EndpointDown)
    assert f"{gate.down}".startswith("endpoint.example has answered nobody for ")
    assert "--max-outage (the last try: it is overloaded); resume when it is back" in f"{gate.down}"
    assert not gate.serves("a-model")
    with pytest.raises(GateClosed):
        await gate.enter(ONE)


@on_virtual_time
async def test_an_outage_that_ends_in_time_takes_no_endpoint_down_and_the_next_begins_anew():
    gate = virtual(Limits(5, max_outage_s=60))
    for _ in range(3):
        await knock_out(gate)
        began_s = anyio.current_time()
        while anyio.current_time() < began_s + 50:
            await tried(gate, ONE, overloaded(), is_first=False)
        while gate.is_out:
            await tried(gate, ONE)
    assert gate.down is None
    assert 150 <= gate.out_s() <= 200


@on_virtual_time
async def test_an_address_that_never_answered_has_no_outage():
    """A typing mistake in the base URL is for the rules of halting, which do not wait an hour."""
    gate = virtual(Limits(5))
    for one in items(100):
        await tried(gate, one, ConnectFailed("refused"))
    assert not gate.is_out
    await tried(gate, ONE)
    for one in items(50):
        if not gate.is_out:
            await tried(gate, one, ConnectFailed("refused"))
    assert gate.is_out


# Halts


@on_virtual_time
async def test_a_halt_concerns_one_model_and_says_why():
    gate = virtual(Limits(1))
    gate.halt("a", HALT)
    gate.halt("a", KeyRejected("a later reason"))
    with pytest.raises(GateClosed) as caught:
        await gate.enter(item("x", model="a"))
    assert caught.value.reason is HALT
    assert gate.halted == {"a": HALT}
    assert not gate.serves("a")
    async with admitted(gate, item("x", model="b")):
        assert gate.in_use == 1


@on_virtual_time
async def test_a_halt_ends_the_models_wait_for_a_hold_and_nobody_elses():
    gate = virtual(Limits(1))
    gate.hold(60)
    left: dict[str, float] = {}

    async def visit(model: str) -> None:
        try:
            async with admitted(gate, item("x", model=model)):
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
async def test_closing_turns_everyone_away_at_once():
    gate = virtual(Limits(1))
    turned_away = []

    async def visit(name: str) -> None:
        with pytest.raises(GateClosed) as caught:
            async with admitted(gate, item(name)):
                pytest.fail("the gate is closed")
        assert caught.value.reason is None
        turned_away.append((name, anyio.current_time()))

    async with anyio.create_task_group() as tasks:
        async with admitted(gate, ONE):
            tasks.start_soon(visit, "first in line")
            tasks.start_soon(visit, "second in line")
            await anyio.sleep(5)
            gate.close()
            await anyio.sleep(2)  # in flight still
        tasks.start_soon(visit, "late")
    assert sorted(turned_away) == [("first in line", 5), ("late", 7), ("second in line", 5)]
    assert gate.in_use == 0


# Slots


@on_virtual_time
async def test_where_slots_adapt_room_is_announced_when_there_is_more():
    """Answers that take as long however many are asked at once: more at once is faster."""
    gate = virtual(Limits())
    told: list[int] = []
    gate.on_room = lambda: told.append(gate.slots.limit)
    first = gate.slots.limit
    await admissions(gate, items(2_000), takes_s=1)
    assert told
    assert told[0] > first
    assert gate.level is not None
    assert gate.level > first


@on_virtual_time
async def test_a_number_of_slots_is_never_exceeded_nor_remembered():
    gate = virtual(Limits(7, level=50))
    await admissions(gate, items(500), takes_s=1)
    assert gate.slots.limit == 7
    assert gate.level is None, "nothing was found out"


@on_virtual_time
async def test_slots_that_adapt_begin_where_an_earlier_run_found_them():
    assert virtual(Limits(level=77)).slots.limit == 77


@pytest.mark.parametrize("limits", [{"slots": 6}, {"rpm": 60}, {"tpm": 6_000}, {}])
@on_virtual_time
async def test_an_abandoned_attempt_leaves_its_slot_to_others(limits: dict[str, Any]):
    gate = virtual(Limits(**limits))
    for one in items(50):
        gate.abandon(await gate.enter(one))
    assert gate.in_use == 0
