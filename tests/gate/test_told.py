"""What ``x-ratelimit-*`` headers say, in the spellings that are sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gate.told import Told, told_limits

NOW = 1_750_000_000.0


def told(**headers: str) -> list[Told]:
    named = {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in headers.items()}
    return told_limits(named, lambda: NOW)


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("6m0s", 360.0),
        ("1.5s", 1.5),
        ("17ms", 0.017),
        ("1h", 3600.0),
        ("1d2h", 93_600.0),
        ("2m59.56s", 179.56),
        ("30", 30.0),
        ("0.25", 0.25),
        ("30\x1f", 30.0),
        (f"{NOW + 12:.0f}", 12.0),
        (f"{(NOW + 7) * 1000:.0f}", 7.0),
        (f"{NOW - 5:.0f}", 0.0),
    ],
)
def test_a_reset_is_read_in_every_spelling(reset: str, seconds: float):
    (one,) = told(limit_requests="100", remaining_requests="7", reset_requests=reset)
    assert one == ("requests", 100.0, 7.0, pytest.approx(seconds))


def test_requests_and_tokens_are_two_limits():
    found = told(
        limit_requests="100",
        remaining_requests="99",
        reset_requests="1s",
        limit_tokens="40000",
        remaining_tokens="39000",
        reset_tokens="90ms",
    )
    assert [(one.unit, one.remaining) for one in found] == [("requests", 99.0), ("tokens", 39_000.0)]


def test_the_plain_spelling_means_requests():
    assert told(limit="20", remaining="3", reset="10") == [("requests", 20.0, 3.0, 10.0)]


def test_the_named_spelling_goes_before_the_plain_one():
    found = told(remaining="3", reset="10", remaining_requests="5", reset_requests="1s")
    assert found == [("requests", None, 5.0, 1.0)]


@pytest.mark.parametrize("reset", ["", " ", "soon", "-1", "1x", "s", "nan", "1e9", "5 s 3", "٣s"])
def test_a_reset_that_cannot_be_read_is_left_out(reset: str):
    assert told(remaining_requests="1", reset_requests=reset) == []


@pytest.mark.parametrize("remaining", ["", "many", "-3", "inf", "0x10"])
def test_what_remains_must_be_a_number(remaining: str):
    assert told(remaining_requests=remaining, reset_requests="1s") == []


@given(
    st.dictionaries(
        st.sampled_from(
            [
                f"x-ratelimit-{a}{b}"
                for a in ("limit", "remaining", "reset")
                for b in ("", "-requests", "-tokens")
            ]
        ),
        st.text(max_size=12),
    )
)
def test_any_headers_give_numbers_that_make_sense_or_nothing(headers: dict[str, str]):
    for one in told_limits(headers, lambda: NOW):
        assert one.remaining >= 0
        assert one.reset_s >= 0
