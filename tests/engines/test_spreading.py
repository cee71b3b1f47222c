"""A run over several workers is the run of one machine: the same rows, the same bill, the same promises.

The workers are in this process, and lost on demand; `test_ray.py` has real ones.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import polars as pl
import pytest

from jobs.summary import exit_code
from pipeline.launch import launch
from pipeline.plan import EndpointPlan, Plan, Secrets
from pipeline.run import Summary
from tests.crash.endpoint import MODEL, CountingEndpoint
from tests.end_to_end.hosts import seeing
from tests.end_to_end.nights import KEY, Store, plan_for, write_manifest
from tests.engines.crews import Crew
from tests.media.contents import picture
from tests.serving.answers import Answer, completion, gateway_error
from tests.serving.server import Received, Server

SAME = ["item_id", "row", "status", "text", "error_class", "attempts", "cost", "currency", "duplicate_of"]
SECRETS = Secrets(api_key=KEY)
PICTURE = Answer(200, picture("PNG", noise=True), {"Content-Type": "image/png"})


def launched(plan: Plan, crew: Crew | None = None, **more: Any) -> Summary:
    engine = {} if crew is None else {"engine": crew.engine}

    async def night() -> Summary:
        return await launch(plan, SECRETS, **engine, **more)

    return anyio.run(night)


def ids(count: int) -> list[str]:
    return [f"i{number}" for number in range(1, count + 1)]


def planned(folder: Path, base_url: str, rows: Sequence[Any], **changes: Any) -> Plan:
    folder.mkdir(exist_ok=True)
    return plan_for(write_manifest(folder / "m.csv", rows), base_url, folder / "out", **changes)


async def night_with_losses(
    plan: Plan, crew: Crew, rng: random.Random, losses: int, every_s: tuple[float, float]
) -> Summary:
    """A night in which so many times one worker vanishes without a word."""
    async with anyio.create_task_group() as tasks:

        async def lose() -> None:
            for _ in range(losses):
                await anyio.sleep(rng.uniform(*every_s))
                alive = [mate for mate in crew.mates if not mate.is_lost.is_set()]
                if alive:
                    rng.choice(alive).lose()

        tasks.start_soon(lose)
        summary = await launch(plan, SECRETS, engine=crew.engine)
        tasks.cancel_scope.cancel()
    return summary


async def stopped_after(asked: int, plan: Plan, endpoint: CountingEndpoint, crew: Crew | None) -> Summary:
    """A night that somebody interrupts once so many requests have come."""
    async with anyio.create_task_group() as tasks:

        def on_start(run: Any, tally: Any, notes: Any) -> None:
            tasks.start_soon(stop, run)

        async def stop(run: Any) -> None:
            while len(endpoint.asked) < asked:  # noqa: ASYNC110 # a server in another thread
                await anyio.sleep(0.01)
            run.stop("interrupted")

        engine = {} if crew is None else {"engine": crew.engine}
        return await launch(plan, SECRETS, on_start=on_start, **engine)


def check_every_reply_is_on_record(endpoint: CountingEndpoint, store: Store) -> None:
    """What was served whole and recorded is billed once; everything that was asked is among the attempts."""
    served = {asked.reply_id: asked.cost for asked in endpoint.asked if asked.reply_id}
    billed = store.attempts.filter(pl.col("remote_id").is_not_null())
    assert billed["remote_id"].is_unique().all()
    assert set(billed["remote_id"]) <= set(served)
    paid = sum((served[reply_id] for reply_id in billed["remote_id"]), Decimal(0))
    assert store.costs["cost"].sum() == paid
    recorded = Counter(store.attempts["item_id"].to_list())
    asked = Counter(one.item_id for one in endpoint.asked)
    assert all(recorded[item_id] >= times for item_id, times in asked.items())


def test_outcomes_costs_and_totals_are_those_of_one_machine(tmp_path: Path):
    rows = [*ids(200), "i7", {"id": "empty", "prompt": ""}, {"id": "again", "prompt": "i9"}]
    told = []
    for name, crew in (("one", None), ("several", Crew(3))):
        endpoint = CountingEndpoint(11, latency_s=(0.001, 0.01))
        with Server(endpoint.script) as server:
            plan = planned(tmp_path / name, server.base_url, rows, slots=9)
            summary = launched(plan, crew)
        store = Store(plan.out)
        told.append((summary.state, summary.tally.totals(), store.results.select(SAME), store.rows()))
        check_every_reply_is_on_record(endpoint, store)
    one, several = told
    assert one[0] == several[0] == "done"
    assert one[1] == several[1]
    assert one[2].equals(several[2])
    assert one[3] == several[3] == list(range(1, 204))


def test_what_an_earlier_run_had_answered_is_skipped(tmp_path: Path):
    with Server(lambda received: completion("yes")) as server:
        first = planned(tmp_path, server.base_url, ids(20), slots=4)
        launched(first)
        write_manifest(tmp_path / "m.csv", ids(30))
        second = planned(tmp_path, server.base_url, ids(30), slots=4)
        summary = launched(second, Crew(2))
    assert summary.tally.totals()["skipped"] == 20
    assert summary.tally.ok == 10
    assert len(server.received) == 30


@pytest.mark.parametrize("seed", range(3))
def test_workers_that_are_lost_lose_nothing_that_was_known(tmp_path: Path, seed: int):
    """Twelve times one of three, without a word. Each reply that was recorded is asked for once."""
    endpoint = CountingEndpoint(seed, fails=False, latency_s=(0.005, 0.05))
    crew, rng = Crew(3), random.Random(seed)
    with Server(endpoint.script) as server:
        plan = planned(tmp_path, server.base_url, ids(600), slots=12)
        summary = anyio.run(night_with_losses, plan, crew, rng, 12, (0.1, 0.25))
    store = Store(plan.out)
    assert len(crew.mates) > 8
    assert summary.state == "done"
    assert store.rows() == list(range(1, 601))
    check_every_reply_is_on_record(endpoint, store)
    recorded = Counter(store.attempts.filter(state="billed")["item_id"].to_list())
    assert set(recorded.values()) == {1}
    lost = store.attempts.filter(error_class="Lost")
    assert set(lost["state"]) == {"possibly_billed"}
    asked_twice = [
        item_id for item_id, times in Counter(a.item_id for a in endpoint.asked).items() if times > 1
    ]
    assert set(asked_twice) <= set(lost["item_id"])
    assert summary.tally.possibly_billed == lost.height


def test_a_number_of_slots_is_that_of_all_workers_together(tmp_path: Path):
    busy, most, lock = [0], [0], threading.Lock()

    def script(received: Received) -> Any:
        async def play(received: Received, connection: Any) -> None:
            with lock:
                busy[0] += 1
                most[0] = max(most[0], busy[0])
            await anyio.sleep(0.02)
            with lock:
                busy[0] -= 1
            await completion("yes")(received, connection)

        return play

    with Server(script) as server:
        plan = planned(tmp_path, server.base_url, ids(120), slots=5)
        assert launched(plan, Crew(3)).state == "done"
    assert 3 <= most[0] <= 5


def test_one_that_comes_late_finds_rows_that_the_first_had_no_room_for(tmp_path: Path):
    """All could be under way at once, and the first is alone for a while: it takes no more than its spool."""
    with Server(lambda received: PICTURE.after(0.1)) as host, Server(seeing) as endpoint:
        rows = [
            {"id": name, "prompt": name, "image_url": f"http://{host.address}/{name}"} for name in ids(160)
        ]
        inline: dict[str, Any] = {"media": "inline", "allow_private": True, "image_max_px": 64}
        plan = planned(tmp_path, endpoint.base_url, rows, slots=400, **inline)
        crew = Crew(2, late_s=0.3)
        assert launched(plan, crew).state == "done"
    assert len(host.received) == len(endpoint.received) == 160
    assert sum(mate.rows for mate in crew.mates) == 160
    assert min(mate.rows for mate in crew.mates) >= 30


def test_requests_a_minute_are_those_of_all_workers_together(tmp_path: Path):
    """1,200 a minute are 20 a second: 60 requests take between two and six seconds, and no second of them
    sees more than a burst."""
    endpoint = CountingEndpoint(1, fails=False, latency_s=(0.001, 0.002))
    with Server(endpoint.script) as server:
        plan = planned(tmp_path, server.base_url, ids(60))
        limited = EndpointPlan(server.base_url, "newapi", slots=30, rpm=1_200)
        began_s = time.monotonic()
        assert launched(replace(plan, endpoints=(limited,)), Crew(3)).state == "done"
        took_s = time.monotonic() - began_s
    assert 1.5 < took_s < 8.0
    at_s = sorted(asked.at_s for asked in endpoint.asked)
    assert max(sum(begin <= at < begin + 1.0 for at in at_s) for begin in at_s) <= 45


USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 300,
    "total_tokens": 400,
    "prompt_tokens_details": {"text_tokens": 100},
}
REPLY_COSTS = Decimal("0.000475")
"""100 x 0.25 and 300 x 1.50 USD a million: 210 of them are less than 0.10."""


def test_tokens_a_minute_are_those_of_all_workers_together(tmp_path: Path):
    """480,000 a minute are 20 answers of 400 a second: as above."""
    at_s: list[float] = []

    def script(received: Received) -> Any:
        at_s.append(time.monotonic())
        return completion("yes", usage=USAGE)

    with Server(script) as server:
        plan = replace(planned(tmp_path, server.base_url, ids(60)), parameters={"max_tokens": 300})
        limited = EndpointPlan(server.base_url, "newapi", slots=30, tpm=480_000)
        began_s = time.monotonic()
        assert launched(replace(plan, endpoints=(limited,)), Crew(3)).state == "done"
        took_s = time.monotonic() - began_s
    assert 1.5 < took_s < 8.0
    assert max(sum(begin <= at < begin + 1.0 for at in at_s) for begin in at_s) <= 45


def test_an_outage_that_all_see_fails_no_item_and_one_of_them_probes(tmp_path: Path):
    """Three seconds of 503 after the sixtieth request."""
    began_s: list[float] = []
    during: list[float] = []

    def script(received: Received) -> Any:
        now_s = time.monotonic()
        if len(server.received) >= 60 and not began_s:
            began_s.append(now_s)
        if began_s and now_s < began_s[0] + 3.0:
            during.append(now_s - began_s[0])
            return gateway_error(503, "overloaded").after(0.02)
        return completion("yes").after(0.02)

    with Server(script) as server:
        plan = planned(tmp_path, server.base_url, ids(300), slots=9)
        summary = launched(plan, Crew(3))
    assert (summary.state, summary.tally.ok, summary.tally.failed) == ("done", 300, 0)
    probes = [at for at in during if at > 0.9]
    assert 1 <= len(probes) <= 4, "somebody looked whether it is over, and not everybody"


def with_a_budget(folder: Path, base_url: str) -> Plan:
    plan = planned(folder, base_url, ids(400), slots=12, model=MODEL, budget=Decimal("0.10"))
    return replace(plan, parameters={"max_tokens": 400})


def test_a_budget_is_spent_nearly_to_its_end_and_never_past_it(tmp_path: Path):
    with Server(lambda received: completion("yes", usage=USAGE)) as server:
        plan = with_a_budget(tmp_path, server.base_url)
        summary = launched(plan, Crew(3))
    assert summary.state == "budget"
    assert exit_code(summary, plan) == 4
    assert Decimal("0.09") < summary.tally.cost["USD"] <= Decimal("0.10")
    assert Store(plan.out).rows() == list(range(1, 401))


def test_a_budget_holds_while_workers_are_lost(tmp_path: Path):
    """What the endpoint bills, recorded or not, stays within it."""
    crew, rng = Crew(3), random.Random(5)
    script = lambda received: completion("yes", usage=USAGE).after(0.02)  # noqa: E731
    with Server(script) as server:
        plan = with_a_budget(tmp_path, server.base_url)
        summary = anyio.run(night_with_losses, plan, crew, rng, 100, (0.3, 0.5))
    assert summary.state == "budget"
    assert len(server.received) * REPLY_COSTS <= Decimal("0.10")
    assert Store(plan.out).rows() == list(range(1, 401))


def test_a_days_budget_counts_what_one_machine_has_spent_that_day(tmp_path: Path):
    with Server(lambda received: completion("yes", usage=USAGE)) as server:
        first = replace(with_a_budget(tmp_path, server.base_url), job="first")
        launched(first)
        second = replace(
            with_a_budget(tmp_path, server.base_url), budget=None, budget_per_day=Decimal("0.15")
        )
        summary = launched(second, Crew(3))
    assert summary.state == "budget"
    assert Decimal("0.14") < len(server.received) * REPLY_COSTS <= Decimal("0.15")


def test_a_rejected_key_halts_all_of_them(tmp_path: Path):
    with Server(lambda received: gateway_error(401, "", "no such key")) as server:
        plan = planned(tmp_path, server.base_url, ids(200), slots=6)
        summary = launched(plan, Crew(3))
    assert summary.state == "halted"
    assert {halt.error_class for halt in summary.halts} == {"KeyRejected"}
    assert summary.tally.not_attempted == 200
    assert len(server.received) <= 12
    assert Store(plan.out).rows() == list(range(1, 201))


def test_twenty_first_answers_that_fail_alike_halt_all_of_them(tmp_path: Path):
    with Server(lambda received: gateway_error(400, "invalid_argument", "no")) as server:
        plan = planned(tmp_path, server.base_url, ids(500), slots=4)
        summary = launched(plan, Crew(2))
    assert summary.state == "halted"
    assert "AllAlike" in {halt.error_class for halt in summary.halts}
    assert Store(plan.out).rows() == list(range(1, 501))


@pytest.mark.parametrize(("first", "then"), [(2, None), (None, 2)])
def test_either_engine_goes_on_with_what_the_other_began(tmp_path: Path, first: int | None, then: int | None):
    endpoint = CountingEndpoint(3, fails=False, latency_s=(0.01, 0.03))
    with Server(endpoint.script) as server:
        plan = planned(tmp_path, server.base_url, ids(150), slots=6)

        stopped = anyio.run(stopped_after, 40, plan, endpoint, first and Crew(first))
        assert stopped.state == "interrupted"
        assert 0 < stopped.tally.ok < 150
        assert Store(plan.out).rows() == list(range(1, 151))
        went_on = launched(plan, then and Crew(then))
    assert went_on.state == "done"
    assert went_on.tally.ok == 150
    store = Store(plan.out)
    assert store.rows() == list(range(1, 151))
    check_every_reply_is_on_record(endpoint, store)
    assert len(endpoint.asked) == 150


def test_a_second_signal_drops_what_is_under_way_and_lists_it(tmp_path: Path):
    endpoint = CountingEndpoint(3, fails=False, latency_s=(0.05, 0.3))
    with Server(endpoint.script) as server:
        plan = planned(tmp_path, server.base_url, ids(150), slots=6)

        async def night() -> Summary:
            at_once = anyio.CancelScope()
            async with anyio.create_task_group() as tasks:

                async def stop() -> None:
                    await anyio.sleep(1.0)
                    at_once.cancel()

                tasks.start_soon(stop)
                return await launch(plan, SECRETS, engine=Crew(2).engine, at_once=at_once)

        summary = anyio.run(night)
    store = Store(plan.out)
    assert store.rows() == list(range(1, 151))
    assert summary.tally.not_attempted > 0
    assert store.attempts.filter(error_class="Lost").height == summary.tally.possibly_billed > 0
    check_every_reply_is_on_record(endpoint, store)


def test_workers_that_are_lost_one_after_the_other_halt_the_run(tmp_path: Path):
    crew = Crew(2)
    with Server(CountingEndpoint(3, fails=False, latency_s=(5.0, 5.0)).script) as server:
        plan = planned(tmp_path, server.base_url, ids(50), slots=4)

        async def night() -> Summary:
            async with anyio.create_task_group() as tasks:

                async def kill() -> None:
                    while True:
                        await anyio.sleep(0.2)
                        for mate in crew.mates:
                            if mate.exchanges > 2:
                                mate.lose()

                tasks.start_soon(kill)
                summary = await launch(plan, SECRETS, engine=crew.engine)
                tasks.cancel_scope.cancel()
            return summary

        summary = anyio.run(night)
    assert summary.state == "halted"
    assert exit_code(summary, plan) == 3
    assert "WorkersGone" in {halt.error_class for halt in summary.halts}
    assert Store(plan.out).rows() == list(range(1, 51))


def test_leases_are_asked_for_a_few_times_a_second(tmp_path: Path):
    crew = Crew(2)
    with Server(CountingEndpoint(3, fails=False, latency_s=(0.01, 0.03)).script) as server:
        plan = planned(tmp_path, server.base_url, ids(300), slots=4)
        began_s = time.monotonic()
        assert launched(plan, crew).state == "done"
        took_s = time.monotonic() - began_s
    assert all(mate.leases <= 3 * took_s + 2 for mate in crew.mates)
