"""What a run came to, for a person in a pipe and for a program."""

from __future__ import annotations

import json
import shlex
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobs.summary import as_json, exit_code, show_summary
from pipeline.errors import BadInput, EmptyReply, Overloaded, RowError
from pipeline.plan import Anew, EndpointPlan, Plan
from pipeline.records import BadRow, NotAttempted
from pipeline.run import Halt, Summary
from pipeline.tally import Tally
from tests.made import (
    ENDPOINT,
    NOW,
    Told,
    attempt,
    count,
    entries,
    item,
    not_attempted,
    outcome,
    part_of,
    reply,
    resting,
    write,
)

EMBEDDED = (EndpointPlan(None, "newapi"),)
REFUSED = BadInput("the endpoint refuses this request", http_status=400)
HALT = Halt(
    ENDPOINT, "a-model", "KeyRejected", "the endpoint rejects the key (401): check MEDIABATCH_API_KEY"
)


def plan(out: Path = Path("out"), **more: Any) -> Plan:
    settings: dict[str, Any] = {
        "run_id": "r1",
        "job": "default",
        "manifest": "/m.csv",
        "out": out,
        "endpoints": (EndpointPlan(ENDPOINT, "newapi", slots=4),),
        "model": "a-model",
        "prompt": "What is it?",
        "parameters": {},
        "started_at": NOW,
        "timezone": ZoneInfo("UTC"),
    }
    return Plan(**{**settings, **more})


def counted(*told: Told) -> Tally:
    tally = Tally(rows_total=len(told), not_attempted=len(resting(*told)))
    for entry in entries(*told):
        tally.add(entry)
    return tally


def summary(
    *told: Told, state: Any = "done", halts: tuple[Halt, ...] = (), job: str = "default", estimate: Any = None
) -> Summary:
    began_at = NOW + timedelta(hours=9)  # a later session of the run than its first
    finished_at = began_at + timedelta(seconds=83.25)
    return Summary("r1", job, state, NOW, began_at, finished_at, halts, counted(*told), estimate)


def shown(capsys: pytest.CaptureFixture[str], made: Summary, planned: Plan | None = None) -> list[str]:
    show_summary(made, planned or plan())
    captured = capsys.readouterr()
    assert captured.err == ""
    return [" ".join(line.split()) for line in captured.out.splitlines() if line.strip()]


A_NIGHT = (
    outcome(item("one")),
    outcome(item("two", 2), attempt(1, error=Overloaded("no", http_status=503)), attempt(2)),
    outcome(item("three", 3), attempt(1, error=REFUSED)),
    BadRow("row-4", 4, RowError(4, "holds neither media nor a prompt")),
    NotAttempted("five", 5),
)


def test_tables_tell_outcomes_and_tokens_with_exact_costs(capsys):
    """Twice 9 in at $0.25/M and 230 out at $1.50/M."""
    lines = shown(capsys, summary(*A_NIGHT))
    assert "ok 2" in lines
    assert "failed: BadInput 1 three: the endpoint refuses this request" in lines
    assert "failed: RowError 1 row-4: row 4: holds neither media nor a prompt" in lines
    assert "not attempted 1" in lines
    assert "all 5 4 attempts" in lines
    assert "input text fresh 18 USD 0.0000045" in lines
    assert "output text fresh 460 USD 0.00069" in lines
    assert "all 478 USD 0.0006945" in lines
    assert "run r1, done in 83.2 s, job default" in lines
    assert any(line.startswith("1 attempt broke off once sent and may have been billed") for line in lines)
    assert lines[-1].startswith("next: ")


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("halted", "halted after 83.2 s"),
        ("budget", "stopped at its budget after 83.2 s"),
        ("deadline", "stopped at its deadline after 83.2 s"),
        ("interrupted", "interrupted after 83.2 s"),
    ],
)
def test_how_a_run_ended_is_said_in_words(capsys, state, told):
    assert f"run r1, {told}, job default" in shown(capsys, summary(*A_NIGHT, state=state))


def test_a_pipe_gets_no_terminal_codes_and_whole_lines(capsys, tmp_path):
    out = tmp_path / ("a-folder-with-a-rather-long-name-" * 5) / "photos [2026] :cat:"
    write(out, outcome())
    show_summary(summary(outcome(), halts=(HALT,), state="halted"), plan(out))
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert f"  results  {out / 'results' / 'date=2026-03-05' / 'run=r1'}\n" in text
    assert f"  run      {out / 'runs' / 'r1' / 'run.json'}\n" in text
    assert f"halted (model a-model): {HALT.error_class}: {HALT.message}\n" in text


def test_a_long_reason_stays_on_one_line(capsys):
    halt = Halt(ENDPOINT, None, "AllAlike", "the first 20 answers all failed " * 10)
    lines = shown(capsys, summary(halts=(halt,), state="halted"))
    assert lines[0] == f"halted (the run): AllAlike: {halt.message}".strip()


