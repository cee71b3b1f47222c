"""Many items: bounded, in order of the feed, and every row one outcome however the run ends."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import polars as pl
import pytest

from pipeline.dialects.newapi import NewApi
from pipeline.endpoints import Endpoints
from pipeline.errors import KeyRejected, ManifestError, RowError, StoreUnwritable
from pipeline.keys import request_key
from pipeline.keytable import KeyTable
from pipeline.ledger import Group, Ledger
from pipeline.recorder import Recorder
from pipeline.records import BadRow, Duplicate, Ended, Item, NotAttempted, Outcome, Skipped
from pipeline.repeats import Repeats
from pipeline.retry import RetryRules
from pipeline.run import LIVE_PER_SLOT, Feed, Run, Sorter, only_one
from pipeline.sealing import key_number
from pipeline.settling import Standing, settle
from pipeline.store.resting import Duplicates, Rest
from pipeline.store.rows import Writing
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally
from tests.rehearsing import (
    START,
    Gathered,
    RowsAtHand,
    ScriptedWire,
    answer,
    endpoint,
    gate_of,
    in_turn,
    inline,
    item,
    items,
    no_repeats,
    on_virtual_time,
    refusal,
)


def bad(row: int) -> BadRow:
    return BadRow(f"bad{row}", row, RowError(row, "holds neither media nor a prompt"))


def row_of(ended: Ended) -> int:
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
    await Run(RowsAtHand(items(300)), endpoint(wire, slots=slots), gathered, no_repeats()).execute()
    assert wire.most_in_flight == slots
    assert kinds(gathered) == {"ok": 300}
    assert gathered.is_closed


@on_virtual_time
async def test_with_steady_answers_no_slot_is_ever_idle():
    """240 items of 1 s over 8 slots: 30 s."""

    async def script(asked):
        await anyio.sleep(1)
        return answer()

    await Run(
        RowsAtHand(items(240)), endpoint(ScriptedWire(script), slots=8), Gathered(), no_repeats()
    ).execute()
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
    await Run(feed, endpoint(wire, slots=slots), gathered, no_repeats()).execute()
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
            return refusal(409, retry_after="1000")
        await anyio.sleep(1)
        if asked.nth == 1:
            done_at.append(anyio.current_time())
        return answer()

    await Run(
        RowsAtHand(items(207)), endpoint(ScriptedWire(script), slots=8), Gathered(), no_repeats()
    ).execute()
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
    await Run(RowsAtHand(rows), here, gathered, no_repeats()).execute()
    assert sorted(row_of(ended) for ended in gathered.ended) == list(range(1, 301))
    assert gate_of(here).in_use == here.asleep == 0


@on_virtual_time
async def test_an_interrupt_waits_for_what_is_in_flight_and_lists_the_rest():
    async def script(asked):
        await anyio.sleep(10)
        return refusal(503, retry_after="500") if asked.prompt == "i1" else answer()

    wire, gathered = ScriptedWire(script), Gathered()
    run = Run(RowsAtHand([*items(250), bad(251)]), endpoint(wire, slots=5), gathered, no_repeats())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.execute)
        await anyio.sleep(25)
        run.stop("interrupted")
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
    run = Run(RowsAtHand(items(220)), endpoint(wire, slots=6), gathered, no_repeats())
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
    run = Run(RowsAtHand(rows), endpoint(ScriptedWire(script)), gathered, no_repeats())
    await run.execute()
    assert kinds(gathered) == {"ok": 100, "not_attempted": 100}
    assert [halt.model for halt in run.halts] == ["a-model"]


@on_virtual_time
async def test_twenty_answers_all_alike_stop_the_run_and_bad_rows_are_no_answers():
    wire, gathered = ScriptedWire(in_turn(lambda: refusal(400))), Gathered()
    rows = [*(bad(row) for row in range(1, 51)), *(item(f"i{row}", row) for row in range(51, 251))]
    run = Run(RowsAtHand(rows), endpoint(wire, slots=1), gathered, no_repeats())
    await run.execute()
    assert len(wire.asked) == 20
    assert kinds(gathered) == {"failed": 70, "not_attempted": 180}
    assert [(halt.model, halt.error_class) for halt in run.halts] == [(None, "AllAlike")]


@on_virtual_time
async def test_answers_of_another_model_show_that_not_everything_is_wrong():
    """The rule of the first twenty looks across models: one success is enough."""

    async def script(asked):
        return answer() if asked.prompt == "i3" else refusal(400)

    rows = [item(f"i{row}", row, "b-model" if row == 3 else "a-model") for row in range(1, 61)]
    gathered = Gathered()
    run = Run(RowsAtHand(rows), endpoint(ScriptedWire(script), slots=1), gathered, no_repeats())
    await run.execute()
    assert run.state == "done"
    assert kinds(gathered) == {"ok": 1, "failed": 59}


@pytest.mark.parametrize("limit", [0, 1, 60, 1000])
@on_virtual_time
async def test_a_limit_asks_the_first_rows_alone(limit: int):
    wire, gathered = ScriptedWire(in_turn(answer)), Gathered()
    run = Run(RowsAtHand(items(210)), endpoint(wire), gathered, no_repeats(limit))
    await run.execute()
    asked = min(limit, 210)
    assert sorted(int(asked.prompt[1:]) for asked in wire.asked) == list(range(1, asked + 1))
    assert len(gathered.ended) == 210
    assert run.state == "done"


@on_virtual_time
async def test_a_manifest_without_rows_is_a_finished_run_of_nothing():
    gathered = Gathered()
    run = Run(RowsAtHand([]), endpoint(ScriptedWire(in_turn(answer))), gathered, no_repeats())
    await run.execute()
    assert (gathered.ended, run.state, run.halts) == ([], "done", ())


# The feed


def batches(count: int, size: int, pulled: list[int]) -> Iterator[list[Item | BadRow]]:
    for number in range(count):
        pulled.append(number)
        yield [item(f"i{number * size + place}", number * size + place) for place in range(1, size + 1)]


def test_the_feed_reads_the_next_batch_while_half_of_the_last_is_left():
    async def night() -> None:
        pulled: list[int] = []
        feed = Feed(batches(50, 10, pulled))
        for handed_out in range(1, 501):
            row = await feed.next()
            assert row is not None
            assert row.row == handed_out
            at_hand = len(pulled) * 10 - handed_out
            assert 5 <= at_hand <= 15 or len(pulled) == 50
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


# With a real ledger and store


class Night:
    """A run over rows at hand, with a ledger and a store on disk; blocking calls run on the loop."""

    def __init__(self, out: Path, rows: Sequence[Item | BadRow], here: Endpoints, feed: Any = None) -> None:
        self.tally = Tally()
        self.writer = RunWriter(out, "r1", START)
        self.writer.open()
        self.ledger = Ledger.open(out / "runs" / "r1" / "ledger.sqlite")
        self.rest, self.writing = Rest("r1", "default"), Writing("r1", "default", None)
        recorder = Recorder(
            self.ledger,
            self.writer,
            self.writing,
            self.tally,
            self.rest,
            Duplicates(),
            off_loop=inline,
            flush_off_loop=inline,
            part_items=50,
        )
        self.run = Run(feed or RowsAtHand(rows), here, recorder, no_repeats())

    def finish(self) -> Standing:
        """As a session does at its end."""
        standing = settle(self.ledger, self.writer, self.writing)
        self.rest.write(self.writer)
        self.ledger.close()
        return standing


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

    night = Night(tmp_path, items(200), endpoint(ScriptedWire(script), dialect=BrokenForOne()))
    with pytest.raises(BaseExceptionGroup) as caught:
        await night.run.execute()
    bug = only_one(caught.value)
    assert isinstance(bug, RuntimeError)
    assert str(bug) == "a mapping is wrong"
    ids = written(night.writer, "results")["item_id"].to_list()
    assert set(ids) >= {f"i{row}" for row in range(1, 29)}
    assert "i30" not in ids
    assert "i30" in [sent.item_id for sent in night.ledger.in_flight()], "it was sent, and may be billed"


@on_virtual_time
async def test_cancelling_at_once_still_writes_what_had_been_answered(tmp_path: Path):
    async def script(asked):
        await anyio.sleep(10 if int(asked.prompt[1:]) <= 8 else 100)
        return answer()

    night = Night(tmp_path, items(100), endpoint(ScriptedWire(script)))
    with anyio.move_on_after(50):
        await night.run.execute()
    assert written(night.writer, "results")["item_id"].sort().to_list() == [f"i{row}" for row in range(1, 9)]


@on_virtual_time
async def test_a_second_interrupt_waits_for_nothing_and_still_every_row_ends_once(tmp_path: Path):
    """4 answered; 4 in flight, perhaps billed; i6 queues after a try; 191 were never asked."""

    async def script(asked):
        if asked.prompt == "i6" and asked.nth == 1:
            return refusal(503, retry_after="1")
        await anyio.sleep(10 if int(asked.prompt[1:]) <= 4 else 1000)
        return answer()

    night = Night(tmp_path, items(200), endpoint(ScriptedWire(script)))
    with anyio.CancelScope() as at_once:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(night.run.execute)
            await anyio.sleep(15)
            night.run.stop("interrupted")
            await anyio.sleep(5)
            at_once.cancel()
    assert night.run.state == "interrupted"
    standing = night.finish()
    assert written(night.writer, "results")["row"].sort().to_list() == [1, 2, 3, 4]
    assert written(night.writer, "rest")["row"].to_list() == list(range(5, 201))
    assert night.tally.ended == 200
    unsettled = written(night.writer, "attempts").filter(pl.col("state") == "possibly_billed")
    assert sorted(unsettled["item_id"]) == ["i5", "i6", "i7", "i8", "i9"]
    assert standing.lost == 4
    assert standing.tally.possibly_billed == 5


async def closing(here: Endpoints) -> None:
    while here.serve("a-model"):  # noqa: ASYNC110 # nobody is told but those who wait
        await anyio.sleep(1)


@on_virtual_time
async def test_a_store_that_stops_taking_writes_halts_the_run_with_a_sentence(tmp_path: Path):
    """The 50th row makes a part full, and it cannot be written: 49 bad rows, then answers."""
    rows = [*(bad(row) for row in range(1, 50)), *(item(f"i{row}", row) for row in range(50, 251))]
    (tmp_path / "results").write_text("a file in the way")

    async def script(asked):
        if asked.prompt != "i50":
            await closing(here)
        return answer()

    wire = ScriptedWire(script)
    here = endpoint(wire, slots=5)
    night = Night(tmp_path, rows, here)
    await night.run.execute()
    assert night.run.state == "halted"
    (halt,) = night.run.halts
    assert (halt.model, halt.error_class) == (None, "StoreUnwritable")
    assert halt.message.startswith(f"cannot write to {tmp_path / 'results'}")
    assert halt.message.endswith("make room or mend it, then start again")
    # What was in flight was waited for, and nothing new was asked.
    assert night.tally.ok == len(wire.asked) < 20
    assert night.tally.ended == 250

    # The ledger has it all; when the cause is gone, nothing is lost.
    (tmp_path / "results").unlink()
    standing = night.finish()
    assert standing.tally.ok == night.tally.ok
    assert written(night.writer, "results").height == 49 + night.tally.ok
    assert written(night.writer, "rest").height == 201 - night.tally.ok


@on_virtual_time
async def test_a_store_that_recovers_before_the_end_gets_everything(tmp_path: Path):
    rows = [*(bad(row) for row in range(1, 50)), *(item(f"i{row}", row) for row in range(50, 251))]
    in_the_way = tmp_path / "attempts"
    in_the_way.write_text("a file in the way")

    async def script(asked):
        if asked.prompt != "i50":
            await closing(here)
        if not here.serve("a-model"):
            in_the_way.unlink(missing_ok=True)
        return answer()

    here = endpoint(ScriptedWire(script), slots=5)
    night = Night(tmp_path, rows, here)
    await night.run.execute()
    assert [halt.error_class for halt in night.run.halts] == ["StoreUnwritable"]
    assert written(night.writer, "results").height == 49 + night.tally.ok
    assert written(night.writer, "attempts").height == night.tally.attempts == night.tally.ok > 1
    night.finish()
    assert written(night.writer, "rest").height == 201 - night.tally.ok


@on_virtual_time
async def test_a_ledger_that_stops_taking_writes_sends_nothing_more(tmp_path: Path):
    """From the fifth second on, no commit: what is not on record does not go, and is not attempted."""
    wire = ScriptedWire(in_turn(answer))

    async def script(asked):
        await anyio.sleep(1)
        return answer()

    wire = ScriptedWire(script)
    night = Night(tmp_path, items(100), endpoint(wire))
    commit = night.ledger.commit

    class FullFromFive:
        """The night's ledger, on a disk that fills up for ten seconds."""

        def __getattr__(self, name: str) -> Any:
            return getattr(night.ledger, name)

        def write(self, group: Group) -> None:
            """All of it is left to `commit`."""

        def commit(self, group: Group) -> StoreUnwritable | None:
            if 5 <= anyio.current_time() < 15:
                raise StoreUnwritable(night.ledger.path, "database or disk is full")
            return commit(group)

    recorder = Recorder(
        FullFromFive(),
        night.writer,
        night.writing,
        night.tally,
        night.rest,
        Duplicates(),
        off_loop=inline,
        flush_off_loop=inline,
    )
    run = Run(RowsAtHand(items(100)), endpoint(wire), recorder, no_repeats())
    await run.execute()
    assert run.state == "halted"
    assert run.halts[0].message.endswith("make room or mend it, then start again")
    assert len(wire.asked) == 20
    assert night.tally.ok == 16, "four answers arrived that could not be put on record"
    assert anyio.current_time() < 15
    standing = settle(night.ledger, night.writer, night.writing)
    assert (standing.tally.ok, standing.lost) == (16, 4)


