"""A store that an earlier release wrote opens beside new parts: see ``tests/stores``."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.end_to_end.nights import Store, invoke
from tests.serving.answers import completion
from tests.serving.server import Server

STORES = Path(__file__).parent.parent / "stores"
THERE = "/srv/catalogue/manifest.csv"


@pytest.fixture(params=sorted(path.name for path in STORES.iterdir() if path.is_dir()))
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the manifest and the store ``out`` of an earlier release."""
    folder = tmp_path / "nights"
    shutil.copytree(STORES / request.param, folder)
    for path in (folder / "out" / "runs").glob("*/run.json"):
        text = path.read_text("utf-8")
        assert THERE in text
        path.write_text(text.replace(THERE, str(folder / "manifest.csv")), "utf-8")
    return folder


def test_a_new_night_goes_into_it_and_all_that_reads_it_reads_both(earlier: Path):
    out = ["--out", earlier / "out"]
    before = latest(Store(earlier / "out"))
    was = invoke("report", "--json", *out).json
    with (earlier / "manifest.csv").open("a", encoding="utf-8") as file:
        file.write("new-1,new-1,,,neu,1\nitem-01,twice,,,,\n")
    with Server(lambda received: completion()) as server:
        night = ["run", earlier / "manifest.csv", "--base-url", server.base_url, "--run-id", "wednesday"]
        done = invoke(*night, "--json", *out)
        asked = set(server.texts())
        assert done.code == 5, done.stderr
        # What had failed is asked again, and what is new; what was answered is not.
        failed = before["failed"] - {"item-20"}
        assert asked == {*failed, "new-1"}
        assert done.json["skipped"] == len(before["ok"])
        now = latest(Store(earlier / "out"))
        assert now["ok"] == before["ok"] | failed | {"new-1"}

        told = invoke("report", "--json", *out).json
        assert dollars(told) == dollars(was) + len(asked) * Decimal("0.0004")
        by_run = invoke("report", "--by", "run", "--json", *out).json["lines"]
        assert {line["run"] for line in by_run} == {"monday", "tuesday", "wednesday"}

        exported = invoke("export", earlier / "answers.csv", *out)
        assert f"{len(now['ok'])} of them answered ok" in exported.stderr
        answers = pl.read_csv(earlier / "answers.csv", infer_schema=False)
        assert answers.filter(item_id="item-03")["title"].to_list() == ["标题 3"]

        shown = invoke("show", "item-07", "--json", *out).json
        assert {one["run_id"] for one in shown["outcomes"]} >= {"tuesday", "wednesday"}

        chosen = invoke(
            "reprocess", "--where", "id=item-0*", "--where", "status=ok", "--dry-run", "--json", *out
        )
        assert chosen.json["chosen"] == 9
        other = ["--model", "other", "--base-url", server.base_url]
        again = invoke("reprocess", "--where", "id=item-03", "--where", "status=ok", *other, *out)
        assert again.code == 0, again.stderr
        assert (server.received[-1].text, server.received[-1].model) == ("item-03", "other")


def test_costs_of_both_add_up(earlier: Path):
    """Every result's cost is that of its rows in costs, before and after."""
    costs = Store(earlier / "out").costs.group_by("run_id", "item_id").agg(pl.col("cost").sum())
    results = Store(earlier / "out").results.filter(
        pl.col("cost").is_not_null(), pl.col("duplicate_of").is_null()
    )
    both = results.join(costs, on=["run_id", "item_id"], how="left", suffix="_rows")
    assert both.filter(pl.col("cost") != pl.col("cost_rows").fill_null(0)).is_empty()


def latest(store: Store) -> dict[str, set[str]]:
    """Item ids by their latest outcome, told without the project's reader."""
    results = store.frame("results").sort(pl.col("status") == "ok", "finished_at")
    newest = results.unique("item_id", keep="last", maintain_order=True)
    return {status: set(newest.filter(status=status)["item_id"].to_list()) for status in ("ok", "failed")}


def dollars(report: dict[str, Any]) -> Decimal:
    return Decimal(report["cost_of_all_tries"]["USD"])
