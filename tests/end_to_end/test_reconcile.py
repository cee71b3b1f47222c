"""A gateway's own log beside the store: real runs, and logs in the forms that gateways export."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.nights import Finished, run_command, write_manifest
from tests.serving.answers import Answer, completion
from tests.serving.server import Received, Server

IN, OUT = 0.25, 1.50  # USD a million tokens


@dataclass
class Gateway:
    """Answers, and keeps a log of what it billed."""

    log: list[dict[str, Any]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __call__(self, received: Received) -> Answer:
        number = next(self.numbers)
        tokens_in, tokens_out = 10 + number, 5
        usage = {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }
        answer = completion("yes", usage=usage, id=f"chatcmpl-{number}")
        cost = (tokens_in * IN + tokens_out * OUT) / 1e6
        self.log.append(
            {"request": f"req-{number}", "reply": f"chatcmpl-{number}", "in": tokens_in, "cost": cost}
        )
        return replace(answer, headers={**answer.headers, "X-Oneapi-Request-Id": f"req-{number}"})


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Gateway]:
    """Twenty items, answered."""
    here = tmp_path_factory.mktemp("reconcile")
    gateway = Gateway()
    manifest = write_manifest(here / "m.csv", [f"item {number}" for number in range(20)])
    with Server(gateway) as server:
        assert run_command("run", manifest, "--base-url", server.base_url, cwd=here).code == 0
    return here, gateway


def newapi(gateway: Gateway, path: Path) -> Path:
    """As its `/api/log` answers: quota for money, a top-up between the requests."""
    rows = [
        {
            "id": number,
            "type": 2,
            "created_at": 1_900_000_000,
            "model_name": "m",
            "quota": round(one["cost"] * 500_000, 6),
            "prompt_tokens": one["in"],
            "completion_tokens": 5,
            "request_id": one["request"],
        }
        for number, one in enumerate(gateway.log)
    ]
    for row in rows:
        del row["created_at"]
    top_up = {
        "id": 99,
        "type": 1,
        "quota": 5000,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "request_id": "",
    }
    path.write_text(json.dumps({"success": True, "data": {"items": [top_up, *rows]}}), "utf-8")
    return path


def litellm(gateway: Gateway, path: Path) -> Path:
    """As its spend logs: kept by the reply's id."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["request_id", "spend", "prompt_tokens", "completion_tokens"])
        for one in gateway.log:
            writer.writerow([one["reply"], f"{one['cost']:.12f}", one["in"], 5])
    return path


def reconciled(here: Path, *words: Any) -> dict[str, Any]:
    finished = run_command("reconcile", *words, "--json", cwd=here)
    assert finished.code == 0, finished.stderr
    told: dict[str, Any] = json.loads(finished.stdout)
    return told


@pytest.mark.parametrize(("form", "kind"), [(newapi, "new-api"), (litellm, "LiteLLM")])
def test_a_log_that_says_the_same_differs_in_nothing(night: Any, tmp_path: Path, form: Any, kind: str):
    here, gateway = night
    told = reconciled(here, form(gateway, tmp_path / "log"))
    assert (told["log"], told["matched"], told["theirs"]) == (kind, 20, told["ours"])
    assert told["difference"] == {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost": "0.00"}
    assert told["only_theirs"]["ids"] == told["only_ours"]["ids"] == told["differing"]["first"] == []


def test_what_only_one_side_has_and_what_differs_is_listed(night: Any, tmp_path: Path):
    here, gateway = night
    log = Gateway(log=[dict(one) for one in gateway.log[2:]])
    log.log[0]["in"] += 100
    log.log.append({"request": "req-unheard-of", "reply": "c", "in": 7, "cost": 0.001})
    told = reconciled(here, newapi(log, tmp_path / "log.json"))
    assert told["matched"] == 18
    assert sorted(told["only_ours"]["ids"]) == ["req-1", "req-2"]
    assert told["only_theirs"] == {
        "requests": 1,
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "cost": "0.001",
        "ids": ["req-unheard-of"],
    }
    ours = gateway.log[2]["in"] + 5
    assert told["differing"] == {
        "requests": 1,
        "first": [{"request_id": "req-3", "their_tokens": ours + 100, "our_tokens": ours}],
    }


def test_any_log_is_read_whose_columns_are_named(night: Any, tmp_path: Path):
    here, gateway = night
    path = tmp_path / "bill.csv"
    lines = [
        "rid;".replace(";", ",") + "usd,tin,tout",
        *(f"{o['request']},{o['cost']:.12f},{o['in']},5" for o in gateway.log),
    ]
    path.write_text("\n".join(lines), "utf-8")
    columns = "request_id=rid,cost=usd,prompt_tokens=tin,completion_tokens=tout"
    assert reconciled(here, path, "--columns", columns)["difference"]["cost"] == "0.00"


def test_a_log_of_an_hour_is_not_held_against_what_was_asked_on_other_days(night: Any, tmp_path: Path):
    here, _ = night
    path = tmp_path / "old.csv"
    path.write_text(
        "request_id,spend,prompt_tokens,completion_tokens,startTime\nx,0.1,1,1,2020-01-01T00:00:00Z\n"
    )
    told = reconciled(here, path)
    assert (told["ours"]["requests"], told["only_theirs"]["ids"]) == (0, ["x"])


def test_a_person_reads_the_difference_first(night: Any, tmp_path: Path):
    here, gateway = night
    shown = run_command("reconcile", litellm(gateway, tmp_path / "log.csv"), cwd=here)
    assert shown.code == 0
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert any(line.startswith("they billed 20 410 100 0.0002525") for line in lines), shown.stdout
    assert "difference 0 0 0 0.00" in lines
    assert "20 requests are in both; 0 of them with other tokens" in lines


@pytest.mark.parametrize(
    ("text", "words", "sentence"),
    [
        (
            "a,b\n1,2\n",
            [],
            "which column is the request id? say --columns request_id=NAME,cost=NAME; it has a, b",
        ),
        ("", [], "holds no rows"),
        ("a\n1\n", ["--columns", "cost=b"], "has no column 'b' for cost; it has a"),
        ("a\n1\n", ["--columns", "price=b"], "--columns 'price=b': NAME=COLUMN, with a name of request_id, "),
        ('{"a": 1}\n{"a":\n', [], "line 2: is not JSON"),
        ("request_id,cost\nx,much\n", [], "row 1: "),
    ],
)
def test_slips_are_told(night: Any, tmp_path: Path, text: str, words: list[str], sentence: str):
    here, _ = night
    path = tmp_path / "log"
    path.write_text(text, "utf-8")
    finished: Finished = run_command("reconcile", path, *words, cwd=here)
    assert (finished.code, finished.stdout) == (2, "")
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_missing_log_is_a_sentence(night: Any):
    here, _ = night
    finished = run_command("reconcile", "nowhere.csv", cwd=here)
    assert (finished.code, finished.stderr) == (
        2,
        "error: nowhere.csv: cannot be read (No such file or directory)\n",
    )
