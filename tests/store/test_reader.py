"""Readers see all runs, tolerate older parts, and know which outcome counts."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.errors import BadInput, RowError, StoreError
from pipeline.records import BadRow, NotAttempted
from pipeline.store.history import history_of, similar_ids
from pipeline.store.reader import every_run, latest_outcomes, remembered_level, run_facts, scan
from pipeline.store.schemas import RESULTS, SCHEMAS
from tests.made import NOW, attempt, item, outcome, write

REFUSED = BadInput("the endpoint refuses this request", http_status=400)


@pytest.mark.parametrize("dataset", SCHEMAS)
def test_a_dataset_that_was_never_written_is_empty_with_all_columns(tmp_path: Path, dataset: str):
    (tmp_path / "runs").mkdir()
    found = scan(tmp_path, dataset).collect()
    assert found.is_empty()
    assert found.schema == {**SCHEMAS[dataset], "date": pl.Date(), "run": pl.String()}


@pytest.mark.parametrize("reading", [lambda out: scan(out, "results"), every_run])
def test_where_there_is_no_store_a_sentence_says_so(tmp_path: Path, reading: Any):
    with pytest.raises(StoreError, match="there is no store here; `mediabatch run` makes one"):
        reading(tmp_path / "nowhere")


def test_all_runs_are_read_with_their_day_and_run(tmp_path: Path):
    write(tmp_path, outcome(item("one")), run_id="2026", started_at=NOW)
    write(tmp_path, outcome(item("two")), run_id="夜-2", started_at=NOW + timedelta(days=1))
    found = scan(tmp_path, "results").select("item_id", "run_id", "date", "run").sort("item_id").collect()
    assert found.rows() == [
        ("one", "2026", date(2026, 3, 5), "2026"),
        ("two", "夜-2", date(2026, 3, 6), "夜-2"),
    ]


@pytest.mark.parametrize("name", ["out [night]", "out*", "w?", "日 志", "a{b}"])
def test_any_folder_name_will_do(tmp_path: Path, name: str):
    out = tmp_path / name
    write(out, outcome(item("one"), attempt()), BadRow("two", 2, RowError(2, "is odd")))
    assert scan(out, "results").collect()["item_id"].to_list() == ["one", "two"]
    assert scan(out, "results").collect()["date"].to_list() == [date(2026, 3, 5)] * 2


def older_part(out: Path, columns: list[str]) -> None:
    folder = out / "results" / "date=2025-01-01" / "run=r0"
    folder.mkdir(parents=True)
    frame = pl.DataFrame({"run_id": ["r0"], "job": ["default"], "item_id": ["old"], "status": ["ok"]})
    full = pl.concat([pl.DataFrame(schema=RESULTS), frame], how="diagonal")
    full.select(columns).write_parquet(folder / "part-0000000001.parquet")


def test_a_part_that_lacks_later_columns_is_read_with_nulls(tmp_path: Path):
    write(tmp_path, outcome())
    older_part(tmp_path, list(RESULTS)[:-3])
    found = scan(tmp_path, "results").sort("run_id").collect()
    assert found["item_id"].to_list() == ["old", "one"]
    assert found["request_json"].is_null().to_list() == [True, False]


def test_a_part_in_another_order_of_columns_is_read_by_name(tmp_path: Path):
    write(tmp_path, outcome())
    older_part(tmp_path, sorted(RESULTS, reverse=True))
    found = scan(tmp_path, "results").sort("run_id").collect()
    assert found.columns == [*RESULTS, "date", "run"]
    assert found["item_id"].to_list() == ["old", "one"]


def test_a_part_with_a_column_of_a_later_release_is_read_without_it(tmp_path: Path):
    writer = write(tmp_path, outcome())
    (path,) = writer.dataset_folder("results").iterdir()
    frame = pl.read_parquet(path, hive_partitioning=False).with_columns(invented_later=pl.lit(1))
    frame.write_parquet(path)
    assert "invented_later" not in scan(tmp_path, "results").collect().columns


def results(*rows: tuple[str, str, int, str, str | None]) -> pl.LazyFrame:
    """(item, status, minute finished, run, endpoint)"""
    return pl.LazyFrame(
        {
            "job": ["default"] * len(rows),
            "item_id": [row[0] for row in rows],
            "status": [row[1] for row in rows],
            "finished_at": [datetime(2026, 3, 5, 0, row[2]) for row in rows],
            "run_id": [row[3] for row in rows],
            "endpoint": [row[4] for row in rows],
        },
        schema_overrides={"endpoint": pl.String},
    )


def latest(*rows: tuple[str, str, int, str, str | None]) -> dict[str, str]:
    """item → the run its latest outcome is from, whatever the order of the parts."""
    found = [
        dict(latest_outcomes(frame).select("item_id", "run_id").collect().rows())
        for frame in (results(*rows), results(*reversed(rows)))
    ]
    assert found[0] == found[1]
    return found[0]


def test_the_newest_ok_counts():
    assert latest(("a", "ok", 1, "r1", "x"), ("a", "ok", 2, "r2", "x")) == {"a": "r2"}


def test_a_later_failure_does_not_replace_an_answer():
    assert latest(("a", "ok", 1, "r1", "x"), ("a", "failed", 2, "r2", "x")) == {"a": "r1"}


def test_without_an_answer_the_newest_failure_counts():
    assert latest(("a", "failed", 1, "r1", "x"), ("a", "failed", 2, "r2", "x")) == {"a": "r2"}


def test_an_answer_replaces_an_earlier_failure():
    assert latest(("a", "failed", 1, "r1", "x"), ("a", "ok", 2, "r2", "x")) == {"a": "r2"}


def test_outcomes_of_one_instant_are_told_apart_by_run():
    assert latest(("a", "ok", 1, "r1", "x"), ("a", "ok", 1, "r2", "x")) == {"a": "r2"}


def test_rehearsals_never_count():
    assert latest(("a", "failed", 1, "r1", "x"), ("a", "ok", 2, "r2", "embedded")) == {"a": "r1"}
    assert latest(("a", "ok", 2, "r2", "embedded")) == {}


def test_a_bad_row_of_a_real_run_counts_although_it_reached_no_endpoint():
    assert latest(("a", "failed", 1, "r1", None)) == {"a": "r1"}


def test_items_of_different_jobs_never_meet():
    here = results(("a", "ok", 1, "r1", "x"))
    there = results(("a", "ok", 2, "r2", "x")).with_columns(job=pl.lit("other"))
    found = latest_outcomes(pl.concat([here, there])).select("job", "run_id").sort("job").collect().rows()
    assert found == [("default", "r1"), ("other", "r2")]


def test_runs_are_those_with_facts(tmp_path: Path):
    write(tmp_path, outcome(), run_id="r2")
    write(tmp_path, outcome(), run_id="r1")
    (tmp_path / "runs" / "half-made").mkdir()
    assert [facts["run_id"] for facts in every_run(tmp_path)] == ["r1", "r2"]
    assert run_facts(tmp_path, "r1")["job"] == "default"
    with pytest.raises(StoreError, match="no run 'r9' here"):
        run_facts(tmp_path, "r9")


def test_an_items_history_is_its_own_and_oldest_first(tmp_path: Path):
    write(tmp_path, outcome(item("a"), attempt(at=NOW)), outcome(item("b", 2)), run_id="r9")
    earlier = attempt(at=NOW - timedelta(days=1), error=REFUSED)
    write(tmp_path, outcome(item("a"), earlier), run_id="r1", started_at=NOW - timedelta(days=1))
    write(tmp_path, NotAttempted("a", 1), run_id="r3")
    write(tmp_path, outcome(item("a")), run_id="r4", job="other")
    history = history_of(tmp_path, "default", "a")
    assert history.results["run_id"].to_list() == ["r1", "r9"]
    assert history.attempts["run_id"].to_list() == ["r1", "r9"]
    assert history.costs["run_id"].unique().to_list() == ["r9"]
    assert history.rest["run_id"].to_list() == ["r3"]
    assert not history.is_empty
    assert history_of(tmp_path, "default", "c").is_empty


def test_ids_that_hold_the_text_are_similar(tmp_path: Path):
    write(tmp_path, *(outcome(item(name)) for name in ("cat.1", "cat.2", "catx1", "dog")))
    assert similar_ids(tmp_path, "default", "cat.") == ["cat.1", "cat.2"]
    assert similar_ids(tmp_path, "default", "cat", most=1) == ["cat.1"]
    assert similar_ids(tmp_path, "other", "cat") == []


# The level of slots


def found(out: Path, run_id: str, levels: dict[str, int] | None, model: str = "a-model") -> None:
    """A run that found these levels; None: it is older than levels."""
    plan = {"plan": {"model": model}}
    write(out, run_id=run_id, facts=plan if levels is None else {**plan, "levels": levels})


def test_the_level_that_is_remembered_is_that_of_the_newest_run(tmp_path: Path):
    found(tmp_path, "r1", {"https://a.example/v1": 40})
    found(tmp_path, "r2", {"https://a.example/v1": 60, "https://b.example/v1": 9})
    found(tmp_path, "r3", None)
    assert remembered_level(tmp_path, "https://a.example/v1", "a-model") == 60
    assert remembered_level(tmp_path, "https://b.example/v1", "a-model") == 9


def test_the_level_of_another_endpoint_or_model_is_none(tmp_path: Path):
    found(tmp_path, "r1", {"https://a.example/v1": 40})
    found(tmp_path, "r2", {"https://a.example/v1": 60}, model="b-model")
    found(tmp_path, "r3", {"https://b.example/v1": 9})
    assert remembered_level(tmp_path, "https://a.example/v1", "a-model") == 40
    assert remembered_level(tmp_path, "https://a.example/v1", "c-model") is None


def test_where_there_is_no_store_yet_there_is_no_level(tmp_path: Path):
    assert remembered_level(tmp_path / "nowhere", "https://a.example/v1", "a-model") is None
