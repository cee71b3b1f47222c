"""A plan becomes a run, and run.json says what it was; nothing is sent in these tests."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import polars as pl
import pytest

from pipeline.errors import ManifestError, StoreError
from pipeline.launch import launch
from pipeline.plan import EndpointPlan, Plan, Secrets, new_run_id
from pipeline.pricing import ListPrices
from pipeline.run import Summary

STARTED = datetime(2026, 3, 5, 22, 0, tzinfo=UTC)
SECRETS = Secrets(api_key="sk-night-Zq81LmT0vKx94", headers={"X-Team": "hdr-7Qp2"})


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    manifest = tmp_path / "m.csv"
    manifest.write_text("id,prompt\none,a\ntwo,b\nbad,\n")
    return Plan(
        run_id="r1",
        job="captions",
        manifest=str(manifest),
        out=tmp_path / "out",
        endpoints=(EndpointPlan("http://127.0.0.1:9/v1", "newapi", slots=4),),  # never reached: 0 rows
        model="gemini-2.5-flash",
        prompt="What is it?",
        parameters={"max_tokens": 9},
        started_at=STARTED,
        timezone=ZoneInfo("Asia/Shanghai"),
        limit=0,
        header_names=("X-Team",),
    )


def launched(plan: Plan, **more: Any) -> Summary:
    async def night() -> Summary:
        return await launch(plan, SECRETS, **more)

    return anyio.run(night)


def run_json(plan: Plan) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((plan.out / "runs" / plan.run_id / "run.json").read_text("utf-8"))
    return facts


def test_run_json_says_what_was_asked_with_what_and_what_it_came_to(plan: Plan):
    assert launched(plan).state == "done"
    facts = run_json(plan)
    finished_at = datetime.fromisoformat(facts.pop("finished_at"))
    assert finished_at > STARTED
    digest = facts["plan"].pop("manifest_digest")
    assert digest.startswith("sha256:")
    identity = ListPrices().identity()
    listed = {
        "name": identity.name,
        "version": identity.version,
        "sha256": identity.sha256,
        "installed_on": f"{identity.installed_on}",
    }
    assert facts == {
        "run_id": "r1",
        "job": "captions",
        "state": "done",
        "started_at": "2026-03-05T22:00:00Z",
        "plan": {
            "manifest": plan.manifest,
            "endpoint": "http://127.0.0.1:9/v1",
            "endpoints": [
                {
                    "base_url": "http://127.0.0.1:9/v1",
                    "dialect": "newapi",
                    "models": [],
                    "slots": 4,
                    "rpm": None,
                    "tpm": None,
                    "key_variable": None,
                    "price_book": None,
                }
            ],
            "fallbacks": {},
            "price_book": None,
            "budget": None,
            "budget_per_day": None,
            "max_outage_s": 3600.0,
            "model": "gemini-2.5-flash",
            "prompt": "What is it?",
            "system": None,
            "parameters": {"max_tokens": 9},
            "schema": None,
            "max_attempts": 5,
            "timeout_s": 300.0,
            "stop_if_unseen": None,
            "media": "url",
            "allow_private": False,
            "image_max_px": None,
            "limit": 0,
            "max_failed": 0.0,
            "timezone": "Asia/Shanghai",
            "ca_file": None,
            "headers": ["X-Team"],
            "again": False,
            "state_dir": None,
            "anew": None,
        },
        "versions": {name: version(name) for name in ("mediabatch", "polars", "httpx", "pyreqwest")},
        "price_book": listed,
        "price_books": [listed],
        "totals": {
            "rows": 3,
            "ok": 0,
            "failed": 0,
            "skipped": 0,
            "not_attempted": 3,
            "duplicates": 0,
            "attempts": 0,
            "possibly_billed": 0,
            "cost": {},
        },
        "halts": [],
        "levels": {},
        "pace": {
            "limited_s": dict.fromkeys(("slots", "rpm", "tpm", "hold", "outage", "budget"), 0.0),
            "throttled": 0,
        },
        "estimate": None,
    }


def test_nothing_that_was_written_holds_a_secret(plan: Plan):
    launched(plan)
    for path in plan.out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"Zq81LmT0vKx94" not in content
            assert b"hdr-7Qp2" not in content
    assert "Zq81" not in repr(SECRETS)
    assert "hdr-7Qp2" not in repr(SECRETS)


def test_while_it_runs_it_says_so(plan: Plan):
    seen = []
    launched(plan, on_start=lambda *_: seen.append(run_json(plan)))
    (facts,) = seen
    assert facts["state"] == "running"
    assert "finished_at" not in facts


def test_the_day_of_the_partition_is_that_of_the_timezone(plan: Plan):
    launched(plan)
    (rest,) = (plan.out / "rest").rglob("*.parquet")
    assert rest.relative_to(plan.out) == Path("rest/date=2026-03-06/run=r1/rest.parquet")
    assert pl.read_parquet(rest, hive_partitioning=False)["item_id"].to_list()[:2] == ["one", "two"]


def test_a_manifest_without_rows_is_a_finished_run_of_nothing(plan: Plan):
    Path(plan.manifest).write_text("id,prompt\n")
    assert launched(replace(plan, limit=None)).state == "done"
    assert run_json(plan)["state"] == "done"
    assert run_json(plan)["totals"]["rows"] == 0


def test_a_model_without_a_price_is_told_before_the_night(plan: Plan):
    told: list[str] = []
    launched(replace(plan, model="nobody-knows"), on_start=lambda run, tally, notes: told.extend(notes))
    assert told == ["no price is known for model 'nobody-knows': what it costs will be null, not zero"]


def test_a_mistake_leaves_no_run_behind(plan: Plan):
    with pytest.raises(ManifestError, match="no such file"):
        launched(replace(plan, manifest=plan.manifest + ".csv"))
    assert not plan.out.exists()


def test_a_store_that_cannot_be_opened_is_a_mistake(plan: Plan):
    plan.out.write_text("a file in the way")
    with pytest.raises(StoreError, match="choose another folder"):
        launched(plan)


def test_run_ids_sort_by_time_and_differ():
    ids = [new_run_id(STARTED.replace(minute=minute)) for minute in range(60)]
    assert ids == sorted(ids)
    assert ids[0].startswith("20260305T220000Z-")
    assert new_run_id(STARTED) != new_run_id(STARTED)