def test_what_is_unpriced_is_unknown_and_never_zero(capsys):
    lines = shown(capsys, summary(outcome(None, attempt(rates=None))))
    assert "no price known for a-model (239 tokens): their cost is null, not zero" in lines
    assert "input text fresh 9 unknown" in lines
    assert "all 239 nothing priced" in lines


def test_a_line_that_is_priced_in_part_says_so(capsys):
    lines = shown(capsys, summary(outcome(item("a")), outcome(item("b", 2), attempt(rates=None))))
    assert "input text fresh 18 USD 0.00000225 + 9 tokens unpriced" in lines


def test_answers_without_usage_are_pointed_out(capsys):
    answered = reply()
    bare = attempt(1, type(answered)("a cat", "stop", "a-model", "c-1", None))
    lines = shown(capsys, summary(outcome(None, bare)))
    assert "no usage in 1 answers: their cost is unknown" in lines


def test_a_rehearsal_calls_itself_one(capsys):
    lines = shown(capsys, summary(outcome()), plan(endpoints=EMBEDDED))
    assert "rehearsed with the embedded endpoint: no model was asked, and nothing was spent" in lines


def test_with_several_endpoints_a_halt_says_which_of_them(capsys):
    two = (EndpointPlan(ENDPOINT, "newapi"), EndpointPlan("https://other.example/v1", "openai"))
    down = Halt("https://other.example/v1", None, "EndpointDown", "it has answered nobody")
    lines = shown(capsys, summary(outcome(), halts=(HALT, down), state="halted"), plan(endpoints=two))
    assert f"halted (model a-model at {ENDPOINT}): KeyRejected: {HALT.message}" in lines
    assert "halted (the run at https://other.example/v1): EndpointDown: it has answered nobody" in lines


def test_what_halted_it_is_to_be_mended_first(capsys):
    lines = shown(capsys, summary(outcome(), halts=(HALT,), state="halted"))
    assert lines[-1] == "next: mend what halted it, then mediabatch resume r1"


@pytest.mark.parametrize(
    ("made", "planned", "words"),
    [
        (summary(outcome()), plan(), ["export", "answers.csv"]),
        (summary(outcome()), plan(endpoints=EMBEDDED), ["export", "answers.csv", "--run", "r1"]),
        (
            summary(outcome(item("it's [b]")  , attempt(error=REFUSED)), job="captions"),
            plan(Path("my out"), endpoints=EMBEDDED),
            ["show", "it's [b]", "--out", "my out", "--job", "captions"],
        ),
        (summary(BadRow("b", 1, RowError(1, "holds nothing"))), plan(), ["show", "b"]),
        (
            summary(outcome(item("b"), attempt(error=REFUSED)), job="captions"),
            plan(Path("my out")),
            ["reprocess", "--dry-run", "--out", "my out", "--job", "captions"],
        ),
        (
            summary(outcome(item("b"), attempt(error=REFUSED)), job="captions"),
            plan(Path("my out"), anew=Anew(("r0",))),
            ["report", "--out", "my out", "--job", "captions"],
        ),
        (
            summary(outcome(), state="interrupted", job="captions"),
            plan(Path("my out")),
            ["resume", "r1", "--out", "my out", "--job", "captions"],
        ),
    ],
)  # fmt: skip
def test_the_command_to_try_next_can_be_pasted(capsys, made, planned, words):
    show_summary(made, planned)
    last = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(last.removeprefix("next: ")) == ["mediabatch", *words]


def test_json_is_one_object_with_exact_money_as_text():
    planned = plan()
    found = json.loads(as_json(summary(*A_NIGHT, state="halted", halts=(HALT,)), planned, 3))
    assert found == {
        "run_id": "r1",
        "job": "default",
        "state": "halted",
        "exit_code": 3,
        "rows": 5,
        "ok": 2,
        "failed": 2,
        "skipped": 0,
        "not_attempted": 1,
        "duplicates": 0,
        "attempts": 4,
        "possibly_billed": 1,
        "errors": {"BadInput": 1, "RowError": 1},
        "halts": [
            {
                "endpoint": ENDPOINT,
                "model": "a-model",
                "error_class": "KeyRejected",
                "message": HALT.message,
            }
        ],
        "cost": {"USD": "0.0006945"},
        "budget": None,
        "budget_per_day": None,
        "usage": [
            {
                "modality": "text",
                "direction": "input",
                "kind": "fresh",
                "tokens": 18,
                "unpriced_tokens": 0,
                "cost": {"USD": "0.0000045"},
            },
            {
                "modality": "text",
                "direction": "output",
                "kind": "fresh",
                "tokens": 460,
                "unpriced_tokens": 0,
                "cost": {"USD": "0.00069"},
            },
        ],
        "unpriced_models": {},
        "images_shrunk": 0,
        "tokens_saved": 0,
        "unseen": {},
        "unseen_items": [],
        "without_usage": 0,
        "estimate": None,
        "started_at": "2026-03-05T22:00:00Z",
        "finished_at": "2026-03-06T07:01:23.250000Z",
        "elapsed_s": 83.25,
        "out": "out",
        "paths": {"run": str(Path("out/runs/r1/run.json"))},
    }


