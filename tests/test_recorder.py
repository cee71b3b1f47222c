"""Nothing goes before it is on record, nothing is counted before it is durable, and nothing put gets lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import polars as pl
import pytest

from pipeline.errors import MediabatchError, MediaMissing, Overloaded, RowError, StoreUnwritable
from pipeline.ledger import Ledger
from pipeline.recorder import MOST_WAITING, Recorder
from pipeline.records import BadRow, Duplicate, Media, NotAttempted, Outcome, Skipped
from pipeline.settling import settle
from pipeline.store.resting import Duplicates, Rest
from pipeline.store.rows import Entry, Writing
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally
from tests.made import ENDPOINT, attempt, item, outcome
from tests.rehearsing import START, on_virtual_time

FULL = StoreUnwritable("ledger", "database or disk is full")


class Disk:
    """How blocking calls leave the loop: here they wait until the disk is let go, or fail with it.

    ``calls`` are those that came, by name: ``commit`` and ``seal``. What a call meets is decided as it comes.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.problem: dict[str, MediabatchError] = {}
        self._busy: dict[str, anyio.Event] = {}

    async def __call__(self, call: Callable[..., Any], *arguments: Any) -> Any:
        name = call.__name__
        self.calls.append(name)
        problem = self.problem.get(name)
        if name in self._busy:
            await self._busy[name].wait()
        if problem is not None:
            raise problem
        return call(*arguments)

    def block(self, name: str = "commit") -> None:
        self._busy[name] = anyio.Event()

    def let_go(self, name: str = "commit") -> None:
        self._busy.pop(name).set()


class Night:
    """A recorder over a real ledger and store, on a disk that does as it is told."""

    def __init__(self, out: Path, *, part_items: int = 50) -> None:
        self.disk = Disk()
        self.writer = RunWriter(out, "r1", START)
        self.writer.open()
        self.writing = Writing("r1", "default", None)
        path = out / "runs" / "r1" / "ledger.sqlite"
        self.ledger = Ledger.open(path)
        self.on_disk = Ledger(path, sqlite3.connect(path))  # sees what was committed, and nothing else
        self.tally = Tally()
        self.rest, self.duplicates = Rest("r1", "default"), Duplicates()
        self.problems: list[MediabatchError] = []
        self.recorder = self.session(part_items)

    def session(self, part_items: int = 50) -> Recorder:
        return Recorder(
            self.ledger,
            self.writer,
            self.writing,
            self.tally,
            self.rest,
            self.duplicates,
            off_loop=self.disk,
            flush_off_loop=self.disk,
            part_items=part_items,
        )

    async def send(self, row: int = 1) -> int:
        return await self.recorder.sent(row, f"i{row}", 1_000_000, ENDPOINT, "a-model", "newapi")

    def recorded(self) -> list[int]:
        """The sequences in the ledger."""
        return [seq for seq, _ in self.on_disk.done(1, 1 << 40)]

    def parts(self, dataset: str = "results") -> dict[str, list[int]]:
        return {
            path.name: pl.read_parquet(path, columns=["row"])["row"].to_list()
            for path in self.writer.parts(dataset)
        }


@contextmanager
def opened(out: Path, **settings: Any) -> Iterator[Night]:
    night = Night(out, **settings)
    try:
        yield night
    finally:
        night.on_disk.close()
        night.ledger.close()


def with_night(test: Callable[..., Any]) -> Callable[..., None]:
    """The test gets a night whose commits and seals go on in the background."""

    @on_virtual_time
    async def run(tmp_path: Path) -> None:
        with opened(tmp_path) as night:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(night.recorder.commit_groups, night.problems.append)
                tasks.start_soon(night.recorder.seal_parts, night.problems.append)
                await test(night, tasks)
                tasks.cancel_scope.cancel()

    def named(tmp_path: Path) -> None:
        run(tmp_path)

    named.__name__, named.__doc__ = test.__name__, test.__doc__
    return named


def bad(row: int) -> BadRow:
    return BadRow(f"i{row}", row, RowError(row, "is odd"))


def answered(row: int, ticket: int = 1) -> Outcome:
    ended = outcome(item(f"i{row}", row), attempt(ticket)).ended
    assert isinstance(ended, Outcome)
    return ended


# Before it goes


@with_night
async def test_an_attempt_goes_only_once_it_is_durable(night: Night, tasks: Any):
    went: list[int] = []

    async def send() -> None:
        went.append(await night.send())

    night.disk.block()
    tasks.start_soon(send)
    await anyio.sleep(60)
    assert (went, night.on_disk.in_flight()) == ([], [])
    night.disk.let_go()
    await anyio.sleep(1)
    assert went == [1]
    assert [(sent.id, sent.row, sent.number) for sent in night.on_disk.in_flight()] == [(1, 1, 1)]


