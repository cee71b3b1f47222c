"""Outcomes become parts, and nothing that was put gets lost on the way."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import anyio.to_thread
import polars as pl
import pytest

from pipeline.errors import RowError, StoreUnwritable
from pipeline.recorder import PART_ITEMS, Recorder
from pipeline.records import BadRow, NotAttempted
from pipeline.store.rows import Part
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally
from tests.rehearsing import START


def bad(row: int) -> BadRow:
    return BadRow(f"i{row}", row, RowError(row, "is odd"))


def opened(out: Path) -> tuple[Recorder, RunWriter]:
    writer = RunWriter(out, "r1", START)
    writer.open()
    return Recorder(writer, Tally(), job="default", endpoint_of_bad_rows=None), writer


def parts(writer: RunWriter, dataset: str = "results") -> dict[str, list[int]]:
    found = sorted(writer.dataset_folder(dataset).glob("*.parquet"))
    return {path.name: pl.read_parquet(path, columns=["row"])["row"].to_list() for path in found}


def test_parts_are_named_by_the_sequence_number_of_their_first_item(tmp_path: Path):
    async def night() -> None:
        recorder, writer = opened(tmp_path)
        for row in (1, 2, 3):
            await recorder.put(bad(row))
        await recorder.flush()
        await recorder.flush()
        await recorder.put(bad(4))
        await recorder.close()
        assert parts(writer) == {"part-0000000001.parquet": [1, 2, 3], "part-0000000004.parquet": [4]}

    anyio.run(night)


def test_a_full_part_is_written_while_the_run_goes_on(tmp_path: Path):
    async def night() -> None:
        recorder, writer = opened(tmp_path)
        for row in range(1, PART_ITEMS + 2):
            await recorder.put(bad(row))
        assert [len(rows) for rows in parts(writer).values()] == [PART_ITEMS]
        await recorder.close()
        assert [len(rows) for rows in parts(writer).values()] == [PART_ITEMS, 1]

    anyio.run(night)


def test_resting_rows_end_in_one_file_by_row(tmp_path: Path):
    async def night() -> None:
        recorder, writer = opened(tmp_path)
        for row in (9, 4, 7):
            await recorder.put(NotAttempted(f"i{row}", row))
            await recorder.flush()
        await recorder.put(NotAttempted("i1", 1))
        await recorder.close()
        assert parts(writer, "rest") == {"rest.parquet": [1, 4, 7, 9]}
        assert parts(writer) == {}

    anyio.run(night)


def test_without_resting_rows_there_is_no_rest_file(tmp_path: Path):
    async def night() -> None:
        recorder, _ = opened(tmp_path)
        await recorder.put(bad(1))
        await recorder.close()
        assert not (tmp_path / "rest").exists()

    anyio.run(night)


def test_what_could_not_be_written_stays_gathered(tmp_path: Path):
    async def night() -> None:
        recorder, writer = opened(tmp_path)
        in_the_way = tmp_path / "results"
        in_the_way.write_text("a file in the way")
        await recorder.put(bad(1))
        await recorder.put(NotAttempted("i2", 2))
        with pytest.raises(StoreUnwritable, match="make room or mend it"):
            await recorder.flush()
        await recorder.put(bad(3))
        in_the_way.unlink()
        await recorder.close()
        assert parts(writer) == {"part-0000000001.parquet": [1, 3]}
        assert parts(writer, "rest") == {"rest.parquet": [2]}

    anyio.run(night)


class SlowToRefuse(RunWriter):
    """Refuses its first part, but only when it is told to."""

    def __init__(self, out: Path) -> None:
        super().__init__(out, "r1", START)
        self.may_refuse: threading.Event | None = threading.Event()
        self.is_asked = threading.Event()

    def write_part(self, sequence: int, part: Part) -> None:
        if self.may_refuse is not None:
            self.is_asked.set()
            assert self.may_refuse.wait(10)
            self.may_refuse = None
            raise StoreUnwritable(self.out, "disk full")
        super().write_part(sequence, part)


def test_what_comes_while_a_write_fails_is_kept_behind_what_could_not_be_written(tmp_path: Path):
    async def night() -> None:
        writer = SlowToRefuse(tmp_path)
        writer.open()
        recorder = Recorder(writer, Tally(), job="default", endpoint_of_bad_rows=None)
        await recorder.put(bad(1))

        async def flush() -> None:
            with pytest.raises(StoreUnwritable, match="disk full"):
                await recorder.flush()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flush)
            await anyio.to_thread.run_sync(writer.is_asked.wait, 10)
            await recorder.put(bad(2))
            assert writer.may_refuse is not None
            writer.may_refuse.set()
        await recorder.close()
        assert parts(writer) == {"part-0000000001.parquet": [1, 2]}

    anyio.run(night)


def test_an_unwritable_store_is_not_tried_anew_with_every_row(tmp_path: Path):
    async def night() -> None:
        recorder, _ = opened(tmp_path)
        (tmp_path / "results").write_text("a file in the way")
        failures = 0
        for row in range(1, 2 * PART_ITEMS + 100):
            try:
                await recorder.put(bad(row))
            except StoreUnwritable:
                failures += 1
        assert failures == 2

    anyio.run(night)


def test_a_store_where_only_results_cannot_be_written_still_gets_the_rest(tmp_path: Path):
    async def night() -> None:
        recorder, writer = opened(tmp_path)
        (tmp_path / "results").write_text("a file in the way")
        await recorder.put(bad(1))
        await recorder.put(NotAttempted("i2", 2))
        with pytest.raises(StoreUnwritable):
            await recorder.close()
        assert parts(writer, "rest") == {"rest.parquet": [2]}

    anyio.run(night)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("steps", range(6))
def test_a_cancelled_flush_loses_nothing(tmp_path: Path, backend: str, steps: int):
    async def night() -> None:
        recorder, writer = opened(tmp_path)
        await recorder.put(bad(1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(recorder.flush)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await recorder.close()
        assert parts(writer) == {"part-0000000001.parquet": [1]}

    anyio.run(night, backend=backend)
