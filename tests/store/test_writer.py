"""Parts are whole or not there at all, and lie where the day and the run say."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from pipeline.errors import Overloaded, StoreError, StoreUnwritable
from pipeline.store.resting import Rest
from pipeline.store.rows import Part
from pipeline.store.schemas import RESULTS, SCHEMAS
from pipeline.store.writer import RunWriter
from pipeline.typed.schema import AnswerSchema
from tests.made import NOW, attempt, item, outcome, part_of, reply


def part(*ids: str) -> Part:
    return part_of(*(outcome(item(name, row)) for row, name in enumerate(ids, 1)))


def files(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def opened(out: Path, zone: str = "UTC") -> RunWriter:
    writer = RunWriter(out, "r1", NOW.astimezone(ZoneInfo(zone)))
    writer.open()
    return writer


def test_a_part_lies_under_its_day_and_run_and_nothing_else_is_left(tmp_path: Path):
    writer = opened(tmp_path)
    writer.write_part(1, part("one", "two"))
    folder = "date=2026-03-05/run=r1/part-0000000001.parquet"
    assert files(tmp_path) == {f"{dataset}/{folder}" for dataset in ("results", "costs", "attempts")}


def test_the_timezone_decides_what_day_it_is(tmp_path: Path):
    """22:00 UTC is six in the morning of the next day in Shanghai."""
    assert opened(tmp_path, "Asia/Shanghai").dataset_folder("results").parent.name == "date=2026-03-06"
    assert opened(tmp_path, "America/New_York").dataset_folder("results").parent.name == "date=2026-03-05"


@pytest.mark.parametrize("dataset", ["results", "costs", "attempts"])
def test_the_file_holds_the_schema_and_not_the_path_keys(tmp_path: Path, dataset: str):
    writer = opened(tmp_path)
    writer.write_part(1, part("one"))
    (path,) = writer.dataset_folder(dataset).iterdir()
    assert pl.read_parquet_schema(path) == SCHEMAS[dataset]


def test_parts_are_compressed_with_zstd(tmp_path: Path):
    writer = opened(tmp_path)
    writer.write_part(1, part("one"))
    (path,) = writer.dataset_folder("results").iterdir()
    content = path.read_bytes()
    assert b"\x28\xb5\x2f\xfd" in content, "a zstd frame begins so"


def test_writing_a_part_again_overwrites_it(tmp_path: Path):
    writer = opened(tmp_path)
    writer.write_part(1, part("one"))
    writer.write_part(1, part("one", "two"))
    writer.write_part(3, part("three"))
    found = [
        pl.read_parquet(path)["item_id"].to_list()
        for path in sorted(writer.dataset_folder("results").iterdir())
    ]
    assert found == [["one", "two"], ["three"]]


def test_a_part_that_cannot_be_put_in_place_is_not_seen(tmp_path: Path):
    writer = opened(tmp_path)
    # A folder of the part's name: the bytes can be written aside, but not renamed.
    (writer.dataset_folder("results") / "part-0000000001.parquet" / "x").mkdir(parents=True)
    with pytest.raises(StoreUnwritable, match="make room or mend it"):
        writer.write_part(1, part("one"))
    assert not list(writer.dataset_folder("results").glob("*.aside"))


def test_a_leftover_of_a_killed_run_is_no_part(tmp_path: Path):
    writer = opened(tmp_path)
    writer.write_part(1, part("one"))
    (writer.dataset_folder("results") / "part-0000000002.parquet.aside").write_bytes(b"PAR1 cut")
    found = list(writer.dataset_folder("results").glob("*.parquet"))
    assert [path.name for path in found] == ["part-0000000001.parquet"]


def test_the_bill_is_written_before_the_answers(tmp_path: Path):
    """Whoever sees an answer sees its bill: with the costs unwritable there is no answer either."""
    writer = opened(tmp_path)
    (tmp_path / "costs").write_text("a file in the way")
    with pytest.raises(StoreUnwritable):
        writer.write_part(1, part("one"))
    assert not (tmp_path / "results").exists()


def test_there_is_one_rest_file_a_run(tmp_path: Path):
    writer = opened(tmp_path)
    for rows in (3, 2):
        rest = Rest("r1", "default")
        for row in range(1, rows + 1):
            rest.add(f"i{row}", row, "not_attempted")
        rest.write(writer)
    assert files(tmp_path) == {"rest/date=2026-03-05/run=r1/rest.parquet"}
    found = pl.read_parquet(tmp_path / "rest/date=2026-03-05/run=r1/rest.parquet", hive_partitioning=False)
    assert found.schema == SCHEMAS["rest"]
    assert found["item_id"].to_list() == ["i1", "i2"]


def test_run_json_is_replaced_whole_and_its_instants_are_utc(tmp_path: Path):
    writer = opened(tmp_path)
    writer.write_run({"state": "running", "started_at": NOW, "padding": "x" * 5000})
    writer.write_run({"state": "done", "finished_at": NOW + timedelta(hours=1)})
    assert json.loads((tmp_path / "runs" / "r1" / "run.json").read_text("utf-8")) == {
        "state": "done",
        "finished_at": "2026-03-05T23:00:00Z",
    }
    assert files(tmp_path) == {"runs/r1/run.json"}


@pytest.mark.parametrize("in_the_way", ["", "runs", "runs/r1"])
def test_an_output_folder_that_cannot_be_used_is_found_before_anything_is_sent(
    tmp_path: Path, in_the_way: str
):
    out = tmp_path / "out"
    blocked = out / in_the_way if in_the_way else out
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file in the way")
    with pytest.raises(StoreError, match=r"cannot write there \(.+\); choose another folder"):
        RunWriter(out, "r1", NOW).open()


def test_opening_leaves_no_trace_but_the_runs_folder(tmp_path: Path):
    opened(tmp_path)
    assert files(tmp_path) == set()
    assert (tmp_path / "runs" / "r1").is_dir()


def test_a_part_of_typed_answers_ends_in_their_column_and_is_made_again_the_same(tmp_path: Path):
    schema = AnswerSchema.of({"type": "object", "properties": {"n": {"type": "integer"}}})
    part = part_of(
        outcome(item("one", 1), attempt(1, reply('{"n": 1}'))),
        outcome(item("two", 2), attempt(error=Overloaded("busy", http_status=503))),
    )
    contents = []
    for _ in range(2):
        writer = RunWriter(tmp_path, "r1", NOW)
        writer.schema = schema
        contents.append(writer.write_part(1, part))
    assert contents[0] == contents[1]
    (path,) = RunWriter(tmp_path, "r1", NOW).parts("results")
    written = pl.read_parquet(path, hive_partitioning=False)
    assert written.columns == [*RESULTS.names(), "parsed"]
    assert written["parsed"].to_list() == [{"n": 1}, None]
