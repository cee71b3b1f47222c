"""Which attempts are followed by another, after how long, and how often; on a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx
import pytest

from pipeline.analyze import analyze
from pipeline.errors import AddressRefused, FetchFailed, MediaMissing, MediaUnreachable
from pipeline.records import Attempt, Outcome
from pipeline.retry import RetryRules, refetching
from pipeline.run import Run
from tests.rehearsing import (
    Asked,
    Gathered,
    RowsAtHand,
    Script,
    ScriptedWire,
    answer,
    endpoint,
    gaps,
    gate_of,
    in_turn,
    item,
    items,
    no_repeats,
    on_virtual_time,
    refusal,
)


def overloaded(**headers: str) -> httpx.Response:
    return refusal(503, **headers)


def no_choices() -> httpx.Response:
    return answer(choices=[])


def upstream_failed() -> httpx.Response:
    return httpx.Response(200, json={"error": {"message": "no", "code": "upstream_error"}})


PATIENT = RetryRules(max_attempts=50, max_total_s=1e9)

CAPPED = {
    "UpstreamFailed": (upstream_failed, 3),
    "EmptyReply": (no_choices, 2),
    "ChannelKeyRejected": (lambda: refusal(401, "invalid_upstream_key"), 3),
    "CreditReserved": (lambda: refusal(403, "insufficient_user_quota"), 2),
    "NoChannel": (lambda: refusal(503, "model_not_found"), 4),
}
UNCAPPED = {
    "Throttled": lambda: refusal(429),
    "Overloaded": overloaded,
    "TimingConflict": lambda: refusal(409),
    "BrokenReply": lambda: httpx.Response(200, content=b'{"id": "c-1", "choi'),
}
FINAL = {
    "BadInput": lambda: refusal(400, "prompt_invalid"),
    "ContentBlocked": lambda: refusal(403, "content_policy_violation"),
    "TooLarge": lambda: refusal(413),
    "KeyRejected": lambda: refusal(401),
    "OutOfCredit": lambda: refusal(429, "insufficient_quota"),
    "WrongAddress": lambda: httpx.Response(404, html="<title>nginx</title>"),
}


async def tried(script: Script, rules: RetryRules) -> tuple[list[Attempt], list[float]]:
    """The attempts of one item, and when each was sent."""
    wire = ScriptedWire(script)
    gathered = Gathered()
    await gathered.put(await analyze(item("one"), None, endpoint(wire, retry=rules), gathered))
    attempts = gathered.attempts_of(1)
    assert len(attempts) == len(gathered.sent_rows) == len(wire.asked)
    return attempts, wire.times_of("one")


def classes(attempts: list[Attempt]) -> list[str | None]:
    return [attempt.error.error_class if attempt.error else None for attempt in attempts]


@pytest.mark.parametrize("name", UNCAPPED)
@on_virtual_time
async def test_attempts_are_capped(name: str):
    attempts, _ = await tried(in_turn(UNCAPPED[name]), RetryRules(max_attempts=7, max_total_s=1e9))
    assert classes(attempts) == [name] * 7
    assert [attempt.number for attempt in attempts] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", CAPPED)
@on_virtual_time
async def test_some_classes_have_tries_of_their_own(name: str):
    response, most = CAPPED[name]
    attempts, _ = await tried(in_turn(response), PATIENT)
    assert classes(attempts) == [name] * most


@pytest.mark.parametrize("name", CAPPED)
@on_virtual_time
async def test_no_class_gets_more_tries_than_the_item(name: str):
    attempts, _ = await tried(in_turn(CAPPED[name][0]), RetryRules(max_attempts=1))
    assert len(attempts) == 1


@on_virtual_time
async def test_a_classs_tries_count_that_class_alone():
    """Two tries for an empty reply: the second empty one ends it, whatever came in between."""
    attempts, _ = await tried(in_turn(no_choices, overloaded, overloaded, no_choices), PATIENT)
    assert classes(attempts) == ["EmptyReply", "Overloaded", "Overloaded", "EmptyReply"]


@pytest.mark.parametrize("name", FINAL)
@on_virtual_time
async def test_what_is_terminal_or_halting_is_not_tried_again(name: str):
    attempts, _ = await tried(in_turn(FINAL[name], answer), PATIENT)
    assert classes(attempts) == [name]


@on_virtual_time
async def test_a_success_ends_it():
    attempts, _ = await tried(in_turn(overloaded, overloaded, answer), PATIENT)
    assert classes(attempts) == ["Overloaded", "Overloaded", None]


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "0"}, 0),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after": "Thu, 05 Mar 2026 22:00:30 GMT", "date": "Thu, 05 Mar 2026 22:00:00 GMT"}, 30),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
@on_virtual_time
async def test_a_named_wait_is_kept_exactly(status: int, headers: dict[str, str], wait_s: float):
    attempts, times = await tried(in_turn(lambda: refusal(status, **headers), answer), PATIENT)
    assert len(attempts) == 2
    assert gaps(times) == [wait_s]


@on_virtual_time
async def test_whoever_comes_when_it_was_told_and_is_refused_again_waits_longer_than_told():
    """Else five attempts at an endpoint that names 10 ms would be over within a moment."""
    wire = ScriptedWire(in_turn(lambda: refusal(409, retry_after_ms="10")))
    here = endpoint(wire, slots=200, retry=RetryRules(max_attempts=5))
    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(analyze, item(f"i{number}", number), None, here, Gathered())
    waits = [gaps(wire.times_of(f"i{number}")) for number in range(200)]
    assert {round(of_item[0], 6) for of_item in waits} == {0.01}
    for place, bound in enumerate([2, 4, 8], start=1):
        nth = [of_item[place] for of_item in waits]
        assert 0.01 - 1e-6 <= min(nth) < bound * 0.2
        assert bound * 0.8 < max(nth) <= bound + 0.01 + 1e-6


@pytest.mark.parametrize(
    ("error", "tries"),
    [(FetchFailed("no"), 4), (MediaMissing(404), 1), (AddressRefused("h", "10.0.0.1"), 1)],
    ids=lambda value: type(value).__name__,
)
@on_virtual_time
async def test_media_are_fetched_again_where_their_host_failed_just_now(error: MediaUnreachable, tries: int):
    times: list[float] = []

    async def fetch() -> None:
        times.append(anyio.current_time())
        raise error

    async def sleep(model: str, seconds: float) -> None:
        assert model == "a-model"
        await anyio.sleep(seconds)

    policy = refetching(RetryRules(max_attempts=4), sleep)("a-model")
    with pytest.raises(type(error)):
        await policy(fetch)
    assert len(times) == tries


@on_virtual_time
async def test_a_wait_that_a_media_host_names_is_kept():
    times: list[float] = []

    async def fetch() -> None:
        times.append(anyio.current_time())
        if len(times) == 1:
            raise FetchFailed("busy", retry_after_s=7)

    async def sleep(model: str, seconds: float) -> None:
        await anyio.sleep(seconds)

    await refetching(RetryRules(), sleep)("a-model")(fetch)
    assert times == [0, 7]


@on_virtual_time
async def test_unnamed_waits_are_exponential_with_full_jitter():
    """The nth wait is anywhere between 0 and min(60, 2^(n-1)) seconds."""
    bounds = [1, 2, 4, 8, 16, 32, 60, 60]
    wire = ScriptedWire(in_turn(lambda: refusal(409)))
    here = endpoint(wire, slots=200, retry=RetryRules(max_attempts=9, max_total_s=1e9))
    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(analyze, item(f"i{number}", number), None, here, Gathered())
    waits = [gaps(wire.times_of(f"i{number}")) for number in range(200)]
    for place, bound in enumerate(bounds):
        nth = [of_item[place] for of_item in waits]
        assert 0 <= min(nth) < bound * 0.2, "full jitter reaches down to nothing"
        assert bound * 0.8 < max(nth) <= bound + 1e-6
        assert 0.35 * bound < sum(nth) / len(nth) < 0.65 * bound


@on_virtual_time
async def test_the_total_time_is_read_from_the_simulated_clock():
    """Sent at 0 and 60; a third at 120 would start past the cap of 100 s, so it is not waited for."""
    rules = RetryRules(max_attempts=50, max_total_s=100)
    attempts, times = await tried(in_turn(lambda: overloaded(retry_after="60")), rules)
    assert times == [0, 60]
    assert len(attempts) == 2
    assert anyio.current_time() == 60


@on_virtual_time
async def test_no_attempt_starts_past_the_total_time():
    rules = RetryRules(max_attempts=1000, max_total_s=100)
    for _ in range(30):
        _, times = await tried(in_turn(overloaded), rules)
        assert times[-1] - times[0] <= 100


@on_virtual_time
async def test_the_total_time_begins_with_the_first_attempt_not_with_the_wait_for_it():
    wire = ScriptedWire(in_turn(overloaded, answer))
    here = endpoint(wire, retry=RetryRules(max_total_s=100))
    gate_of(here).hold(5000)
    gathered = Gathered()
    await gathered.put(await analyze(item("one"), None, here, gathered))
    assert classes(gathered.attempts_of(1)) == ["Overloaded", None]


@pytest.mark.parametrize("fault", [httpx.ReadError, httpx.ReadTimeout, httpx.ConnectError])
@on_virtual_time
async def test_trouble_on_the_wire_is_tried_again(fault: Callable[[str], httpx.HTTPError]):
    async def script(asked):
        if asked.nth < 3:
            raise fault("it broke")
        return answer()

    attempts, _ = await tried(script, PATIENT)
    assert [attempt.state for attempt in attempts] == ["possibly_billed", "possibly_billed", "billed"]


# In an outage


@pytest.mark.parametrize(("max_attempts", "lasts_s"), [(2, 60), (5, 600), (5, 3_000)])
@on_virtual_time
async def test_neither_attempts_nor_time_count_while_nobody_answers(max_attempts: int, lasts_s: float):
    """The longest outage lasts longer than the total time of an item, which is 1,800 s."""

    async def script(asked: Asked) -> httpx.Response:
        if 20 <= anyio.current_time() < 20 + lasts_s:
            return overloaded()
        await anyio.sleep(1)
        return answer()

    wire, gathered = ScriptedWire(script), Gathered()
    here = endpoint(wire, slots=8, retry=RetryRules(max_attempts=max_attempts))
    await Run(RowsAtHand(items(600)), here, gathered, no_repeats()).execute()
    assert [ended for ended in gathered.ended if not isinstance(ended, Outcome) or ended.error] == []
    assert sum(20 <= asked.at_s < 20 + lasts_s for asked in wire.asked) <= 50 + lasts_s / 5
    assert anyio.current_time() <= 20 + lasts_s + 20 + 600 / 8


@on_virtual_time
async def test_a_few_odd_items_among_healthy_ones_fail_after_their_tries_whoever_is_left():
    """Three rows that make the endpoint fall over every time; in the end nobody else is left."""

    async def script(asked: Asked) -> httpx.Response:
        await anyio.sleep(1)
        return overloaded() if asked.prompt in ("i17", "i50", "i150") else answer()

    wire, gathered = ScriptedWire(script), Gathered()
    run = Run(RowsAtHand(items(200)), endpoint(wire, slots=32), gathered, no_repeats())
    await run.execute()
    assert run.state == "done"
    assert [len(wire.times_of(odd)) for odd in ("i17", "i50", "i150")] == [5, 5, 5]
    assert anyio.current_time() < 120


@pytest.mark.parametrize(("slots", "odd"), [(4, range(20, 31)), (32, range(100, 181))])
@on_virtual_time
async def test_odd_items_that_stand_together_do_not_stop_the_healthy_ones_after_them(slots: int, odd: range):
    """Media of one host, say, one below the other: each of them times out at every try."""

    async def script(asked: Asked) -> httpx.Response:
        await anyio.sleep(2)
        return overloaded() if int(asked.prompt[1:]) in odd else answer()

    wire, gathered = ScriptedWire(script), Gathered()
    run = Run(RowsAtHand(items(400)), endpoint(wire, slots=slots), gathered, no_repeats())
    await run.execute()
    assert run.state == "done"
    ended = [one for one in gathered.ended if isinstance(one, Outcome)]
    assert sum(one.error is None for one in ended) == 400 - len(odd)
    assert anyio.current_time() < 1_800


@on_virtual_time
async def test_items_that_are_nearly_all_odd_fail_and_hold_no_run_for_an_hour():
    """A run over what failed last night, and fails again: somebody answers first, then nobody any more."""

    async def script(asked: Asked) -> httpx.Response:
        await anyio.sleep(1)
        return answer() if asked.prompt == "i1" else overloaded()

    wire, gathered = ScriptedWire(script), Gathered()
    run = Run(RowsAtHand(items(12)), endpoint(wire, slots=4), gathered, no_repeats())
    await run.execute()
    assert run.state == "done"
    assert anyio.current_time() < 1_800
