"""What keeps attempts from going is known at every moment, and the seconds of each limit add up."""

from __future__ import annotations

import anyio
import pytest

from pipeline.errors import Overloaded, Throttled
from pipeline.gate import Gate, Limits, LimitsMet, limits_met
from pipeline.gate.limited import Limited
from tests.rehearsing import admitted, item, on_virtual_time

ONE = item("one")


def virtual(limits: Limits) -> Gate:
    return Gate(limits, host="endpoint.example", clock=anyio.current_time)


async def visit(gate: Gate, takes_s: float) -> None:
    async with admitted(gate, ONE):
        await anyio.sleep(takes_s)


def test_a_limit_that_is_told_again_goes_on():
    limited = Limited()
    limited.by("rpm", 1.0)
    limited.by("rpm", 3.0)
    limited.by("slots", 4.0)
    limited.by(None, 9.0)
    assert limited.until(20.0) == {"rpm": 3.0, "slots": 5.0}
    limited.by("slots", 20.0)
    assert limited.until(21.5) == {"rpm": 3.0, "slots": 6.5}


@on_virtual_time
async def test_slots_limit_while_all_of_them_are_in_use():
    """Two slots: from the second attempt at 1 s to the first one's end at 10 s."""
    gate = virtual(Limits(slots=2))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit, gate, 10.0)
        await anyio.sleep(1.0)
        assert gate.limited.now is None
        tasks.start_soon(visit, gate, 20.0)
        await anyio.sleep(1.0)
        assert gate.limited.now == "slots"
    assert gate.limited.now is None
    assert gate.limited_s() == {"slots": pytest.approx(9.0)}


@on_virtual_time
async def test_requests_a_minute_limit_while_somebody_waits_for_them():
    """One goes at once, four more wait one second each: 61 a minute are one burst and 60 more."""
    gate = virtual(Limits(slots=50, rpm=60))
    began_s = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(visit, gate, 0.01)
    assert gate.limited_s() == {"rpm": pytest.approx(anyio.current_time() - began_s, abs=0.02)}
    assert gate.limited_s()["rpm"] == pytest.approx(4.0, rel=0.01)


@on_virtual_time
async def test_a_hold_limits_until_it_is_over_and_a_429_is_counted():
    gate = virtual(Limits(slots=4))
    entry = await gate.enter(ONE)
    gate.leave(entry, Throttled("slow down", http_status=429, retry_after_s=7.0))
    assert gate.held_for_s() == 7.0
    await visit(gate, 0.0)
    assert gate.throttled == 1
    assert gate.limited_s() == {"hold": pytest.approx(7.0)}


@on_virtual_time
async def test_an_outage_limits_until_a_probe_is_answered():
    gate = virtual(Limits(slots=4))
    await visit(gate, 0.0)
    while not gate.is_out:
        gate.leave(await gate.enter(ONE), Overloaded("it is overloaded", http_status=503))
    began_s = anyio.current_time()
    await visit(gate, 3.0)
    assert not gate.is_out
    assert gate.limited_s()["outage"] == pytest.approx(anyio.current_time() - began_s, abs=3.01)
    assert gate.limited.now is None


@on_virtual_time
async def test_whoever_gives_up_waiting_leaves_no_limit_behind():
    gate = virtual(Limits(slots=2))
    gate.hold(100.0)
    with anyio.move_on_after(5.0):
        await gate.enter(ONE)
    await anyio.sleep(10.0)
    assert gate.limited.now is None
    assert gate.limited_s() == {"hold": pytest.approx(5.0)}


def test_sessions_add_up_and_come_back_from_run_json():
    first = LimitsMet({"slots": 12.25, "rpm": 1.0}, throttled=17)
    both = limits_met(first.facts()).and_then(LimitsMet({"slots": 1.0, "budget": 2.0}, throttled=1))
    assert both.facts() == {
        "limited_s": {"slots": 13.25, "rpm": 1.0, "tpm": 0.0, "hold": 0.0, "outage": 0.0, "budget": 2.0},
        "throttled": 18,
    }
    assert limits_met({}).facts()["throttled"] == 0, "a run.json from before"
