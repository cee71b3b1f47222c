"""ONE item, end to end, over a scripted wire and a clock that jumps."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import anyio
import httpx
import pytest

from pipeline.analyze import analyze
from pipeline.dialects.newapi import NewApi
from pipeline.endpoints import Endpoints
from pipeline.errors import StoreUnwritable
from pipeline.keys import request_key
from pipeline.records import Item, Media, NotAttempted, Outcome, Request
from pipeline.retry import RetryRules
from pipeline.run import key_of
from tests.rehearsing import (
    START,
    Gathered,
    ScriptedWire,
    answer,
    endpoint,
    gate_of,
    in_turn,
    item,
    items,
    on_virtual_time,
    refusal,
)


async def analyzed(one: Item, here: Endpoints, recorder: Gathered | None = None) -> Outcome | NotAttempted:
    """As a run has it done: with its key, and put on record."""
    recorder = recorder or Gathered()
    ended = await analyze(one, await key_of(one.request), here, recorder)
    await recorder.put(ended)
    return ended


async def ended_of(one: Item, here: Endpoints, recorder: Gathered | None = None) -> Outcome:
    ended = await analyzed(one, here, recorder)
    assert isinstance(ended, Outcome)
    return ended


@on_virtual_time
async def test_an_answer_becomes_an_ok_outcome_with_its_bill():
    """10 text in at $1/M + 5 text out at $2/M = $0.00002."""

    async def script(asked):
        await anyio.sleep(2)
        return answer("a cat")

    outcome = await ended_of(item("one"), endpoint(ScriptedWire(script)))
    assert outcome.error is None
    assert outcome.request_key == request_key(outcome.item.request)
    attempt = outcome.last
    assert attempt.number == 1
    assert attempt.reply is not None
    assert (attempt.reply.text, attempt.state, attempt.http_status) == ("a cat", "billed", 200)
    assert (attempt.sent_at, (attempt.done_at - attempt.sent_at).total_seconds()) == (START, 2)
    assert attempt.cost == attempt.cost_low == attempt.cost_high == Decimal("0.00002")
    assert (attempt.endpoint, attempt.model, attempt.dialect) == (
        "http://endpoint.example/v1",
        "a-model",
        "newapi",
    )


@on_virtual_time
async def test_every_attempt_carries_what_is_known_of_its_bill():
    async def script(asked):
        if asked.nth == 4:
            raise httpx.ReadError("it broke")
        return [lambda: refusal(429), lambda: refusal(503), lambda: answer(choices=[]), None, answer][
            asked.nth - 1
        ]()

    recorder = Gathered()
    await ended_of(item("one"), endpoint(ScriptedWire(script)), recorder)
    assert [
        (attempt.number, attempt.state, attempt.error and attempt.error.error_class)
        for attempt in recorder.attempts_of(1)
    ] == [
        (1, "not_billed", "Throttled"),
        (2, "possibly_billed", "Overloaded"),
        (3, "billed", "EmptyReply"),
        (4, "possibly_billed", "ConnectionLost"),
        (5, "billed", None),
    ]


@on_virtual_time
async def test_a_failed_attempt_that_was_billed_is_charged():
    """Twice 10 in and 0 out, blocked: 2 x $0.00001."""
    wire = ScriptedWire(in_turn(lambda: answer("", tokens=(10, 0), choices=[])))
    recorder = Gathered()
    outcome = await ended_of(item("one"), endpoint(wire), recorder)
    assert outcome.error is not None
    assert outcome.error.error_class == "EmptyReply"
    assert [attempt.cost for attempt in recorder.attempts_of(1)] == [Decimal("0.00001")] * 2


@on_virtual_time
async def test_a_model_without_a_price_is_priced_by_the_one_that_answered_else_not_at_all():
    wire = ScriptedWire(in_turn(lambda: answer(model="b-model")))
    here = endpoint(wire)
    renamed = await ended_of(item("one", model="a-gateways-alias"), here)
    assert renamed.last.cost == Decimal("0.00002")
    wire = ScriptedWire(in_turn(lambda: answer(model="nobody-knows")))
    unknown = await ended_of(item("one", model="a-gateways-alias"), endpoint(wire))
    assert unknown.last.cost is None
    assert [charge.cost for charge in unknown.last.charges] == [None, None]


@pytest.mark.parametrize("name", ["X-Oneapi-Request-Id", "X-Request-Id"])
@pytest.mark.parametrize("response", [answer, lambda: refusal(400), lambda: answer(choices=[])])
@on_virtual_time
async def test_the_endpoints_request_id_is_kept_whatever_it_answered(name, response):
    async def script(asked):
        made = response()
        made.headers[name] = "r-7"
        return made

    ended = await ended_of(item("one"), endpoint(ScriptedWire(script), retry=RetryRules(max_attempts=1)))
    assert ended.last.request_id == "r-7"


@on_virtual_time
async def test_an_item_asleep_in_backoff_keeps_no_healthy_one_waiting():
    async def script(asked):
        if asked.prompt == "ill" and asked.nth == 1:
            return refusal(503, retry_after="100")
        return answer()

    wire = ScriptedWire(script)
    here = endpoint(wire, slots=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(analyzed, item("ill"), here)
        await anyio.sleep(1)
        await analyzed(item("well"), here)
        assert anyio.current_time() == 1
    assert wire.times_of("ill") == [0, 100]


@on_virtual_time
async def test_a_429_that_names_a_time_holds_everyone():
    async def script(asked):
        if asked.prompt == "throttled" and asked.nth == 1:
            return refusal(429, retry_after="30")
        return answer()

    wire = ScriptedWire(script)
    here = endpoint(wire)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(analyzed, item("throttled"), here)
        await anyio.sleep(1)
        await analyzed(item("other"), here)
    assert wire.times_of("other") == [30]
    assert wire.times_of("throttled") == [0, 30]


@on_virtual_time
async def test_with_no_success_yet_a_rejected_key_halts_the_model_and_fails_no_item():
    wire = ScriptedWire(in_turn(lambda: refusal(401)))
    here = endpoint(wire)
    first = await analyzed(item("first"), here)
    second = await analyzed(item("second"), here)
    assert isinstance(first, NotAttempted)
    assert first.last is not None
    assert first.last.error is not None
    assert first.last.error.error_class == "KeyRejected"
    assert second == NotAttempted("second", 1)
    assert len(wire.asked) == 1
    assert gate_of(here).halted["a-model"].error_class == "KeyRejected"


@on_virtual_time
async def test_another_model_goes_on():
    async def script(asked):
        return refusal(401) if asked.model == "a-model" else answer()

    here = endpoint(ScriptedWire(script))
    await analyzed(item("first"), here)
    outcome = await ended_of(item("second", model="b-model"), here)
    assert outcome.error is None


@on_virtual_time
async def test_after_a_success_four_items_fail_and_the_fifth_halts():
    wire = ScriptedWire(in_turn(lambda: refusal(401)))
    here = endpoint(wire)
    (only,) = here
    only.rules.ok("a-model")
    ended = [await analyzed(one, here) for one in items(7)]
    assert [type(one).__name__ for one in ended] == ["Outcome"] * 4 + ["NotAttempted"] * 3
    assert len(wire.asked) == 5


@on_virtual_time
async def test_what_may_be_retried_is_retried_before_it_halts():
    wire = ScriptedWire(in_turn(lambda: refusal(503, "model_not_found")))
    here = endpoint(wire)
    recorder = Gathered()
    ended = await analyzed(item("one"), here, recorder)
    assert isinstance(ended, NotAttempted)
    assert len(recorder.attempts_of(1)) == 4
    assert "a-model" in gate_of(here).halted


@on_virtual_time
async def test_an_item_asleep_when_the_run_stops_is_not_attempted_and_keeps_its_attempts():
    wire = ScriptedWire(in_turn(lambda: refusal(503, retry_after="600")))
    here = endpoint(wire)
    ended, recorder = [], Gathered()

    async def one() -> None:
        ended.append(await analyzed(item("one", row=9), here, recorder))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await anyio.sleep(10)
        here.close()
    assert anyio.current_time() == 10
    (not_attempted,) = ended
    assert isinstance(not_attempted, NotAttempted)
    assert (not_attempted.id, not_attempted.row) == ("one", 9)
    assert [attempt.state for attempt in recorder.attempts_of(9)] == ["possibly_billed"]


@on_virtual_time
async def test_the_halt_of_one_model_does_not_hurry_anothers_retry():
    async def script(asked):
        if asked.prompt == "asleep" and asked.nth == 1:
            return refusal(503, retry_after="60")
        return answer() if asked.model == "b-model" else refusal(401)

    wire = ScriptedWire(script)
    here = endpoint(wire)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(analyzed, item("asleep", model="b-model"), here)
        await anyio.sleep(10)
        await analyzed(item("rejected"), here)
    assert wire.times_of("asleep") == [0, 60]


class Broken(NewApi):
    """A dialect with a bug."""

    def parse(self, body, request):
        raise RuntimeError("a mapping is wrong")


@on_virtual_time
async def test_a_bug_surfaces_as_itself_and_keeps_no_slot():
    here = endpoint(ScriptedWire(in_turn(answer)), dialect=Broken())
    with pytest.raises(RuntimeError, match="a mapping is wrong"):
        await analyzed(item("one"), here)
    assert gate_of(here).in_use == 0


@on_virtual_time
async def test_a_local_file_that_went_away_fails_its_item_alone(tmp_path: Path):
    wire = ScriptedWire(in_turn(answer))
    media = (Media("image", str(tmp_path / "gone.png")),)
    outcome = await ended_of(Item("one", 1, Request("a-model", "what?", media, {})), endpoint(wire))
    assert outcome.error is not None
    assert outcome.error.error_class == "MediaGone"
    assert outcome.request_key is None
    assert outcome.last.state == "not_billed"
    assert not wire.asked


@on_virtual_time
async def test_a_local_file_is_sent_inline_and_counts_by_its_content(tmp_path: Path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"pixels")
    wire = ScriptedWire(in_turn(answer))
    request = Request("a-model", "what?", (Media("image", str(picture)),), {})
    outcome = await ended_of(Item("one", 1, request), endpoint(wire))
    assert outcome.request_key == request_key(request)
    assert b"data:image/png;base64,cGl4ZWxz" in wire.asked[0].body


# On record before it goes


class Refusing(Gathered):
    """A disk that takes nothing."""

    async def sent(self, *facts: object) -> int:
        raise StoreUnwritable("ledger", "database or disk is full")


@on_virtual_time
async def test_what_cannot_be_put_on_record_does_not_go():
    wire = ScriptedWire(in_turn(answer))
    here = endpoint(wire)
    with pytest.raises(StoreUnwritable):
        await analyzed(item("one"), here, Refusing())
    assert not wire.asked
    assert gate_of(here).in_use == 0


@on_virtual_time
async def test_an_attempt_is_on_record_before_it_goes_and_each_try_before_the_next():
    recorder = Gathered()
    seen: list[tuple[int, int]] = []

    async def script(asked):
        seen.append((len(recorder.sent_rows), len(recorder.attempts)))
        return refusal(503) if asked.nth < 3 else answer()

    await analyzed(item("one"), endpoint(ScriptedWire(script)), recorder)
    assert seen == [(1, 0), (2, 1), (3, 2)]


@on_virtual_time
async def test_all_attempts_of_a_row_bear_one_idempotency_key_and_other_rows_another():
    async def script(asked):
        return refusal(503) if asked.nth < 3 else answer()

    wire, recorder = ScriptedWire(script), Gathered()
    here = endpoint(wire)
    await analyzed(item("one", 1), here, recorder)
    await analyzed(item("two", 2), here, recorder)
    keys = [asked.headers["idempotency-key"] for asked in wire.asked]
    assert keys == ["r1-1"] * 3 + ["r1-2"] * 3


@on_virtual_time
async def test_attempts_go_on_counting_where_an_earlier_session_left_off():
    recorder = Gathered()
    wire = ScriptedWire(in_turn(lambda: refusal(503)))
    here = endpoint(wire, retry=RetryRules(max_attempts=2))
    await analyzed(item("one"), here, recorder)
    await analyzed(item("one"), here, recorder)
    assert [attempt.number for attempt in recorder.attempts_of(1)] == [1, 2, 3, 4]
