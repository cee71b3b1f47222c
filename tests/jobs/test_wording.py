"""Amounts read exactly: nothing rounded, nothing scientific."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.wording import amount, money, rounded


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        ("0.000960750000", "0.00096075"),
        ("0.000000000001", "0.000000000001"),
        ("0.000000250000", "0.00000025"),
        ("0E-12", "0.00"),
        ("0", "0.00"),
        ("12.5", "12.50"),
        ("12.500000000000", "12.50"),
        ("100", "100.00"),
        ("1E+3", "1000.00"),
        ("99999999999999.999999999999", "99999999999999.999999999999"),
    ],
)
def test_an_amount_is_exact_with_cents_at_least(cost: str, text: str):
    assert amount(Decimal(cost)) == text


@given(st.integers(0, 10**26))
def test_an_amount_loses_nothing(trillionths: int):
    cost = Decimal(f"{trillionths}E-12")
    assert Decimal(amount(cost)) == cost


def test_currencies_are_told_apart_and_never_added():
    assert money({"USD": Decimal("0.5"), "CNY": Decimal("3")}) == "CNY 3.00, USD 0.50"


def test_nothing_priced_is_not_zero():
    assert money({}) == "nothing priced"
    assert money({"USD": Decimal(0)}) == "USD 0.00"


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        ("1.23456", "1.2346"),
        ("0.00096", "0.001"),
        ("0.00001", "0.00001"),
        ("0.0000123", "0.000012"),
        ("0", "0"),
    ],
)
def test_a_rounded_cost_is_never_nothing(cost: str, told: str):
    """Zero is what was free."""
    assert rounded(Decimal(cost)) == Decimal(told)
