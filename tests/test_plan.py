"""A plan stands in run.json, so that a run can be resumed by its name alone."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline.errors import UsageError
from pipeline.plan import Anew, EndpointPlan, Plan, Secrets, paced, plan_of, resumed, timeouts_of
from pipeline.retry import RetryRules
from pipeline.transport import Timeouts

STARTED = datetime(2026, 3, 5, 22, 0, tzinfo=UTC)
PLAIN = Plan(
    run_id="r1",
    job="captions",
    manifest="/m.csv",
    out=Path("/out"),
    endpoints=(EndpointPlan("https://endpoint.example/v1", "newapi"),),
    model="a-model",
    prompt="What is it?",
    parameters={"max_tokens": 9},
    started_at=STARTED,
    timezone=ZoneInfo("UTC"),
)
ODD = replace(
    PLAIN,
    endpoints=(
        EndpointPlan(None, "openai", ("a-model", "b-model"), slots=4, rpm=600, tpm=90_000),
        EndpointPlan("https://other.example/v1", "newapi", key_variable="OTHER_KEY", price_book="/b.toml"),
    ),
    fallbacks={"ContentBlocked": "b-model"},
    price_book="/mine.toml",
    budget=Decimal("5.00"),
    budget_per_day=Decimal("12.5"),
    stop_if_unseen=0.2,
    max_outage_s=90.5,
    prompt="这是什么？",
    system="Be brief.",
    schema={"type": "object", "properties": {"colour": {"enum": ["红", None]}}},
    timezone=ZoneInfo("Asia/Shanghai"),
    retry=RetryRules(max_attempts=7),
    timeouts=timeouts_of(9.5),
    media="auto",
    allow_private=True,
    image_max_px=1024,
    limit=0,
    max_failed=0.25,
    ca_file=Path("/ca.pem"),
    header_names=("X-Team", "X-Night"),
    again=True,
    state_dir=Path("/state"),
    anew=Anew(
        ("r0", "r-1"),
        model="b-model",
        max_tokens=5,
        system="S.",
        parameters={"seed": 7},
        image_max_px=512,
    ),
)


def run_json(plan: Plan) -> dict[str, Any]:
    facts = {
        "run_id": plan.run_id,
        "job": plan.job,
        "started_at": "2026-03-05T22:00:00Z",
        "plan": plan.facts(),
    }
    told: dict[str, Any] = json.loads(json.dumps(facts))
    return told


@pytest.mark.parametrize("plan", [PLAIN, ODD])
def test_a_plan_comes_back_from_run_json_as_it_was(plan: Plan):
    assert plan_of(run_json(plan), plan.out) == plan


def test_the_odd_plan_of_this_test_differs_in_all_that_may():
    same = {field.name for field in fields(Plan) if getattr(ODD, field.name) == getattr(PLAIN, field.name)}
    assert same == {"run_id", "job", "manifest", "out", "model", "parameters", "started_at"}


def test_the_plan_of_an_earlier_release_is_read_without_what_came_later():
    told = run_json(PLAIN)
    for name in ("ca_file", "again", "state_dir", "anew", "system", "schema"):
        del told["plan"][name]
    assert plan_of(told, PLAIN.out) == PLAIN


def test_the_ledger_lies_beside_run_json_or_where_it_is_told_to():
    assert PLAIN.ledger_path == Path("/out/runs/r1/ledger.sqlite")
    assert ODD.ledger_path == Path("/state/r1.ledger")


@pytest.mark.parametrize(("total_s", "connect_s"), [(300.0, 10.0), (10.0, 10.0), (4.0, 4.0)])
def test_one_timeout_makes_all_three(total_s: float, connect_s: float):
    assert timeouts_of(total_s) == Timeouts(connect_s=connect_s, read_s=total_s, total_s=total_s)


def test_what_is_said_of_pace_holds_for_every_endpoint_and_what_is_not_stays():
    first, second = (
        EndpointPlan("https://a.example/v1", "newapi", slots=4, rpm=60),
        EndpointPlan(None, "openai"),
    )
    assert paced((first, second), slots=None, rpm=None, tpm=None) == (first, second)
    assert paced((first, second), slots=9, rpm=None, tpm=500) == (
        replace(first, slots=9, tpm=500),
        replace(second, slots=9, tpm=500),
    )
    assert paced((first,), slots="auto", rpm=None, tpm=None) == (replace(first, slots=None),)


def test_a_resumed_run_may_go_at_another_pace():
    faster = replace(
        PLAIN,
        endpoints=paced(PLAIN.endpoints, slots=9, rpm=600, tpm=9_000),
        max_outage_s=5,
        header_names=("X",),
    )
    assert resumed(PLAIN, faster) == faster


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"endpoints": ODD.endpoints}, "the endpoints ('https://endpoint.example/v1' → 'embedded, else"),
        ({"endpoints": (*PLAIN.endpoints, *PLAIN.endpoints)}, "the endpoints ("),
        ({"endpoints": (replace(PLAIN.endpoints[0], models=("a",)),)}, "the endpoints ("),
        ({"fallbacks": {"BadInput": "b"}}, "the fallbacks ({} → {'BadInput': 'b'})"),
        ({"system": "Be brief."}, "the system prompt (None → 'Be brief.')"),
        ({"schema": {"type": "object"}}, "the schema (None → {'type': 'object'})"),
        ({"parameters": {"max_tokens": 9, "seed": 1}}, "the parameters ("),
    ],
)
def test_a_resumed_run_asks_the_same(changes: dict[str, Any], told: str):
    with pytest.raises(UsageError) as caught:
        resumed(PLAIN, replace(PLAIN, **changes))
    assert told in str(caught.value)


def test_each_key_goes_to_its_own_endpoint_and_extra_headers_to_all():
    secrets = Secrets("the usual", {"X-Team": "night"}, {"OTHER_KEY": "the other"})
    assert secrets.headers_for(None) == {"Authorization": "Bearer the usual", "X-Team": "night"}
    assert secrets.headers_for("OTHER_KEY") == {"Authorization": "Bearer the other", "X-Team": "night"}
    assert Secrets().headers_for(None) == {}


def test_secrets_do_not_show():
    shown = repr(Secrets("the usual", {"X-Team": "night"}, {"OTHER_KEY": "the other"}))
    for secret in ("the usual", "night", "the other"):
        assert secret not in shown