@on_virtual_time
async def test_a_manifest_that_changes_while_it_is_read_halts_the_run_and_keeps_what_was_answered(tmp_path):
    def rows() -> Iterator[list[Item | BadRow]]:
        yield list(items(6))
        raise ManifestError("m.csv", "changed after it was checked; start again")

    async def script(asked):
        await anyio.sleep(3)
        return answer()

    night = Night(tmp_path, [], endpoint(ScriptedWire(script)), Feed(rows(), off_loop=inline))
    await night.run.execute()
    assert [(halt.error_class, halt.message) for halt in night.run.halts] == [
        ("ManifestError", "m.csv: changed after it was checked; start again")
    ]
    assert written(night.writer, "results").height == 6


# Rows that are not asked


def repeats(answered: Mapping[str, str], asked: Mapping[str, int]) -> Sorter:
    """``answered``: prompt → run; ``asked``: prompt → row of an earlier session."""
    names = sorted(set(answered.values()))
    before, here = KeyTable(), KeyTable()
    for prompt, run_id in answered.items():
        before.claim(key_number(request_key(item(prompt).request)), names.index(run_id))
    for prompt, row in asked.items():
        here.claim(key_number(request_key(item(prompt).request)), row)
    return Sorter(Repeats(before, names, here))


@on_virtual_time
async def test_what_was_answered_before_is_skipped_and_not_asked():
    wire, gathered = ScriptedWire(in_turn(answer)), Gathered()
    known = repeats({"i2": "r-monday", "i3": "r-tuesday"}, {})
    await Run(RowsAtHand(items(4)), endpoint(wire), gathered, known).execute()
    assert sorted(asked.prompt for asked in wire.asked) == ["i1", "i4"]
    assert [ended for ended in gathered.ended if isinstance(ended, Skipped)] == [
        Skipped("i2", 2, "r-monday"),
        Skipped("i3", 3, "r-tuesday"),
    ]


