"""Several endpoints in order of preference: where an attempt goes, and who is asked when one is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint

from pipeline.analyze import analyze
from pipeline.endpoints import Endpoints
from pipeline.errors import EndpointDown, KeyRejected, NeedsTooMuch, RowError
from pipeline.gate import GateClosed, Limits
from pipeline.records import BadRow, Item, NotAttempted, Outcome, Request
from pipeline.retry import RetryRules
from pipeline.run import Run
from tests.rehearsing import (
    Asked,
    Gathered,
    RowsAtHand,
    Script,
    ScriptedWire,
    an_endpoint,
    answer,
    endpoint,
    gate_of,
    in_turn,
    item,
    items,
    no_repeats,
    on_virtual_time,
    refusal,
    several,
)

HALT = KeyRejected("the key is wrong")
WELL = in_turn(answer)
FIRST, SECOND = "http://first.example/v1", "http://second.example/v1"


def taking(seconds: float, response: Callable[[], httpx.Response] = answer) -> Script:
    async def script(asked: Asked) -> httpx.Response:
        await anyio.sleep(seconds)
        return response()

    return script


class Two:
    """Two endpoints, and what each was asked."""

    def __init__(
        self,
        first: Script,
        second: Script,
        *,
        limits: tuple[Limits, Limits] = (Limits(4), Limits(4)),
        models: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
        fallbacks: dict[str, str] | None = None,
        retry: RetryRules = RetryRules(),  # noqa: B008 # frozen
    ) -> None:
        self.wires = (ScriptedWire(first), ScriptedWire(second))
        self.first, self.second = (
            an_endpoint(wire, host, limits=limit, models=served)
            for wire, host, limit, served in zip(
                self.wires, ("first.example", "second.example"), limits, models, strict=True
            )
        )
        self.here = several(self.first, self.second, retry=retry, fallbacks=fallbacks)
        self.gathered = Gathered()

    async def analyzed(self, one: Item) -> Outcome | NotAttempted | BadRow:
        ended = await analyze(one, None, self.here, self.gathered)
        await self.gathered.put(ended)
        return ended

    async def run(self, rows: list[Item]) -> Run:
        run = Run(RowsAtHand(rows), self.here, self.gathered, no_repeats())
        await run.execute()
        return run

    @property
    def asked(self) -> tuple[int, int]:
        """How often each was."""
        return len(self.wires[0].asked), len(self.wires[1].asked)

    def answered_by(self) -> Counter[str]:
        """The endpoints of the outcomes that are ok."""
        return Counter(
            ended.last.endpoint
            for ended in self.gathered.ended
            if isinstance(ended, Outcome) and ended.error is None
        )


# Asleep


@on_virtual_time
async def test_a_sleeper_holds_no_slot():
    here = endpoint(ScriptedWire(WELL), slots=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.sleep, "a-model", 100)
        await anyio.wait_all_tasks_blocked()
        assert (here.asleep, gate_of(here).in_use) == (1, 0)
        await here.enter(item("one"))
        assert anyio.current_time() == 0
    assert anyio.current_time() == 100
    assert here.asleep == 0


@on_virtual_time
async def test_who_goes_to_sleep_is_announced_once_it_counts():
    here = endpoint(ScriptedWire(WELL))
    seen: list[int] = []
    here.on_room(lambda: seen.append(here.asleep))
    await here.sleep("a-model", 1)
    assert seen == [1]


async def woken(here: Endpoints, *models: str) -> dict[tuple[str, str], float]:
    """When and how the sleep of a minute ends for each model."""
    woke: dict[tuple[str, str], float] = {}

    async def sleep(model: str) -> None:
        try:
            await here.sleep(model, 60)
        except GateClosed:
            woke[model, "closed"] = anyio.current_time()
        else:
            woke[model, "rested"] = anyio.current_time()

    async with anyio.create_task_group() as tasks:
        for model in models:
            tasks.start_soon(sleep, model)
    return woke


async def after(seconds: float, does: Callable[[], None]) -> None:
    await anyio.sleep(seconds)
    does()


@on_virtual_time
async def test_a_halt_wakes_the_models_sleepers_and_nobody_elses():
    here = endpoint(ScriptedWire(WELL))
    (only,) = here
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(after, 10, lambda: here.halt(only, "a", HALT))
        assert await woken(here, "a", "b") == {("a", "closed"): 10, ("b", "rested"): 60}
    assert here.asleep == 0


@on_virtual_time
async def test_a_halt_wakes_nobody_while_another_endpoint_is_left():
    two = Two(WELL, WELL)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(after, 10, lambda: two.here.halt(two.first, "a", HALT))
        assert await woken(two.here, "a") == {("a", "rested"): 60}


@on_virtual_time
async def test_closing_wakes_every_sleeper_and_gives_no_reason():
    here = endpoint(ScriptedWire(WELL))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(after, 5, here.close)
        assert await woken(here, "a", "b") == {("a", "closed"): 5, ("b", "closed"): 5}
    with pytest.raises(GateClosed) as caught:
        here.check("a")
    assert caught.value.reason is None
    with pytest.raises(GateClosed):
        await here.sleep("a", 60)
    assert anyio.current_time() == 5


@on_virtual_time
async def test_what_goes_on_elsewhere_holds_no_slot_and_is_called_off_when_nothing_goes_any_more():
    here = endpoint(ScriptedWire(WELL))
    (only,) = here
    seen: list[int] = []
    here.on_room(lambda: seen.append(here.asleep))
    ended: dict[str, float] = {}

    async def busy(model: str) -> None:
        try:
            with here.elsewhere(model):
                await anyio.sleep(60)
            ended[model] = anyio.current_time()
        except GateClosed:
            ended[f"{model} closed"] = anyio.current_time()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy, "a")
        tasks.start_soon(busy, "b")
        tasks.start_soon(after, 10, lambda: here.halt(only, "a", HALT))
    assert ended == {"a closed": 10, "b": 60}
    assert (seen, here.asleep) == ([1, 2], 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy, "b")
        tasks.start_soon(after, 5, here.close)
    assert ended["b closed"] == 65


# Preference and room


@on_virtual_time
async def test_where_the_first_has_room_the_second_is_not_asked():
    two = Two(taking(1), taking(1))
    await two.run(items(4))
    assert two.asked == (4, 0)


@on_virtual_time
async def test_what_the_first_has_no_room_for_goes_to_the_second():
    """Four slots each: eight at once."""
    two = Two(taking(1), taking(1))
    await two.run(items(40))
    assert two.asked == (20, 20)
    assert anyio.current_time() == pytest.approx(5, abs=0.1)


@on_virtual_time
async def test_the_second_helps_out_beyond_the_firsts_requests_a_minute():
    """60 a minute at the first; the second takes the rest at once."""
    two = Two(WELL, taking(0.5), limits=(Limits(50, rpm=60), Limits(2)))
    await two.run(items(600))
    first, second = two.asked
    elapsed_s = anyio.current_time()
    assert first >= 0.9 * elapsed_s, "what it allows is used"
    assert second >= 0.8 * 4 * elapsed_s, "and so are the second's slots"


@on_virtual_time
async def test_slots_are_those_of_all_endpoints_that_are_not_down():
    two = Two(WELL, WELL, limits=(Limits(3), Limits(5)))
    assert two.here.slots == 8


@on_virtual_time
async def test_who_waits_longest_goes_first_wherever_there_is_room():
    """A slot each, and thirty in line: nobody overtakes."""
    two = Two(taking(1), taking(1.3), limits=(Limits(1), Limits(1)))
    order: list[int] = []

    async def visit(one: Item) -> None:
        chosen, entry = await two.here.enter(one)
        order.append(one.row)
        await anyio.sleep(1 if chosen is two.first else 1.3)
        chosen.gate.leave(entry, None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(two.here.call_waiters)
        async with anyio.create_task_group() as visits:
            for one in items(30):
                visits.start_soon(visit, one)
                await checkpoint()
        tasks.cancel_scope.cancel()
    assert order == list(range(1, 31))
    assert anyio.current_time() < 25, "both are used"


@on_virtual_time
async def test_nobody_starves_while_requests_a_minute_keep_many_waiting():
    """Two endpoints at 60 a minute: of 240 that come at once, the last goes after two minutes."""
    two = Two(WELL, WELL, limits=(Limits(300, rpm=60), Limits(300, rpm=60)))
    went: dict[int, float] = {}

    async def visit(one: Item) -> None:
        chosen, entry = await two.here.enter(one)
        went[one.row] = anyio.current_time()
        chosen.gate.leave(entry, None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(two.here.call_waiters)
        async with anyio.create_task_group() as visits:
            for one in items(240):
                visits.start_soon(visit, one)
                await checkpoint()
        tasks.cancel_scope.cancel()
    assert anyio.current_time() <= 240 / 2 / 0.95
    late = [row for row, when in went.items() if when > row / 2 + 5]
    assert not late, "each went about when its turn was"


@on_virtual_time
async def test_cancelled_in_line_it_leaves_nothing_behind():
    two = Two(WELL, WELL, limits=(Limits(1), Limits(1)))
    entries = [await two.here.enter(one) for one in items(2)]
    for row in range(3, 9):
        with anyio.move_on_after(0.5):
            await two.here.enter(item("x", row))
            pytest.fail("there is no room")
    for chosen, entry in entries:
        chosen.gate.leave(entry, None)
    assert (two.first.gate.in_use, two.second.gate.in_use, two.here.asleep) == (0, 0, 0)
    with anyio.fail_after(1):
        places = [(await two.here.enter(one))[0].name for one in items(2)]
    assert places == [FIRST, SECOND]


# Models


@on_virtual_time
async def test_an_endpoint_is_asked_only_for_its_models():
    two = Two(WELL, WELL, models=(("b-model",), ("a-model",)))
    await two.run([*items(10, "a-model"), *(item(f"b{row}", row, "b-model") for row in range(11, 21))])
    assert {asked.model for asked in two.wires[0].asked} == {"b-model"}
    assert {asked.model for asked in two.wires[1].asked} == {"a-model"}


@on_virtual_time
async def test_a_model_that_no_endpoint_serves_is_a_bad_row_with_a_sentence():
    two = Two(WELL, WELL, models=(("b-model",), ("c-model",)))
    ended = await two.analyzed(item("one", 7))
    assert isinstance(ended, BadRow)
    assert isinstance(ended.error, RowError)
    assert str(ended.error) == "row 7, column 'model': no endpoint serves the model 'a-model'"
    assert two.asked == (0, 0)


@on_virtual_time
async def test_items_that_wait_for_one_endpoint_leave_no_other_idle():
    """The first model's endpoint is slow: while its items wait, the other model's go on."""
    two = Two(taking(50), taking(1), models=(("slow",), ("quick",)), limits=(Limits(1), Limits(4)))
    rows = [*items(20, "slow"), *(item(f"q{row}", row, "quick") for row in range(21, 61))]
    await two.run(rows)
    assert anyio.current_time() == 1_000
    assert max(asked.at_s for asked in two.wires[1].asked) <= 200


# Failing over


@on_virtual_time
async def test_when_the_first_halts_the_second_takes_over_and_no_item_fails():
    two = Two(in_turn(lambda: refusal(401)), taking(1))
    run = await two.run(items(30))
    assert two.answered_by() == {SECOND: 30}
    assert [(halt.endpoint, halt.model, halt.error_class) for halt in run.halts] == [
        (FIRST, "a-model", "KeyRejected")
    ]
    assert run.state == "done", "nothing was left unasked"
    assert two.asked[0] <= 4, "those under way when it halted"


@on_virtual_time
async def test_an_attempt_at_the_endpoint_that_halted_stays_on_record():
    two = Two(in_turn(lambda: refusal(401)), WELL)
    outcome = await two.analyzed(item("one"))
    assert isinstance(outcome, Outcome)
    assert outcome.error is None
    assert [(attempt.endpoint, attempt.error is None) for attempt in two.gathered.attempts_of(1)] == [
        (FIRST, False),
        (SECOND, True),
    ]


@on_virtual_time
async def test_when_both_halt_items_are_not_attempted():
    two = Two(in_turn(lambda: refusal(401)), in_turn(lambda: refusal(402)))
    run = await two.run(items(30))
    assert run.state == "halted"
    assert {type(ended) for ended in two.gathered.ended} == {NotAttempted}
    assert {(halt.endpoint, halt.error_class) for halt in run.halts} == {
        (FIRST, "KeyRejected"),
        (SECOND, "OutOfCredit"),
    }


@on_virtual_time
async def test_with_nothing_left_the_reason_is_that_of_the_most_preferred():
    two = Two(WELL, WELL)
    two.here.halt(two.second, "a-model", KeyRejected("the second's key"))
    two.here.halt(two.first, "a-model", HALT)
    with pytest.raises(GateClosed) as caught:
        two.here.check("a-model")
    assert caught.value.reason is HALT


def dying(from_s: float, to_s: float) -> Script:
    """Answers after a second, but for these seconds, when nobody is there."""

    async def script(asked: Asked) -> httpx.Response:
        if from_s <= anyio.current_time() < to_s:
            raise httpx.ConnectError("refused")
        await anyio.sleep(1)
        return answer()

    return script


@on_virtual_time
async def test_when_the_first_is_out_the_second_takes_over_and_no_item_fails():
    two = Two(dying(20, 1e9), taking(1))
    await two.run(items(400))
    assert sum(two.answered_by().values()) == 400
    late = [asked for asked in two.wires[0].asked if asked.at_s > 30]
    assert len(late) <= 0.2 * len([asked for asked in two.wires[1].asked if asked.at_s > 30])
    assert anyio.current_time() <= 130, "four slots are left of eight: about a hundred seconds"


@on_virtual_time
async def test_when_the_first_is_back_it_is_used_again():
    """Eight slots each, of a second each: from soon after the outage on, eight a second at either."""
    two = Two(dying(20, 60), taking(1), limits=(Limits(8), Limits(8)))
    await two.run(items(1_600))
    assert sum(two.answered_by().values()) == 1_600
    elapsed_s = anyio.current_time()
    again = [asked for asked in two.wires[0].asked if asked.at_s >= 70]
    assert len(again) >= 0.9 * 8 * (elapsed_s - 70)


@on_virtual_time
async def test_an_endpoint_that_is_down_is_asked_no_more_and_the_run_goes_on_elsewhere():
    two = Two(dying(20, 1e9), taking(1), limits=(Limits(4, max_outage_s=30), Limits(4)), retry=RetryRules())
    run = await two.run(items(800))
    assert sum(two.answered_by().values()) == 800
    assert isinstance(two.first.gate.down, EndpointDown)
    assert two.here.slots == 4
    assert max(asked.at_s for asked in two.wires[0].asked) <= 80
    assert [(halt.endpoint, halt.model, halt.error_class) for halt in run.halts] == [
        (FIRST, None, "EndpointDown")
    ]
    assert run.state == "done"


@on_virtual_time
async def test_the_only_endpoint_that_goes_down_halts_the_run_and_fails_no_item():
    wire = ScriptedWire(dying(20, 1e9))
    here = endpoint(wire, limits=Limits(8, max_outage_s=120))
    gathered = Gathered()
    run = Run(RowsAtHand(items(1_000)), here, gathered, no_repeats())
    await run.execute()
    assert run.state == "halted"
    assert [halt.error_class for halt in run.halts] == ["EndpointDown"]
    kinds = Counter(type(ended).__name__ for ended in gathered.ended)
    assert kinds == {"Outcome": 8 * 20, "NotAttempted": 1_000 - 8 * 20}
    assert anyio.current_time() <= 20 + 120 + 60


@on_virtual_time
async def test_an_outage_makes_items_wait_and_fails_none():
    """Ten minutes in which nobody is there, with five tries an item: probes alone go, and then the rest."""
    wire = ScriptedWire(dying(20, 620))
    gathered = Gathered()
    await Run(RowsAtHand(items(1_000)), endpoint(wire, slots=8), gathered, no_repeats()).execute()
    assert {type(ended) for ended in gathered.ended} == {Outcome}
    assert all(ended.error is None for ended in gathered.ended if isinstance(ended, Outcome))
    assert sum(20 <= asked.at_s < 620 for asked in wire.asked) <= 150
    assert anyio.current_time() <= 620 + 15 + 1_000 / 8


@on_virtual_time
async def test_one_too_large_for_the_first_goes_to_the_second():
    """It needs 2,000 tokens, and the first allows 1,000 a minute."""
    two = Two(WELL, WELL, limits=(Limits(4, tpm=1_000), Limits(4)))
    large = Item("large", 1, Request("a-model", "xxx" * 2_000, (), {}))
    outcome = await two.analyzed(large)
    assert isinstance(outcome, Outcome)
    assert two.answered_by() == {SECOND: 1}


@on_virtual_time
async def test_one_too_large_for_all_is_a_bad_row():
    two = Two(WELL, WELL, limits=(Limits(4, tpm=1_000), Limits(4, tpm=1_500)))
    ended = await two.analyzed(Item("large", 7, Request("a-model", "xxx" * 2_000, (), {})))
    assert isinstance(ended, BadRow)
    assert isinstance(ended.error, NeedsTooMuch)
    assert two.asked == (0, 0)


# Another model


def blocked() -> httpx.Response:
    return refusal(403, "content_policy_violation")


def by_model(**responses: Callable[[], httpx.Response]) -> Script:
    """``a_model=…`` is what the model a-model answers; others answer well."""

    async def script(asked: Asked) -> httpx.Response:
        return responses.get(asked.model.replace("-", "_"), answer)()

    return script


def models_of(gathered: Gathered, row: int = 1) -> list[tuple[str, str | None]]:
    return [
        (attempt.model, attempt.error.error_class if attempt.error else None)
        for attempt in gathered.attempts_of(row)
    ]


async def fallen_back(
    script: Script, fallbacks: dict[str, str], **more: object
) -> tuple[Outcome | NotAttempted | BadRow, Gathered]:
    here, gathered = endpoint(ScriptedWire(script), fallbacks=fallbacks, **more), Gathered()  # type: ignore[arg-type]
    ended = await analyze(item("one"), None, here, gathered)
    await gathered.put(ended)
    return ended, gathered


@on_virtual_time
async def test_a_fallback_is_asked_for_its_class_of_error():
    ended, gathered = await fallen_back(by_model(a_model=blocked), {"ContentBlocked": "b-model"})
    assert isinstance(ended, Outcome)
    assert ended.error is None
    assert models_of(gathered) == [("a-model", "ContentBlocked"), ("b-model", None)]


@on_virtual_time
async def test_a_fallback_is_asked_under_a_key_of_its_own():
    """To the first model's, an endpoint that keeps to such keys would give the first model's answer."""
    wire = ScriptedWire(by_model(a_model=blocked))
    here, gathered = endpoint(wire, fallbacks={"ContentBlocked": "b-model"}), Gathered()
    await analyze(item("one"), None, here, gathered)
    first, second = (asked.headers["idempotency-key"] for asked in wire.asked)
    assert first != second


@on_virtual_time
async def test_for_another_class_it_is_not_asked():
    ended, gathered = await fallen_back(by_model(a_model=lambda: refusal(400)), {"ContentBlocked": "b-model"})
    assert isinstance(ended, Outcome)
    assert models_of(gathered) == [("a-model", "BadInput")]


@on_virtual_time
async def test_a_fallback_is_asked_once():
    """Both block it, and each is the other's fallback: no endless round."""
    ended, gathered = await fallen_back(
        in_turn(blocked), {"ContentBlocked": "b-model", "BadInput": "a-model"}
    )
    assert isinstance(ended, Outcome)
    assert ended.error is not None
    assert models_of(gathered) == [("a-model", "ContentBlocked"), ("b-model", "ContentBlocked")]
    ended, gathered = await fallen_back(
        by_model(a_model=blocked, b_model=lambda: refusal(400)),
        {"ContentBlocked": "b-model", "BadInput": "a-model"},
    )
    assert models_of(gathered) == [("a-model", "ContentBlocked"), ("b-model", "BadInput")]