@with_night
async def test_an_attempt_that_could_not_be_recorded_does_not_go(night: Night, tasks: Any):
    night.disk.problem["commit"] = FULL
    with pytest.raises(StoreUnwritable):
        await night.send()
    assert night.problems == [FULL]
    del night.disk.problem["commit"]
    await night.recorder.close()
    assert night.on_disk.in_flight() == [], "it never went, so it is not in flight"


@with_night
async def test_an_attempt_given_up_while_it_waited_is_not_in_flight(night: Night, tasks: Any):
    """Cancelled before its commit began, and while that was under way."""
    night.disk.block()
    with anyio.move_on_after(1):
        await night.send(1)
    with anyio.move_on_after(1):
        await night.send(2)
    night.disk.let_go()
    await anyio.sleep(1)
    await night.recorder.close()
    assert night.on_disk.in_flight() == []
    assert night.recorded() == []


# Before it counts


@with_night
async def test_nothing_is_counted_before_it_is_durable(night: Night, tasks: Any):
    night.disk.block()
    await night.recorder.put(bad(1))
    await anyio.sleep(60)
    assert night.tally.failed == 0
    night.disk.let_go()
    await anyio.sleep(1)
    assert (night.tally.failed, night.recorded()) == (1, [1])


@with_night
async def test_what_comes_during_a_commit_is_the_next_group(night: Night, tasks: Any):
    night.disk.block()
    await night.recorder.put(bad(1))
    await anyio.sleep(1)
    for row in (2, 3, 4):
        await night.recorder.put(bad(row))
        await anyio.sleep(1)
    assert night.disk.calls == ["commit"]
    night.disk.let_go()
    await anyio.sleep(1)
    assert night.disk.calls == ["commit", "commit"]
    assert night.recorded() == [1, 2, 3, 4]


@with_night
async def test_an_answer_takes_its_attempt_out_of_flight_with_the_same_commit(night: Night, tasks: Any):
    ticket = await night.send()
    await night.recorder.put(answered(1, ticket))
    await anyio.sleep(1)
    assert night.on_disk.in_flight() == []
    (body,) = [body for _, body in night.on_disk.done(1, 9)]
    entry = Entry.decode(body)
    assert (len(entry.attempts), len(entry.costs), entry.result is not None) == (1, 2, True)


@with_night
async def test_while_the_disk_is_far_behind_whoever_writes_waits(night: Night, tasks: Any):
    put = 0

    async def write() -> None:
        nonlocal put
        for row in range(1, 2 * MOST_WAITING):
            await night.recorder.put(bad(row))
            put = row

    night.disk.block()
    await night.recorder.put(bad(0))
    await anyio.sleep(1)  # its commit is under way, and what follows gathers
    tasks.start_soon(write)
    await anyio.sleep(60)
    assert put == MOST_WAITING - 1
    night.disk.let_go()
    await anyio.sleep(1)
    assert put == 2 * MOST_WAITING - 1


# A disk that fails


@with_night
async def test_what_could_not_be_committed_is_kept_and_written_at_the_end(night: Night, tasks: Any):
    night.disk.problem["commit"] = FULL
    await night.recorder.put(bad(1))
    await anyio.sleep(1)
    await night.recorder.put(bad(2))
    await anyio.sleep(1)
    assert night.problems == [FULL, FULL]
    assert (night.tally.failed, night.recorded()) == (0, [])
    del night.disk.problem["commit"]
    await night.recorder.close()
    assert (night.tally.failed, night.recorded()) == (2, [1, 2])
    assert night.parts() == {"part-0000000001.parquet": [1, 2]}


@with_night
async def test_what_came_during_a_commit_that_failed_stays_behind_what_it_held(night: Night, tasks: Any):
    night.disk.block()
    night.disk.problem["commit"] = FULL
    await night.recorder.put(bad(1))
    await anyio.sleep(1)
    await night.recorder.put(bad(2))
    del night.disk.problem["commit"]
    night.disk.let_go()
    await anyio.sleep(1)
    assert night.problems == [FULL]
    await night.recorder.close()
    assert night.recorded() == [1, 2]
    assert night.parts() == {"part-0000000001.parquet": [1, 2]}
    assert [(one.first_seq, one.last_seq) for one in night.on_disk.sealed()] == [(1, 2)]


@with_night
async def test_an_answer_that_could_not_be_committed_leaves_its_attempt_in_flight_until_it_is(
    night: Night, tasks: Any
):
    ticket = await night.send()
    night.disk.problem["commit"] = FULL
    await night.recorder.put(answered(1, ticket))
    await anyio.sleep(1)
    assert len(night.on_disk.in_flight()) == 1
    with pytest.raises(StoreUnwritable):
        await night.recorder.close()
    del night.disk.problem["commit"]
    await night.recorder.close()
    assert night.on_disk.in_flight() == []
    assert night.tally.ok == 1


