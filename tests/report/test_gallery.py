"""What a gallery shows: a lot drawn once for all, of the latest outcomes, with typed answers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl

from pipeline.errors import BadInput
from pipeline.records import Media
from pipeline.report import Scope, sample
from tests.made import NOW, attempt, item, outcome, write


def names(out: Path, most: int, where: pl.Expr | None = None) -> list[str]:
    return [one.item_id for one in sample(Scope(out, "default"), where, most)[0]]


def test_a_lot_is_the_same_every_time_and_stands_in_order(tmp_path: Path):
    write(tmp_path, *(outcome(item(f"i{row:02d}", row)) for row in range(1, 51)))
    drawn, of_all = sample(Scope(tmp_path, "default"), None, 9)
    assert (len(drawn), of_all) == (9, 50)
    assert [one.row for one in drawn] == sorted(one.row or 0 for one in drawn)
    assert [one.item_id for one in drawn] == names(tmp_path, 9)
    assert len(names(tmp_path, 500)) == 50


def test_the_latest_outcome_alone_is_shown(tmp_path: Path):
    refused = attempt(error=BadInput("no", http_status=400))
    later = NOW + timedelta(days=1)
    write(tmp_path, outcome(item("a"), refused))
    write(tmp_path, outcome(item("a"), attempt(at=later)), run_id="r2", started_at=later)
    (shown,), of_all = sample(Scope(tmp_path, "default"), None, 9)
    assert (shown.run_id, shown.status, shown.text, of_all) == ("r2", "ok", "a cat", 1)
    assert names(tmp_path, 9, pl.col("status") == "failed") == []


def test_an_item_comes_with_its_media_prompt_and_cost(tmp_path: Path):
    asked = item("a", 1, Media("image", "https://h.example/a.jpg?X-Amz-Signature=s"))
    write(tmp_path, outcome(asked, seen=["no"]))
    (shown,), _ = sample(Scope(tmp_path, "default"), None, 1)
    assert shown.media == (("image", "https://h.example/a.jpg", "no"),)
    assert (shown.prompt, str(shown.cost), shown.currency) == ("What is it?", "0.000347250000", "USD")


def test_typed_answers_come_with_their_runs_own_types(tmp_path: Path):
    for run_id, value in (("r1", {"price": 12.5}), ("r2", {"tags": ["a"]}), ("r3", None)):
        writer = write(tmp_path, outcome(item(run_id)), run_id=run_id)
        (part,) = writer.parts("results")
        if value is not None:
            frame = pl.read_parquet(part, hive_partitioning=False)
            frame.with_columns(pl.Series("parsed", [value])).write_parquet(part)
    shown, _ = sample(Scope(tmp_path, "default"), None, 9)
    assert {one.item_id: one.parsed for one in shown} == {
        "r1": {"price": 12.5},
        "r2": {"tags": ["a"]},
        "r3": None,
    }
