"""How fast and how patiently an endpoint is asked, as a person says it."""

from __future__ import annotations

import click
import pytest

from jobs.endpoint import Seconds, Slots
from jobs.options import Fault


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5", 1.5),
        ("15m", 900),
        ("2h", 7200),
        ("0.5h", 1800),
        ("0", 0),
        (" 7m ", 420),
    ],
)
def test_a_span_of_time_is_seconds_or_has_a_unit(text: str, seconds: float):
    assert Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize("wrong", ["", "soon", "-5", "-1h", "inf", "nan", "1d", "m", "5 5", "1e999", "s"])
def test_what_is_no_span_of_time_is_a_mistake(wrong: str):
    with pytest.raises(Fault) as caught:
        Seconds().convert(wrong, click.Option(["--max-outage"]), None)
    assert str(caught.value) == f"--max-outage {wrong!r}: a time such as 90, 90s, 15m or 2h"


@pytest.mark.parametrize(("text", "slots"), [("auto", "auto"), ("1", 1), ("10000", 10_000)])
def test_slots_are_a_number_or_auto(text: str, slots: object):
    assert Slots().convert(text, None, None) == slots


@pytest.mark.parametrize("wrong", ["0", "-1", "10001", "many", "", "1.5", "AUTO"])
def test_what_is_no_number_of_slots_is_a_mistake(wrong: str):
    with pytest.raises(Fault) as caught:
        Slots().convert(wrong, None, None)
    assert str(caught.value) == f"--concurrency {wrong!r}: a number from 1 to 10000, or auto"