def test_the_timezone_decides_which_folders_are_named(tmp_path):
    shanghai = ZoneInfo("Asia/Shanghai")
    write(tmp_path, outcome(), started_at=NOW.astimezone(shanghai))
    found = json.loads(as_json(summary(outcome()), plan(tmp_path, timezone=shanghai), 0))
    assert found["paths"]["results"] == str(tmp_path / "results" / "date=2026-03-06" / "run=r1")


def failing(failed: int, ok: int) -> Summary:
    rows = [outcome(item(f"f{n}"), attempt(error=REFUSED)) for n in range(failed)]
    return summary(*rows, *(outcome(item(f"o{n}")) for n in range(ok)))


@pytest.mark.parametrize(
    ("made", "max_failed", "code"),
    [
        (failing(0, 1), 0.0, 0),
        (failing(1, 999), 0.0, 5),
        (failing(1, 9), 0.1, 0),
        (failing(2, 9), 0.1, 5),
        (failing(1, 0), 1.0, 0),
        (summary(), 0.0, 0),
        (summary(NotAttempted("one", 1)), 0.0, 0),
        (summary(BadRow("b", 1, RowError(1, "is odd"))), 0.0, 5),
        (summary(state="halted"), 1.0, 3),
        (summary(state="deadline"), 1.0, 4),
        (summary(outcome(item("f"), attempt(error=REFUSED)), state="deadline"), 0.0, 4),
        (summary(state="interrupted"), 1.0, 130),
    ],
)
def test_the_exit_code_tells_a_scheduler(made: Summary, max_failed: float, code: int):
    assert exit_code(made, plan(max_failed=max_failed)) == code


# The counts behind it


def test_the_bill_of_items_that_failed_or_rest_counts_too():
    """Two blocked tries and one item the run stopped before: 3 x 9 in."""
    blocked = reply("", [count("text", "input", 9)])
    error = EmptyReply("blocked", reply=blocked)
    tally = counted(
        outcome(None, attempt(1, blocked, error), attempt(2, blocked, error)),
        not_attempted("two", 2, attempt(1, blocked, error)),
    )
    assert tally.usage["text", "input", "fresh"].tokens == 27
    assert tally.cost == {"USD": Decimal("0.00000675")}
    assert (tally.attempts, tally.failed, tally.not_attempted, tally.ended) == (3, 1, 1, 2)


def same(one: Tally, other: Tally) -> bool:
    return one.encode() == other.encode() and one.totals() == other.totals()


def test_counts_merged_are_the_counts_of_all():
    all_at_once = counted(*A_NIGHT)
    merged = Tally(rows_total=5, not_attempted=1)
    for part in (A_NIGHT[:1], A_NIGHT[1:3], A_NIGHT[3:]):
        half = counted(*part)
        half.not_attempted = 0
        merged.merge(half)
    assert same(merged, all_at_once)


def test_counts_survive_the_ledger():
    night = counted(*A_NIGHT, outcome(item("six", 6), attempt(rates=None)))
    again = Tally.decode(night.encode())
    assert again.encode() == night.encode()
    assert again.usage == night.usage
    assert (again.unpriced, again.bills, again.first_errors) == (
        night.unpriced,
        night.bills,
        night.first_errors,
    )


def test_what_an_attempt_typically_costs_is_the_mean_of_its_models_priced_replies():
    """9 x $0.25/M + 230 x $1.50/M = $0.00034725, and 9 x $0.25/M = $0.00000225: $0.00017475 in the mean."""
    cheap = attempt(1, reply("", [count("text", "input", 9)]))
    tally = counted(
        outcome(item("a")), outcome(item("b", 2), cheap), outcome(item("c", 3), attempt(rates=None))
    )
    assert tally.typical_cost("a-model") == Decimal("0.00017475")
    assert tally.typical_cost("b-model") is None


def test_rows_that_share_an_answer_count_and_cost_nothing():
    shared = part_of(outcome(item("a")), outcome(item("b", 2), attempt(error=REFUSED))).frames()["results"]
    tally = counted(outcome(item("a")))
    before = tally.cost
    tally.add_duplicates(shared)
    assert (tally.ok, tally.failed, tally.duplicates, tally.attempts) == (2, 1, 2, 1)
    assert tally.cost == before
    assert tally.errors == {"BadInput": 1}


def test_a_bill_beside_its_estimate_says_how_far_off_that_was(capsys):
    band = {"low": "0.00040", "likely": "0.00050", "high": "0.00060"}
    show_summary(summary(*A_NIGHT, estimate={"cost": {"USD": band}, "tokens": {}}), plan())
    assert (
        "estimated: USD 0.00050 (0.00040 to 0.00060); it came to 0.00069, +39%, outside the band"
        in capsys.readouterr().out
    )
