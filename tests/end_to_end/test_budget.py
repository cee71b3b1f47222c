"""A budget over real HTTP: the cap holds with hundreds under way, and the rest waits for a new one."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.nights import Store, run_command, write_manifest
from tests.serving.answers import Answer, completion
from tests.serving.server import Received, Server

IN, OUT = Decimal("0.25"), Decimal("1.50")
MODEL = "gemini-3.1-flash-lite-preview"


class Seller:
    """Answers take a moment and 1 to 200 tokens; keeps the bill."""

    def __init__(self) -> None:
        self.billed = Decimal(0)
        self._rng = random.Random(7)

    def __call__(self, received: Received) -> Answer:
        tokens_in, tokens_out = self._rng.randint(20, 40), self._rng.randint(1, 200)
        self.billed += (tokens_in * IN + tokens_out * OUT) / 10**6
        usage = {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }
        return completion("so it is", usage=usage, model=MODEL)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "m.csv", [f"tell me of {number}" for number in range(1, 3001)])


def ran(manifest: Path, *words: Any) -> tuple[int, dict[str, Any], str]:
    finished = run_command(*words, "--json", "--concurrency", "500", cwd=manifest.parent)
    return finished.code, json.loads(finished.stdout or "{}"), finished.stderr


def test_a_budget_is_never_passed_with_500_at_a_time_nearly_spent_and_resumed_with_a_new_one(
    manifest: Path, tmp_path: Path
):
    seller = Seller()
    with Server(seller) as server:
        order = ("run", manifest, "--base-url", server.base_url, "--max-tokens", "200", "--run-id", "night")
        code, told, _ = ran(manifest, *order, "--budget", "0.10")
        assert (code, told["state"], told["exit_code"]) == (4, "budget", 4)
        assert Decimal("0.095") <= seller.billed <= Decimal("0.10")
        assert Decimal(told["cost"]["USD"]) == seller.billed
        assert told["ok"] + told["not_attempted"] == 3000
        asked = len(server.received)

        code, told, _ = ran(manifest, "resume", "night")
        assert (code, len(server.received)) == (4, asked), "its budget is spent, and nothing more is asked"

        code, told, _ = ran(manifest, "resume", "night", "--budget", "0.15")
        assert (code, told["state"]) == (4, "budget")
        assert Decimal("0.1425") <= seller.billed <= Decimal("0.15"), "the new total, not 0.15 more"

        code, told, _ = ran(manifest, "resume", "night", "--budget", "50")
        assert (code, told["state"], told["ok"], told["not_attempted"]) == (0, "done", 3000, 0)
        assert len(server.received) == 3000, "nothing was asked twice"
    assert Store(tmp_path / "out").results["cost"].sum() == seller.billed


def test_a_days_budget_counts_what_other_runs_of_the_day_have_spent(manifest: Path):
    seller = Seller()
    with Server(seller) as server:
        order = ("run", manifest, "--base-url", server.base_url, "--max-tokens", "200")
        code, told, _ = ran(manifest, *order, "--budget", "0.04", "--job", "one")
        assert code == 4
        code, told, _ = ran(manifest, *order, "--budget-per-day", "0.10", "--job", "two")
        assert (code, told["state"]) == (4, "budget")
        assert Decimal("0.095") <= seller.billed <= Decimal("0.10")
        assert Decimal(told["cost"]["USD"]) < Decimal("0.07"), "the first had spent the rest"


def test_a_person_reads_what_was_spent_what_is_left_and_what_to_type(manifest: Path):
    with Server(Seller()) as server:
        finished = run_command(
            *("run", manifest, "--base-url", server.base_url, "--max-tokens", "200"),
            *("--budget", "0.01", "--run-id", "night"),
            cwd=manifest.parent,
        )
    assert finished.code == 4
    assert finished.stdout.startswith("budget reached (0.01 for the run): USD 0.00")
    assert "rows left: " in finished.stdout
    assert "next: mediabatch resume night --budget NEW_TOTAL" in finished.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--budget", "5", "--model", "nobody-sells-this"], "a budget cannot be held: no price is known for"),
        (["--budget", "0"], "--budget '0': an amount such as 5.00"),
        (["--budget-per-day", "five"], "--budget-per-day 'five': an amount such as 5.00"),
    ],
)
def test_a_budget_that_cannot_be_held_is_refused_before_anything_is_sent(
    manifest: Path, words: list[str], sentence: str
):
    with Server(Seller()) as server:
        finished = run_command("run", manifest, "--base-url", server.base_url, *words, cwd=manifest.parent)
        assert (finished.code, finished.stdout) == (2, "")
        assert finished.stderr.startswith(f"error: {sentence}")
        assert server.received == []
    assert not (manifest.parent / "out").exists()


def test_a_row_whose_own_model_has_no_price_fails_and_the_others_go(tmp_path: Path):
    rows = [{"id": "a", "prompt": "x", "model": "nobody-sells-this"}, {"id": "b", "prompt": "y", "model": ""}]
    manifest = write_manifest(tmp_path / "m.csv", rows)
    with Server(Seller()) as server:
        code, told, _ = ran(manifest, "run", manifest, "--base-url", server.base_url, "--budget", "1")
    assert (code, told["ok"], told["errors"]) == (5, 1, {"Unpriced": 1})