@with_night
async def test_a_part_that_could_not_be_written_is_written_with_what_follows(night: Night, tasks: Any):
    night.disk.problem["seal"] = FULL
    for row in range(1, 52):
        await night.recorder.put(bad(row))
    await anyio.sleep(1)
    assert night.problems == [FULL]
    assert night.on_disk.sealed() == []
    await night.recorder.put(bad(52))
    await anyio.sleep(1)
    del night.disk.problem["seal"]
    await night.recorder.close()
    assert night.parts() == {"part-0000000001.parquet": list(range(1, 53))}
    assert [(one.first_seq, one.last_seq) for one in night.on_disk.sealed()] == [(1, 52)]


@with_night
async def test_what_came_while_a_part_failed_stays_behind_what_it_held(night: Night, tasks: Any):
    night.disk.block("seal")
    night.disk.problem["seal"] = FULL
    for row in range(1, 51):
        await night.recorder.put(bad(row))
    await anyio.sleep(1)
    await night.recorder.put(bad(51))
    await anyio.sleep(1)
    del night.disk.problem["seal"]
    night.disk.let_go("seal")
    await anyio.sleep(1)
    assert night.problems == [FULL]
    await night.recorder.close()
    assert night.parts() == {"part-0000000001.parquet": list(range(1, 52))}


@with_night
async def test_a_run_goes_on_while_a_part_is_written(night: Night, tasks: Any):
    night.disk.block("seal")
    for row in range(1, 131):
        await night.recorder.put(bad(row))
        await anyio.sleep(0.1)
    assert night.tally.failed == 130
    night.disk.let_go("seal")
    await night.recorder.close()
    assert night.parts() == {
        "part-0000000001.parquet": list(range(1, 51)),
        "part-0000000051.parquet": list(range(51, 131)),
    }


@with_night
async def test_a_store_where_only_parts_cannot_be_written_keeps_all_in_the_ledger(night: Night, tasks: Any):
    night.disk.problem["seal"] = FULL
    for row in (1, 2, 3):
        await night.recorder.put(bad(row))
    with pytest.raises(StoreUnwritable):
        await night.recorder.close()
    assert (night.recorded(), night.tally.failed) == ([1, 2, 3], 3)
    assert settle(night.ledger, night.writer, night.writing).tally.failed == 3


# Parts


@with_night
async def test_parts_are_named_by_their_first_sequence_and_remembered(night: Night, tasks: Any):
    for row in range(1, 121):
        await night.recorder.put(bad(row))
        await anyio.sleep(0.01)
    await night.recorder.close()
    assert night.parts() == {
        "part-0000000001.parquet": list(range(1, 51)),
        "part-0000000051.parquet": list(range(51, 101)),
        "part-0000000101.parquet": list(range(101, 121)),
    }
    assert [(one.first_seq, one.last_seq) for one in night.on_disk.sealed()] == [
        (1, 50),
        (51, 100),
        (101, 120),
    ]