@on_virtual_time
async def test_a_fallback_may_have_one_of_its_own():
    _, gathered = await fallen_back(
        by_model(a_model=blocked, b_model=lambda: refusal(400)),
        {"ContentBlocked": "b-model", "BadInput": "c-model"},
    )
    assert [model for model, _ in models_of(gathered)] == ["a-model", "b-model", "c-model"]


@on_virtual_time
async def test_what_may_be_retried_is_retried_before_a_fallback_which_has_all_its_tries():
    ended, gathered = await fallen_back(
        by_model(a_model=lambda: refusal(503), b_model=lambda: refusal(503)),
        {"Overloaded": "b-model"},
        retry=RetryRules(max_attempts=3),
    )
    assert isinstance(ended, Outcome)
    assert [model for model, _ in models_of(gathered)] == ["a-model"] * 3 + ["b-model"] * 3
    assert [attempt.number for attempt in gathered.attempts_of(1)] == [1, 2, 3, 4, 5, 6]


@on_virtual_time
async def test_the_costs_of_both_models_are_counted():
    """Blocked twice by one model at 10 in and 0 out; then 10 in and 5 out: $0.00001 + $0.00001 + $0.00002."""

    def empty() -> httpx.Response:
        return answer("", tokens=(10, 0), choices=[])

    _, gathered = await fallen_back(by_model(a_model=empty), {"EmptyReply": "b-model"})
    assert [attempt.cost for attempt in gathered.attempts_of(1)] == [
        Decimal("0.00001"),
        Decimal("0.00001"),
        Decimal("0.00002"),
    ]


