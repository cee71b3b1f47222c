"""Rows that are not asked: at rest, or sharing another row's outcome."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import BadInput
from pipeline.keys import request_key
from pipeline.records import Duplicate
from pipeline.store.resting import Duplicates, Rest
from pipeline.store.schemas import REST, RESULTS
from pipeline.store.writer import RunWriter
from tests.made import NOW, attempt, item, outcome, part_of


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    opened = RunWriter(tmp_path, "r1", NOW)
    opened.open()
    return opened


def duplicate(row: int, first_row: int, prompt: str = "What is it?") -> Duplicate:
    return Duplicate(f"i{row}", row, first_row, request_key(item(prompt=prompt).request))


def resolved(writer: RunWriter, *duplicates: Duplicate) -> tuple[pl.DataFrame, list[int]]:
    """The file of shared results, and the rows that have none."""
    gathered = Duplicates()
    for one in duplicates:
        gathered.add(one)
    shared, left = gathered.resolve(writer)
    path = writer.dataset_folder("results") / "duplicates.parquet"
    written = (
        pl.read_parquet(path, hive_partitioning=False) if path.exists() else pl.DataFrame(schema=RESULTS)
    )
    assert written.equals(shared)
    return written, left["row"].to_list()


def test_a_duplicate_shares_the_answer_and_costs_nothing(writer: RunWriter):
    writer.write_part(1, part_of(outcome(item("i1", 1), attempt(1), attempt(2))))
    written, left = resolved(writer, duplicate(5, 1))
    assert left == []
    assert written.schema == RESULTS
    found = written.row(0, named=True)
    (first,) = pl.read_parquet(writer.parts("results"), hive_partitioning=False).to_dicts()
    own = {
        "item_id": "i5",
        "row": 5,
        "attempts": 0,
        "prompt_tokens": None,
        "completion_tokens": None,
        "total_tokens": None,
        "cost": Decimal(0),
        "cost_low": Decimal(0),
        "cost_high": Decimal(0),
        "unpriced_tokens": 0,
        "duplicate_of": "i1",
    }
    assert found == {**first, **own}


def test_a_duplicate_of_a_failure_has_failed(writer: RunWriter):
    refused = BadInput("the endpoint refuses this request", http_status=400)
    writer.write_part(1, part_of(outcome(item("i1", 1), attempt(error=refused))))
    written, left = resolved(writer, duplicate(2, 1))
    assert left == []
    assert written.select("status", "error_class", "error_message", "http_status", "duplicate_of").row(0) == (
        "failed",
        "BadInput",
        "the endpoint refuses this request",
        400,
        "i1",
    )


def test_a_duplicate_whose_first_has_not_ended_is_left(writer: RunWriter):
    writer.write_part(1, part_of(outcome(item("i1", 1))))
    written, left = resolved(writer, duplicate(2, 1), duplicate(8, 7), duplicate(9, 7))
    assert (written["row"].to_list(), left) == ([2], [8, 9])


def test_where_nothing_has_ended_all_are_left(writer: RunWriter):
    written, left = resolved(writer, duplicate(2, 1))
    assert (written.height, left) == (0, [2])


def test_without_duplicates_there_is_no_file(writer: RunWriter):
    written, left = resolved(writer)
    assert (written.height, left) == (0, [])
    assert not (writer.dataset_folder("results") / "duplicates.parquet").exists()


def test_the_first_may_stand_in_any_part_of_the_run(writer: RunWriter):
    for row in range(1, 6):
        writer.write_part(row, part_of(outcome(item(f"i{row}", row, prompt=f"p{row}"))))
    written, left = resolved(writer, *(duplicate(row + 10, row, f"p{row}") for row in (5, 1, 3)))
    assert written.select("row", "duplicate_of").rows() == [(15, "i5"), (11, "i1"), (13, "i3")]
    assert left == []


def test_keys_that_share_64_bits_are_told_apart(writer: RunWriter):
    """The table that found the duplicate knows 64 bits; the whole key decides."""
    asked = item("i1", 1)
    writer.write_part(1, part_of(outcome(asked)))
    key = request_key(asked.request)
    near = Duplicate("i2", 2, 1, key[:18] + "".join(reversed(key[18:])))
    assert resolved(writer, near)[1] == [2]


def test_resolved_again_with_more_it_replaces_what_was_there(writer: RunWriter):
    writer.write_part(1, part_of(outcome(item("i1", 1))))
    resolved(writer, duplicate(2, 1))
    written, _ = resolved(writer, duplicate(2, 1), duplicate(3, 1))
    assert written["row"].to_list() == [2, 3]
    written, _ = resolved(writer)
    assert written.height == 0


def test_resting_rows_end_in_one_file_by_row(writer: RunWriter):
    rest = Rest("r1", "default")
    rest.add("i9", 9, "skipped", "r0")
    rest.add("i4", 4, "not_attempted")
    rest.write(writer)
    (path,) = writer.dataset_folder("rest").iterdir()
    found = pl.read_parquet(path, hive_partitioning=False)
    assert found.schema == REST
    assert found.rows() == [
        ("r1", "default", "i4", 4, "not_attempted", None),
        ("r1", "default", "i9", 9, "skipped", "r0"),
    ]


def test_many_resting_rows_are_all_there(writer: RunWriter):
    rest = Rest("r1", "default")
    for row in range(25_000, 0, -1):
        rest.add(f"i{row}", row, "not_attempted")
    rest.write(writer)
    (path,) = writer.dataset_folder("rest").iterdir()
    assert pl.read_parquet(path, hive_partitioning=False)["row"].to_list() == list(range(1, 25_001))


def test_without_resting_rows_an_earlier_sessions_file_goes(writer: RunWriter):
    rest = Rest("r1", "default")
    rest.add("i1", 1, "not_attempted")
    rest.write(writer)
    Rest("r1", "default").write(writer)
    assert list(writer.dataset_folder("rest").iterdir()) == []
