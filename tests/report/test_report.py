"""What a report counts: latest outcomes, exact money by currency, and nothing that is unknown as zero."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.errors import BadInput, ConnectionLost, EmptyReply, Overloaded, StoreError
from pipeline.pricing import Rates, UnitPrice
from pipeline.report import Scope, by, outcomes_in, possibly_billed, spent
from tests.made import NOW, attempt, count, item, not_attempted, outcome, reply, write

LATER = NOW + timedelta(hours=3)  # 01:00 UTC on the next day
REFUSED = BadInput("no", http_status=400)
BLOCKED = EmptyReply("blocked", http_status=200, reply=reply(None))
YUAN = Rates("CNY", "flat", {("text", "input", "fresh"): UnitPrice.of(Decimal("1.00"))})
ONE_REPLY = Decimal("0.00034725")  # 9 x 0.25/M + 230 x 1.50/M


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """r1: a ok, b blocked twice (paid), c refused; r2: b ok, c broke off; r3 stopped before d."""
    write(
        tmp_path,
        outcome(item("a")),
        outcome(item("b", 2), attempt(1, BLOCKED.reply, BLOCKED), attempt(2, BLOCKED.reply, BLOCKED)),
        outcome(item("c", 3), attempt(error=REFUSED)),
    )
    write(
        tmp_path,
        outcome(item("b"), attempt(at=LATER)),
        outcome(item("c", 2), attempt(error=ConnectionLost("broke"), at=LATER)),
        run_id="r2",
        started_at=LATER,
    )
    write(tmp_path, not_attempted("c", 1), not_attempted("d", 2), run_id="r3", started_at=LATER)
    return tmp_path


def test_outcomes_are_the_latest_and_money_is_of_all_tries(store: Path):
    told = outcomes_in(Scope(store, "default"))
    assert (told.ok, told.not_answered, told.items) == (2, 1, 4)
    assert [(one.error_class, one.items, one.item_id, one.message) for one in told.failed] == [
        ("ConnectionLost", 1, "c", "broke")
    ]
    assert told.cost == {"USD": 2 * ONE_REPLY}
    (whole,) = spent(Scope(store, "default"), [])
    assert whole.cost == {"USD": 4 * ONE_REPLY}, "a, b, and the two blocked tries of b"


def test_one_runs_own_outcomes(store: Path):
    told = outcomes_in(Scope(store, "default", "r1"))
    assert told.ok == 1
    assert {one.error_class: one.items for one in told.failed} == {"BadInput": 1, "EmptyReply": 1}
    assert outcomes_in(Scope(store, "default", "r3")).not_answered == 2


def test_spending_is_cut_by_any_key(store: Path):
    scope = Scope(store, "default")
    assert {line.keys: line.tokens for line in spent(scope, ["direction", "modality"])} == {
        ("input", "text"): 4 * 9,
        ("output", "text"): 4 * 230,
    }
    lines = by(scope, ["run", "error_class"])
    assert [(line.keys, line.attempts, line.possibly_billed, line.cost) for line in lines] == [
        (("r1", None), 1, 0, {"USD": ONE_REPLY}),
        (("r1", "BadInput"), 1, 0, {}),
        (("r1", "EmptyReply"), 2, 0, {"USD": 2 * ONE_REPLY}),
        (("r2", None), 1, 0, {"USD": ONE_REPLY}),
        (("r2", "ConnectionLost"), 1, 1, {}),
    ]


@pytest.mark.parametrize(
    ("timezone", "days"),
    [("UTC", {"2026-03-05": 3, "2026-03-06": 1}), ("Asia/Shanghai", {"2026-03-06": 4})],
)
def test_the_timezone_decides_the_day(store: Path, timezone: str, days: dict[str, int]):
    lines = spent(Scope(store, "default", timezone=ZoneInfo(timezone)), ["day"])
    assert {line.keys[0]: line.tokens // 239 for line in lines} == days


def test_currencies_are_never_added_and_what_has_no_price_is_no_zero(tmp_path: Path):
    write(
        tmp_path,
        outcome(item("dollars")),
        outcome(item("yuan", 2), attempt(rates=YUAN)),
        outcome(item("unknown", 3), attempt(rates=None)),
    )
    (line,) = spent(Scope(tmp_path), ["model"])
    assert line.cost == {"USD": ONE_REPLY, "CNY": Decimal("0.000009")}
    assert (line.tokens, line.unpriced_tokens) == (3 * 239, 230 + 239), "230: yuan know no price for output"
    unpriced = [line for line in spent(Scope(tmp_path), ["modality", "direction"]) if not line.cost]
    assert unpriced == []


def test_sums_are_exact_to_the_last_digit(tmp_path: Path):
    """1,000 times 1 token at $0.000001 a million: $0.000000000001 each, which no float adds up."""
    tiny = Rates("USD", "flat", {("text", "input", "fresh"): UnitPrice.of(Decimal("0.000001"))})
    answered = reply("x", [count("text", "input", 1)])
    huge = Rates("USD", "flat", {("text", "input", "fresh"): UnitPrice.of(Decimal("99999.000001"))})
    many = [outcome(item(f"i{n}", n), attempt(1, answered, rates=tiny)) for n in range(1, 1001)]
    large = reply("x", [count("text", "input", 99_999_999)])
    write(tmp_path, *many, outcome(item("huge", 2000), attempt(1, large, rates=huge)))
    (whole,) = spent(Scope(tmp_path), [])
    assert whole.cost["USD"] == Decimal("0.000000001000") + 99_999_999 * Decimal("0.099999000001")


def test_what_may_have_been_billed_stands_apart(store: Path):
    (one,) = possibly_billed(Scope(store, "default"))
    assert (one.model, one.attempts, one.possible_cost, one.currency) == ("a-model", 1, None, "USD")


def test_rehearsals_are_left_out_and_never_added(store: Path):
    rehearsed = attempt(endpoint="embedded", at=LATER)
    write(store, outcome(item("c"), rehearsed), not_attempted("e", 2), run_id="r4", endpoint="embedded")
    real = Scope(store, "default")
    assert outcomes_in(real).ok == 2
    assert outcomes_in(real).not_answered == 1
    assert [facts["run_id"] for facts in real.runs()] == ["r1", "r2", "r3"]
    there = Scope(store, "default", rehearsals=True)
    assert (outcomes_in(there).ok, outcomes_in(there).not_answered) == (1, 1)
    assert spent(there, [])[0].cost == {"USD": ONE_REPLY}


def test_jobs_stand_apart_unless_all_are_asked_for(store: Path):
    write(store, outcome(item("a")), run_id="r9", job="other")
    assert outcomes_in(Scope(store, "other")).ok == 1
    assert outcomes_in(Scope(store, None)).ok == 3
    assert {line.keys[0]: line.cost["USD"] / ONE_REPLY for line in spent(Scope(store), ["job"])} == {
        "default": 4,
        "other": 1,
    }


def test_a_store_with_runs_and_nothing_else_is_reported_as_nothing(tmp_path: Path):
    write(tmp_path)
    assert outcomes_in(Scope(tmp_path)).items == 0
    assert (
        spent(Scope(tmp_path), ["day"])
        == by(Scope(tmp_path), ["day"])
        == possibly_billed(Scope(tmp_path))
        == []
    )
    with pytest.raises(StoreError, match="no store here"):
        outcomes_in(Scope(tmp_path / "nowhere"))


def test_an_error_that_was_retried_is_seen_by_class(tmp_path: Path):
    retried = outcome(item("a"), attempt(1, error=Overloaded("busy", http_status=503)), attempt(2))
    write(tmp_path, retried)
    lines = by(Scope(tmp_path), ["error_class"])
    assert [(line.keys, line.attempts) for line in lines] == [((None,), 1), (("Overloaded",), 1)]