@on_virtual_time
async def test_rows_that_ask_the_same_become_one_call():
    rows = [item("same" if row % 2 else f"i{row}", row) for row in range(1, 7)]
    wire, gathered = ScriptedWire(in_turn(answer)), Gathered()
    await Run(RowsAtHand(rows), endpoint(wire), gathered, no_repeats()).execute()
    assert sorted(asked.prompt for asked in wire.asked) == ["i2", "i4", "i6", "same"]
    key = request_key(rows[0].request)
    assert [ended for ended in gathered.ended if isinstance(ended, Duplicate)] == [
        Duplicate("same", 3, 1, key),
        Duplicate("same", 5, 1, key),
    ]


@on_virtual_time
async def test_a_row_that_asks_what_an_earlier_session_asked_shares_it():
    wire, gathered = ScriptedWire(in_turn(answer)), Gathered()
    await Run(RowsAtHand([item("i7", 9)]), endpoint(wire), gathered, repeats({}, {"i7": 7})).execute()
    assert [type(ended).__name__ for ended in gathered.ended] == ["Duplicate"]
    assert not wire.asked


@on_virtual_time
async def test_a_deadline_stops_like_a_signal_under_a_name_of_its_own():
    async def script(asked):
        await anyio.sleep(10)
        return answer()

    wire, gathered = ScriptedWire(script), Gathered()
    run = Run(RowsAtHand(items(50)), endpoint(wire, slots=5), gathered, no_repeats())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.execute)
        await anyio.sleep(15)
        run.stop("deadline")
    assert anyio.current_time() == 20
    assert run.state == "deadline"
    assert kinds(gathered) == {"ok": 10, "not_attempted": 40}


@on_virtual_time
async def test_a_signal_counts_for_more_than_a_deadline_only_where_it_came_first():
    gathered = Gathered()
    run = Run(RowsAtHand(items(1)), endpoint(ScriptedWire(in_turn(answer))), gathered, no_repeats())
    run.stop("interrupted")
    run.stop("deadline")
    await run.execute()
    assert run.state == "interrupted"


def test_only_one_digs_out_the_single_error():
    error = KeyRejected("no")
    assert only_one(ExceptionGroup("a", [ExceptionGroup("b", [error])])) is error
    several = ExceptionGroup("a", [error, ValueError()])
    assert only_one(several) is several