@with_night
async def test_a_part_is_written_while_the_run_goes_on(night: Night, tasks: Any):
    for row in range(1, 51):
        await night.recorder.put(bad(row))
    await anyio.sleep(1)
    assert list(night.parts()) == ["part-0000000001.parquet"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("steps", range(8))
def test_cancelled_between_any_two_steps_it_loses_nothing(tmp_path: Path, backend: str, steps: int):
    async def night() -> None:
        with opened(tmp_path, part_items=1) as night:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(night.recorder.commit_groups, night.problems.append)
                tasks.start_soon(night.recorder.seal_parts, night.problems.append)
                await night.recorder.put(bad(1))
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await night.recorder.close()
            assert night.recorded() == [1]
            assert night.parts() == {"part-0000000001.parquet": [1]}
            assert night.tally.failed == 1

    anyio.run(night, backend=backend)


# Rows that are not asked


@with_night
async def test_rows_at_rest_are_no_writes_of_the_ledger(night: Night, tasks: Any):
    await night.recorder.put(Skipped("i9", 9, "r-monday"))
    await night.recorder.put(NotAttempted("i4", 4))
    await night.recorder.put(Duplicate("i7", 7, 1, "1-" + "a" * 32))
    await anyio.sleep(1)
    assert night.disk.calls == []
    night.rest.write(night.writer)
    (path,) = night.writer.dataset_folder("rest").iterdir()
    rest = pl.read_parquet(path, hive_partitioning=False)
    assert rest.select("row", "status", "answered_by_run_id").rows() == [
        (4, "not_attempted", None),
        (9, "skipped", "r-monday"),
    ]
    assert (night.tally.skipped, night.tally.not_attempted) == (1, 1)


@with_night
async def test_the_try_of_a_row_the_run_stopped_before_is_recorded(night: Night, tasks: Any):
    ticket = await night.send(4)
    tried = attempt(ticket, error=Overloaded("no", http_status=503))
    await night.recorder.put(NotAttempted("i4", 4, tried))
    await anyio.sleep(1)
    assert night.on_disk.in_flight() == []
    assert list(night.on_disk.tries()) == [4]
    assert night.tally.attempts == 1


# Over sessions


@with_night
async def test_tries_add_up_over_sessions_and_are_over_with_the_row(night: Night, tasks: Any):
    """9 x $0.25/M + 230 x $1.50/M = $0.00034725, twice."""
    first = attempt(await night.send(), answered=None)
    night.recorder.tried(1, "i1", first)
    await night.recorder.close()
    again = night.session()
    assert (again.tries_of(1).attempts, again.tries_of(1).cost) == (1, Decimal("0.00034725"))
    await again.put(answered(1))
    await again.close()
    assert night.on_disk.tries() == {}
    bodies = [Entry.decode(body) for _, body in night.on_disk.done(1, 9)]
    assert [entry.result is None for entry in bodies] == [True, False]
    standing = settle(night.ledger, night.writer, night.writing)
    assert (standing.tally.ok, standing.tally.attempts) == (1, 2)
    found = pl.read_parquet(night.writer.parts("results"), hive_partitioning=False)
    assert found.select("attempts", "cost").row(0) == (2, Decimal("0.0006945"))


@pytest.mark.parametrize("is_answer", [True, False])
def test_an_item_that_ends_without_another_attempt_keeps_what_it_had(tmp_path: Path, is_answer: bool):
    """An answer that is on record, or media that cannot be had any more: one attempt, and its cost."""

    @with_night
    async def test(night: Night, tasks: Any) -> None:
        first = attempt(await night.send(), answered=None)
        night.recorder.tried(1, "i1", first)
        asked = item("i1", 1, Media("image", "https://h.example/a?sig=1&sv=2"))
        ended: Outcome | BadRow = BadRow("i1", 1, MediaMissing(404), asked.request)
        if is_answer:
            ended = Outcome(asked, None, first, None, ("no",), is_on_record=True)
        await night.recorder.put(ended)
        await night.recorder.close()
        assert night.on_disk.tries() == {}
        assert (night.tally.attempts, night.tally.ok, night.tally.failed) == (1, is_answer, not is_answer)
        (row,) = pl.read_parquet(night.writer.parts("results"), hive_partitioning=False).to_dicts()
        assert (row["attempts"], row["cost"]) == (1, Decimal("0.00034725"))
        assert row["status"] == ("ok" if is_answer else "failed")
        assert [one["url"] for one in row["media"]] == ["https://h.example/a"]
        assert settle(night.ledger, night.writer, night.writing).tally.attempts == 1

    test(tmp_path)


@with_night
async def test_sequences_go_on_where_the_last_session_left_off(night: Night, tasks: Any):
    await night.recorder.put(bad(1))
    await night.recorder.close()
    again = night.session()
    await again.put(bad(2))
    await again.close()
    assert night.recorded() == [1, 2]
    assert list(night.parts()) == ["part-0000000001.parquet", "part-0000000002.parquet"]


@with_night
async def test_a_rows_idempotency_key_is_that_of_the_run_in_every_session(night: Night, tasks: Any):
    assert night.recorder.idempotency_key(7) == night.session().idempotency_key(7) == "r1-7"


@with_night
async def test_the_number_of_an_attempt_counts_those_before_it(night: Night, tasks: Any):
    night.recorder.tried(1, "i1", attempt(await night.send(), error=Overloaded("no", http_status=503)))
    await night.send()
    assert [sent.number for sent in night.on_disk.in_flight()] == [2]


# What an attempt of unknown fate may have cost


@with_night
async def test_an_attempt_of_unknown_fate_is_estimated_by_what_such_replies_cost(night: Night, tasks: Any):
    """Before the first bill nothing is known; then it is what replies of the model cost in the mean."""
    lost = partial(attempt, error=Overloaded("no", http_status=503))
    night.recorder.tried(2, "i2", lost(await night.send(2)))
    await night.recorder.put(answered(1, await night.send(1)))
    await anyio.sleep(1)
    night.recorder.tried(3, "i3", lost(await night.send(3)))
    await night.recorder.close()
    found = pl.read_parquet(night.writer.parts("attempts"), hive_partitioning=False)
    assert found.select("item_id", "state", "possible_cost").rows() == [
        ("i2", "possibly_billed", None),
        ("i1", "billed", None),
        ("i3", "possibly_billed", Decimal("0.00034725")),
    ]
    assert night.tally.cost == {"USD": Decimal("0.00034725")}, "an estimate is never mixed into what is known"
