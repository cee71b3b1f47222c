"""Many items: bounded, in order of the feed, and every row one outcome however the run ends."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import polars as pl
import pytest

from pipeline.dialects.newapi import NewApi
from pipeline.errors import KeyRejected, ManifestError, RowError
from pipeline.gate import Gate
from pipeline.recorder import PART_ITEMS, Recorder
from pipeline.records import BadRow, Item, NotAttempted, Outcome
from pipeline.retry import RetryRules
from pipeline.run import LIVE_PER_SLOT, Feed, Run, only_one
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally
from tests.rehearsing import (
    START,
    Gathered,
    RowsAtHand,
    ScriptedWire,
    answer,
    endpoint,
    in_turn,
    item,
    items,
    on_virtual_time,
    refusal,
)


def bad(row: int) -> BadRow:
    return BadRow(f"bad{row}", row, RowError(row, "holds neither media nor a prompt"))


def row_of(ended: Outcome | BadRow | NotAttempted) -> int:
    return ended.item.row if isinstance(ended, Outcome) else ended.row


def kinds(gathered: Gathered) -> Counter[str]:
    return Counter(
        "not_attempted"
        if isinstance(ended, NotAttempted)
        else "ok"
        if isinstance(ended, Outcome) and ended.error is None
        else "failed"
        for ended in gathered.ended
    )


@pytest.mark.parametrize("slots", [1, 3, 16])
@on_virtual_time
async def test_the_slots_are_all_used_and_never_passed(slots: int):
    chance = random.Random(slots)

    async def script(asked):
        await anyio.sleep(chance.uniform(0.1, 5))
        return answer()

    wire, gathered = ScriptedWire(script), Gathered()
    await Run(RowsAtHand(items(300)), endpoint(wire, slots=slots), gathered).execute()
    assert wire.most_in_flight == slots
    assert kinds(gathered) == {"ok": 300}
    assert gathered.is_closed


@on_virtual_time
async def test_with_steady_answers_no_slot_is_ever_idle():
    """240 items of 1 s over 8 slots: 30 s."""

    async def script(asked):
        await anyio.sleep(1)
        return answer()

    await Run(RowsAtHand(items(240)), endpoint(ScriptedWire(script), slots=8), Gathered()).execute()
    assert anyio.current_time() == pytest.approx(30)


@on_virtual_time
async def test_sleepers_are_stood_in_for_up_to_a_small_multiple_of_the_slots():
    """The first 100 items sleep long; meanwhile others are asked, and in the end the stand-ins go home."""
    slots = 4
    feed, gathered = RowsAtHand(items(700)), Gathered()
    live: list[tuple[float, int]] = []

    async def script(asked):
        live.append((anyio.current_time(), feed.handed_out - len(gathered.ended)))
        await anyio.sleep(1)
        if int(asked.prompt[1:]) <= 100 and asked.nth == 1:
            return refusal(503, retry_after="50")
        return answer()

    wire = ScriptedWire(script)
    await Run(feed, endpoint(wire, slots=slots), gathered).execute()
    assert wire.most_in_flight == slots
    assert max(count for _, count in live) == LIVE_PER_SLOT * slots
    late = [count for when, count in live if when > wire.times_of("i100")[-1] + 5]
    assert len(late) > 50
    assert max(late) <= slots
    assert kinds(gathered) == {"ok": 700}


@on_virtual_time
async def test_a_few_sleepers_cost_no_throughput():
    """8 slots: 7 items sleep 1,000 s; 200 others of 1 s each need hardly more than 200 / 8 = 25 s."""
    done_at: list[float] = []

    async def script(asked):
        if int(asked.prompt[1:]) <= 7 and asked.nth == 1:
            return refusal(503, retry_after="1000")
        await anyio.sleep(1)
        if asked.nth == 1:
            done_at.append(anyio.current_time())
        return answer()

    await Run(RowsAtHand(items(207)), endpoint(ScriptedWire(script), slots=8), Gathered()).execute()
    assert len(done_at) == 200
    assert max(done_at) <= 26


@pytest.mark.parametrize("seed", range(6))
@on_virtual_time
async def test_every_row_ends_once_whatever_the_weather(seed: int):
    chance = random.Random(seed)
    weather = [
        answer,
        answer,
        lambda: refusal(503),
        lambda: refusal(400),
        lambda: refusal(429, retry_after="3"),
    ]

    async def script(asked):
        await anyio.sleep(chance.uniform(0, 2))
        return chance.choice(weather)()

    rows: list[Item | BadRow] = [bad(row) if row % 17 == 0 else item(f"i{row}", row) for row in range(1, 301)]
    gathered = Gathered()
    here = endpoint(ScriptedWire(script), slots=7, retry=RetryRules(max_attempts=3))
    await Run(RowsAtHand(rows), here, gathered).execute()
    assert sorted(row_of(ended) for ended in gathered.ended) == list(range(1, 301))
    assert here.gate.in_use == here.gate.asleep == 0


@on_virtual_time
async def test_an_interrupt_waits_for_what_is_in_flight_and_lists_the_rest():
    async def script(asked):
        await anyio.sleep(10)
        return refusal(503, retry_after="500") if asked.prompt == "i1" else answer()

    wire, gathered = ScriptedWire(script), Gathered()
    run = Run(RowsAtHand([*items(250), bad(251)]), endpoint(wire, slots=5), gathered)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.execute)
        await anyio.sleep(25)
        run.interrupt()
    # At 0 and 10 five each, at 20 five that are in flight at the interrupt; the sleeper is woken.
    assert anyio.current_time() == 30
    assert len(wire.asked) == 15
    assert kinds(gathered) == {"ok": 14, "not_attempted": 236, "failed": 1}
    assert sorted(row_of(ended) for ended in gathered.ended) == list(range(1, 252))
    assert run.state == "interrupted"


@on_virtual_time
async def test_a_halt_lists_the_rest_and_waits_for_what_is_in_flight():
    async def script(asked):
        await anyio.sleep(1 if asked.prompt == "i1" else 5)
        return refusal(401) if asked.prompt == "i1" else answer()

    wire, gathered = ScriptedWire(script), Gathered()
    run = Run(RowsAtHand(items(220)), endpoint(wire, slots=6), gathered)
    await run.execute()
    assert len(wire.asked) == 6
    assert kinds(gathered) == {"ok": 5, "not_attempted": 215}
    assert sorted(row_of(ended) for ended in gathered.ended) == list(range(1, 221))
    assert run.state == "halted"
    (halt,) = run.halts
    assert (halt.model, halt.error_class) == ("a-model", "KeyRejected")


@on_virtual_time
async def test_with_another_model_left_only_the_halted_one_stops():
    async def script(asked):
        await anyio.sleep(1)
        return refusal(402) if asked.model == "a-model" else answer()

    rows = [item(f"i{row}", row, "a-model" if row % 2 else "b-model") for row in range(1, 201)]
    gathered = Gathered()
    run = Run(RowsAtHand(rows), endpoint(ScriptedWire(script)), gathered)
    await run.execute()
    assert kinds(gathered) == {"ok": 100, "not_attempted": 100}
    assert [halt.model for halt in run.halts] == ["a-model"]


@on_virtual_time
async def test_twenty_answers_all_alike_stop_the_run_and_bad_rows_are_no_answers():
    wire, gathered = ScriptedWire(in_turn(lambda: refusal(400))), Gathered()
    rows = [*(bad(row) for row in range(1, 51)), *(item(f"i{row}", row) for row in range(51, 251))]
    run = Run(RowsAtHand(rows), endpoint(wire, slots=1), gathered)
    await run.execute()
    assert len(wire.asked) == 20
    assert kinds(gathered) == {"failed": 70, "not_attempted": 180}
    assert [(halt.model, halt.error_class) for halt in run.halts] == [(None, "AllAlike")]


@pytest.mark.parametrize("limit", [0, 1, 60, 1000])
@on_virtual_time
async def test_a_limit_asks_the_first_rows_alone(limit: int):
    wire, gathered = ScriptedWire(in_turn(answer)), Gathered()
    run = Run(RowsAtHand(items(210)), endpoint(wire), gathered, limit=limit)
    await run.execute()
    asked = min(limit, 210)
    assert sorted(int(asked.prompt[1:]) for asked in wire.asked) == list(range(1, asked + 1))
    assert len(gathered.ended) == 210
    assert run.state == "done"


@on_virtual_time
async def test_a_manifest_without_rows_is_a_finished_run_of_nothing():
    gathered = Gathered()
    run = Run(RowsAtHand([]), endpoint(ScriptedWire(in_turn(answer))), gathered)
    await run.execute()
    assert (gathered.ended, run.state, run.halts) == ([], "done", ())


# The feed


def batches(count: int, size: int, pulled: list[int]) -> Iterator[list[Item | BadRow]]:
    for number in range(count):
        pulled.append(number)
        yield [item(f"i{number * size + place}", number * size + place) for place in range(1, size + 1)]


def test_the_feed_reads_a_batch_only_when_the_last_is_handed_out():
    async def night() -> None:
        pulled: list[int] = []
        feed = Feed(batches(50, 10, pulled))
        for handed_out in range(1, 501):
            row = await feed.next()
            assert row is not None
            assert row.row == handed_out
            assert len(pulled) == -(-handed_out // 10)
        assert await feed.next() is None
        assert await feed.next() is None

    anyio.run(night)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_many_takers_get_each_row_once(backend: str):
    async def night() -> None:
        pulled: list[int] = []
        feed = Feed(batches(20, 7, pulled))
        taken: list[int] = []

        async def take() -> None:
            while (row := await feed.next()) is not None:
                taken.append(row.row)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(take)
        assert sorted(taken) == list(range(1, 141))
        assert len(pulled) == 20

    anyio.run(night, backend=backend)


def test_an_empty_batch_is_not_the_end():
    async def night() -> None:
        feed = Feed(iter([[], [item("one")], []]))
        assert await feed.next() == item("one")
        assert await feed.next() is None

    anyio.run(night)


# With a real store


def recorder(out: Path, tally: Tally) -> tuple[Recorder, RunWriter]:
    writer = RunWriter(out, "r1", START)
    writer.open()
    return Recorder(writer, tally, job="default", endpoint_of_bad_rows=None), writer


def written(writer: RunWriter, dataset: str) -> pl.DataFrame:
    parts = sorted(writer.dataset_folder(dataset).glob("*.parquet"))
    return pl.concat([pl.read_parquet(part, hive_partitioning=False) for part in parts])


class BrokenForOne(NewApi):
    """A dialect with a bug that one item meets."""

    def parse(self, body, request):
        if request.prompt == "i30":
            raise RuntimeError("a mapping is wrong")
        return super().parse(body, request)


@on_virtual_time
async def test_a_bug_surfaces_as_itself_and_what_had_been_answered_is_written(tmp_path: Path):
    async def script(asked):
        await anyio.sleep(1)
        return answer()

    recording, writer = recorder(tmp_path / "out", Tally())
    run = Run(RowsAtHand(items(200)), endpoint(ScriptedWire(script), dialect=BrokenForOne()), recording)
    with pytest.raises(BaseExceptionGroup) as caught:
        await run.execute()
    bug = only_one(caught.value)
    assert isinstance(bug, RuntimeError)
    assert str(bug) == "a mapping is wrong"
    ids = written(writer, "results")["item_id"].to_list()
    assert set(ids) >= {f"i{row}" for row in range(1, 29)}
    assert "i30" not in ids


@on_virtual_time
async def test_cancelling_at_once_still_writes_what_had_been_answered(tmp_path: Path):
    async def script(asked):
        await anyio.sleep(10 if int(asked.prompt[1:]) <= 8 else 100)
        return answer()

    recording, writer = recorder(tmp_path / "out", Tally())
    run = Run(RowsAtHand(items(100)), endpoint(ScriptedWire(script)), recording)
    with anyio.move_on_after(50):
        await run.execute()
    assert written(writer, "results")["item_id"].sort().to_list() == [f"i{row}" for row in range(1, 9)]


async def closing(gate: Gate) -> None:
    while not gate.closed:  # noqa: ASYNC110 # the gate tells nobody but its waiters
        await anyio.sleep(1)


def rows_until_a_part_is_full() -> list[Item | BadRow]:
    """Bad rows up to the last but one of a part: the first answer makes it full, and 200 items follow."""
    return [*(bad(row) for row in range(1, PART_ITEMS)), *(item(f"i{row}", row) for row in range(1, 201))]


@on_virtual_time
async def test_a_second_interrupt_waits_for_nothing_and_still_every_row_ends_once(tmp_path: Path):
    """4 answered; 4 in flight, perhaps billed; i6 queues after a try; 191 were never asked."""

    async def script(asked):
        if asked.prompt == "i6" and asked.nth == 1:
            return refusal(503, retry_after="1")
        await anyio.sleep(10 if int(asked.prompt[1:]) <= 4 else 1000)
        return answer()

    tally = Tally()
    recording, writer = recorder(tmp_path / "out", tally)
    run = Run(RowsAtHand(items(200)), endpoint(ScriptedWire(script)), recording)
    with anyio.CancelScope() as at_once:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.execute)
            await anyio.sleep(15)
            run.interrupt()
            await anyio.sleep(5)
            at_once.cancel()
    assert run.state == "interrupted"
    assert written(writer, "results")["row"].sort().to_list() == [1, 2, 3, 4]
    assert written(writer, "rest")["row"].to_list() == list(range(5, 201))
    assert tally.ended == 200
    unsettled = written(writer, "attempts").filter(pl.col("state") == "possibly_billed")
    assert sorted(unsettled["item_id"]) == ["i5", "i6", "i7", "i8", "i9"]


@on_virtual_time
async def test_a_store_that_stops_taking_writes_halts_the_run_with_a_sentence(tmp_path: Path):
    out, tally = tmp_path / "out", Tally()
    recording, writer = recorder(out, tally)
    (out / "results").write_text("a file in the way")

    async def script(asked):
        if asked.prompt != "i1":
            await closing(here.gate)
        return answer()

    wire = ScriptedWire(script)
    here = endpoint(wire, slots=5)
    run = Run(RowsAtHand(rows_until_a_part_is_full()), here, recording)
    await run.execute()
    assert run.state == "halted"
    (halt,) = run.halts
    assert (halt.model, halt.error_class) == (None, "StoreUnwritable")
    assert halt.message.startswith(f"cannot write to {out / 'results'}")
    assert halt.message.endswith("make room or mend it, then start again")
    # What was in flight was waited for, and nothing new was asked.
    assert tally.ok == len(wire.asked) < 20
    assert tally.ended == PART_ITEMS - 1 + 200
    assert written(writer, "rest").height == tally.not_attempted == 200 - tally.ok


@on_virtual_time
async def test_a_store_that_recovers_before_the_end_gets_everything(tmp_path: Path):
    out, tally = tmp_path / "out", Tally()
    recording, writer = recorder(out, tally)
    in_the_way = out / "attempts"
    in_the_way.write_text("a file in the way")

    async def script(asked):
        if asked.prompt != "i1":
            await closing(here.gate)
        if here.gate.closed:
            in_the_way.unlink(missing_ok=True)
        return answer()

    here = endpoint(ScriptedWire(script), slots=5)
    run = Run(RowsAtHand(rows_until_a_part_is_full()), here, recording)
    await run.execute()
    assert [halt.error_class for halt in run.halts] == ["StoreUnwritable"]
    assert written(writer, "results").height == PART_ITEMS - 1 + tally.ok
    assert written(writer, "rest").height == 200 - tally.ok
    assert written(writer, "attempts").height == tally.attempts == tally.ok > 1


@on_virtual_time
async def test_a_manifest_that_changes_while_it_is_read_halts_the_run_and_keeps_what_was_answered(tmp_path):
    def rows() -> Iterator[list[Item | BadRow]]:
        yield list(items(6))
        raise ManifestError("m.csv", "changed after it was checked; start again")

    async def script(asked):
        await anyio.sleep(3)
        return answer()

    recording, writer = recorder(tmp_path / "out", Tally())
    run = Run(Feed(rows()), endpoint(ScriptedWire(script)), recording)
    await run.execute()
    assert [(halt.error_class, halt.message) for halt in run.halts] == [
        ("ManifestError", "m.csv: changed after it was checked; start again")
    ]
    assert written(writer, "results").height == 6


def test_only_one_digs_out_the_single_error():
    error = KeyRejected("no")
    assert only_one(ExceptionGroup("a", [ExceptionGroup("b", [error])])) is error
    several = ExceptionGroup("a", [error, ValueError()])
    assert only_one(several) is several
