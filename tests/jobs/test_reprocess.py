"""`reprocess` as a person says it; what it then does over HTTP is told in `end_to_end/test_morning.py`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs.__main__ import cli
from pipeline.errors import BadInput, Overloaded
from pipeline.plan import EndpointPlan
from tests.made import ENDPOINT, attempt, count, item, outcome, reply, write

PLAN: dict[str, Any] = {
    "manifest": "/no/such/m.csv",
    "manifest_digest": "sha256:0",
    "endpoint": ENDPOINT,
    "endpoints": [asdict(EndpointPlan(ENDPOINT, "newapi", slots=4))],
    "fallbacks": {},
    "max_outage_s": 3600.0,
    "model": "a-model",
    "prompt": "What is it?",
    "parameters": {"max_tokens": 9},
    "max_attempts": 5,
    "timeout_s": 300.0,
    "limit": None,
    "max_failed": 0.0,
    "timezone": "UTC",
    "ca_file": None,
    "headers": ["X-Team"],
}
BUSY = Overloaded("busy", http_status=503)
REFUSED = BadInput("no", http_status=400)


def reprocess(out: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(
        cli, ["reprocess", "--out", str(out), *words], catch_exceptions=False, env={"MEDIABATCH_API_KEY": "k"}
    )
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """20 answers at $0.00034725; two busy, one refused."""
    answered = [outcome(item(f"ok-{n}", n)) for n in range(1, 21)]
    failed = [outcome(item(f"busy-{n}", n), attempt(error=BUSY)) for n in (21, 22)]
    facts = {"plan": PLAN, "state": "done"}
    write(tmp_path, *answered, *failed, outcome(item("no", 23), attempt(error=REFUSED)), facts=facts)
    return tmp_path


def files(out: Path) -> set[Path]:
    return {path for path in out.rglob("*") if not path.name.startswith(".lock")}


def test_a_dry_run_shows_what_would_go_and_what_it_may_cost(out: Path):
    """Three items like twenty that cost $0.00034725 each."""
    before = files(out)
    lines = [" ".join(line.split()) for line in reprocess(out, "--dry-run").stdout.splitlines()]
    assert lines == [
        f"3 items would go to {ENDPOINT}",
        "2 Overloaded a-model",
        "1 BadInput a-model",
        "for instance busy-21, busy-22, no",
        "may cost USD 0.0010 to 0.0010, likely 0.0010: as 20 replies about such media did",
        "nothing was sent; leave out --dry-run to send them",
    ]
    assert files(out) == before


def test_a_likely_cost_lies_within_its_band(tmp_path: Path):
    """20 replies, one of them of 460,000 tokens at $1.50/M: the mean, $0.0348…, is above nine of ten."""
    long = attempt(answered=reply(counts=[count("text", "output", 460_000)]))
    answered = [outcome(item(f"ok-{n}", n)) for n in range(1, 20)]
    failed = outcome(item("busy", 21), attempt(error=BUSY))
    write(tmp_path, *answered, outcome(item("long", 20), long), failed, facts={"plan": PLAN, "state": "done"})
    band = json.loads(reprocess(tmp_path, "--dry-run", "--json").stdout)["may_cost"]["USD"]
    assert band["low"] < band["likely"] <= band["high"]
    assert band["likely"] > 0.03


def test_a_dry_run_with_a_model_nobody_has_paid_for_is_of_unknown_cost(out: Path):
    told = json.loads(reprocess(out, "--dry-run", "--json", "--model", "fallback", "--limit", "2").stdout)
    assert told == {
        "chosen": 2,
        "endpoint": ENDPOINT,
        "by": [{"outcome": "Overloaded", "model_before": "a-model", "model": "fallback", "items": 2}],
        "item_ids": ["busy-21", "busy-22"],
        "may_cost": {},
        "told_by_replies": 0,
        "unknown": 2,
    }
    words = ("--dry-run", "--model", "fallback", "--where", "id=no")
    assert (
        "the cost is unknown: no reply of that model has been paid for here" in reprocess(out, *words).stdout
    )


def test_nothing_to_reprocess_is_no_mistake(out: Path):
    result = reprocess(out, "--where", "error_class=TooLarge")
    assert result.stderr == "nothing to reprocess: no item's latest outcome matches error_class=TooLarge\n"
    assert json.loads(reprocess(out, "--where", "age>9999d", "--json").stdout) == {"chosen": 0}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--where", "eror_class=x"], "did you mean error_class?"),
        (["--where", "http_status=often"], "http_status is a whole number"),
        (["r9"], "no run 'r9' here"),
        (["--job", "nights"], "no run of job 'nights' here"),
        (["--run-id", "r1"], "run r1 exists already; `mediabatch resume r1` goes on with it"),
        (["--base-url", "nonsense"], "--base-url: not an http(s) URL"),
        (["--model", " "], "--model: is empty"),
        ([], "these items were asked with the header X-Team: give --header X-Team=… again"),
    ],
)
def test_slips_are_told_before_anything_is_sent_or_written(out: Path, words: list[str], sentence: str):
    before = files(out)
    assert sentence in reprocess(out, *words, code=2).stderr
    assert files(out) == before


def test_a_rehearsals_outcomes_never_count(tmp_path: Path):
    failed = outcome(item("a"), attempt(error=BUSY, endpoint="embedded"))
    plan = {**PLAN, "endpoint": "embedded", "endpoints": [asdict(EndpointPlan(None, "newapi"))]}
    write(tmp_path, failed, endpoint="embedded", facts={"plan": plan, "state": "done"})
    assert "nothing to reprocess" in reprocess(tmp_path).stderr
    assert "is a rehearsal" in reprocess(tmp_path, "r1", code=2).stderr


def test_a_run_of_another_job_is_told(out: Path):
    write(out, outcome(item("a")), run_id="r2", job="other", facts={"plan": PLAN, "state": "done"})
    assert "add --job other" in reprocess(out, "r2", code=2).stderr
