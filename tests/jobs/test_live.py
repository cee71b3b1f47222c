"""A moment of a run fits any width, drops whole pieces, and says the same in a log."""

from __future__ import annotations

import io
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from jobs.moment import Moment, Trouble, to_ask
from jobs.pilot_view import PilotView
from pipeline.tally import Tally

HALF_PAST_ONE = datetime(2026, 3, 5, 1, 30)
LONG = "the endpoint refuses this request (400, INVALID_ARGUMENT); it says: 无法处理输入的图片 " * 3


def moment(**changes: Any) -> Moment:
    told: dict[str, Any] = {
        "elapsed_s": 60.0,
        "rows": 100_000,
        "ok": 12_300,
        "failed": 45,
        "skipped": 0,
        "not_attempted": 0,
        "per_s": 100.0,
        "held_by": "rpm",
        "ceiling": "6,000 requests a minute",
        "slots": 64,
        "in_use": 57,
        "asleep": 3,
        "held_for_s": 0.0,
        "limited_s": {"slots": 12.0, "rpm": 600.0, "tpm": 0.0, "hold": 0.0, "outage": 0.0, "budget": 0.0},
        "throttled": 17,
        "cost": {"USD": Decimal("1.234567890123")},
        "spent_on": {"image": {"USD": Decimal("1.1")}, "output": {"USD": Decimal("0.134567890123")}},
        "budget": Decimal("5.00"),
        "budget_per_day": None,
        "troubles": (Trouble("BadInput", 45, 130.0, LONG), Trouble("RowError", 2, None, "row 4: odd")),
    }
    return Moment(**{**told, **changes})


def drawn(shown: Moment, width: int) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(PilotView(shown, now=HALF_PAST_ONE))
    return console.export_text().splitlines()


def test_wide_enough_it_tells_everything():
    far, pace, spent, bad, odd = drawn(moment(), 140)
    assert far.startswith(
        "12,345 of 100,000 · 12,300 ok · 45 failed · 87,655 to go · 15 min left, until 01:44  ━━"
    )
    assert pace == (
        "100.0/s · held by 6,000 requests a minute · 57 of 64 slots, 3 asleep · 17 429s · "
        "so far slots 12 s, rpm 10 min"
    )
    assert spent == "USD 1.234567890123 of 5.00 · image 1.10 · output 0.1346"
    assert bad.startswith("BadInput 45, 2 min ago: the endpoint refuses")
    assert odd == "RowError 2: row 4: odd"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140, 200])
@pytest.mark.parametrize("budget_per_day", [None, Decimal("100")])
def test_no_line_is_wider_than_the_terminal(width: int, budget_per_day: Decimal | None):
    lines = drawn(moment(budget_per_day=budget_per_day, held_by="outage", held_for_s=12.0), width)
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= 6


def test_a_narrow_terminal_keeps_what_matters_most():
    far, pace, spent, *_ = drawn(moment(), 60)
    assert far == "12,345 of 100,000 · 12,300 ok · 45 failed · 87,655 to go"
    assert pace == "100.0/s · held by 6,000 requests a minute · 17 429s"
    assert spent == "USD 1.234567890123 of 5.00 · image 1.10 · output 0.1346"


def test_before_anything_has_ended_it_says_nothing_it_does_not_know():
    far, pace, spent = drawn(
        moment(
            ok=0, failed=0, per_s=0.0, held_by=None, ceiling="nothing here", cost={}, spent_on={}, troubles=()
        ),
        100,
    )
    assert "left" not in far
    assert "held by nothing here" in pace
    assert spent == "nothing spent yet of 5.00"


def test_a_log_says_the_same_in_a_line():
    assert moment().line() == (
        "12,345 of 100,000 rows: 12,300 ok, 45 failed; 100.0/s, held by 6,000 requests a minute, 17 429s; "
        "USD 1.234567890123 spent, 15 min left"
    )


def test_and_in_json():
    facts = moment().facts()
    assert facts["left"] == 87_655
    assert facts["eta_s"] == 877
    assert facts["held_by"] == "rpm"
    assert facts["cost"] == {"USD": "1.234567890123"}
    assert facts["spent_on"] == {"image": {"USD": "1.10"}, "output": {"USD": "0.134567890123"}}
    assert facts["errors"] == {"BadInput": 45, "RowError": 2}


def test_of_a_canary_the_rows_beyond_it_are_neither_to_go_nor_ended():
    """20 of 1,000 rows; 5 are answered, and 300 of the other 980 have been passed over."""
    tally = Tally(ok=5, not_attempted=300, rows_total=1000)
    assert to_ask(tally, 20) == (20, 0)
    assert to_ask(tally, None) == (1000, 300)
    assert to_ask(tally, 5000) == (1000, 300)
    stopped = Tally(ok=5, not_attempted=995, rows_total=1000)
    assert to_ask(stopped, 20) == (20, 15)
    assert to_ask(Tally(), 20) == (None, 0)