@on_virtual_time
async def test_a_model_that_halted_has_its_items_answered_by_the_fallback():
    wire = ScriptedWire(by_model(a_model=lambda: refusal(404, "model_not_found")))
    here, gathered = endpoint(wire, fallbacks={"UnknownModel": "b-model"}), Gathered()
    run = Run(RowsAtHand(items(20)), here, gathered, no_repeats())
    await run.execute()
    assert {type(ended) for ended in gathered.ended} == {Outcome}
    assert sum(asked.model == "b-model" for asked in wire.asked) == 20
    assert sum(asked.model == "a-model" for asked in wire.asked) <= 4
    assert run.state == "done"


@on_virtual_time
async def test_a_fallback_that_no_endpoint_serves_is_not_asked():
    two = Two(in_turn(blocked), WELL, models=(("a-model",), ("c-model",)), fallbacks={"ContentBlocked": "b"})
    outcome = await two.analyzed(item("one"))
    assert isinstance(outcome, Outcome)
    assert outcome.error is not None
    assert outcome.error.error_class == "ContentBlocked"


@on_virtual_time
async def test_the_fallback_may_be_at_another_endpoint():
    two = Two(
        in_turn(blocked),
        WELL,
        models=(("a-model",), ("b-model",)),
        fallbacks={"ContentBlocked": "b-model"},
    )
    await two.run(items(3))
    assert two.answered_by() == {SECOND: 3}


@on_virtual_time
async def test_no_fallback_is_asked_once_the_run_stops():
    two = Two(taking(10, blocked), WELL, fallbacks={"ContentBlocked": "b-model"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(two.analyzed, item("one"))
        await anyio.sleep(5)
        two.here.close()
    (ended,) = two.gathered.ended
    assert isinstance(ended, Outcome)
    assert two.asked == (1, 0)
