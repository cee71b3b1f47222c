"""When an endpoint is down, and when it is only a few odd items."""

from __future__ import annotations

from math import inf

from pipeline.gate.breaker import FEWEST, MOST, Breaker


def fail(breaker: Breaker, times: int, now_s: float = 0.0, *, slots: int = 1, is_first: bool = True) -> None:
    for _ in range(times):
        breaker.failed(now_s, is_probe=False, is_first=is_first, slots=slots)


def working() -> Breaker:
    """Somebody answered once."""
    breaker = Breaker()
    breaker.answered(0.0, is_probe=False)
    return breaker


def out(now_s: float = 0.0) -> Breaker:
    breaker = working()
    fail(breaker, FEWEST, now_s)
    assert breaker.is_open
    return breaker


def test_it_opens_after_as_many_first_tries_in_a_row_as_there_are_slots():
    breaker = working()
    fail(breaker, 11, slots=12)
    assert not breaker.is_open
    fail(breaker, 1, slots=12)
    assert breaker.is_open


def test_with_few_slots_it_takes_a_few_and_with_many_not_all():
    few, many = working(), working()
    fail(few, FEWEST, slots=1)
    fail(many, MOST, slots=1_000)
    assert few.is_open
    assert many.is_open


def test_an_answer_in_between_begins_the_count_anew():
    breaker = working()
    fail(breaker, FEWEST - 1)
    breaker.answered(1.0, is_probe=False)
    fail(breaker, FEWEST - 1)
    assert not breaker.is_open


def test_further_tries_of_odd_items_prove_nothing():
    breaker = working()
    fail(breaker, 1_000, is_first=False)
    assert not breaker.is_open


def test_before_anybody_ever_answered_it_takes_more():
    breaker = Breaker()
    fail(breaker, MOST - 1)
    assert not breaker.is_open
    fail(breaker, 1)
    assert breaker.is_open


def test_while_it_is_open_single_probes_go_ever_more_seldom():
    breaker, now_s, waits = out(), 0.0, []
    while now_s < 600:
        wait_s = breaker.delay_s(now_s)
        waits.append(round(wait_s, 6))
        now_s += wait_s
        assert breaker.admitted(), "it is a probe"
        assert breaker.delay_s(now_s) == inf, "one at a time"
        breaker.failed(now_s, is_probe=True, is_first=False, slots=1)
    assert waits == sorted(waits)
    assert waits[0] == 1.0
    assert waits[-1] == 15.0
    assert len([wait_s for wait_s in waits if wait_s <= 3.0]) >= 30, "an outage of a minute is soon over"


def test_any_answer_to_a_probe_closes_it():
    breaker = out(now_s=10.0)
    assert breaker.admitted()
    breaker.answered(25.0, is_probe=True)
    assert not breaker.is_open
    assert breaker.delay_s(25.0) == 0.0
    assert breaker.total_s(100.0) == 15.0


def test_answers_to_what_went_before_it_opened_prove_nothing():
    breaker = out()
    breaker.answered(1.0, is_probe=False)
    assert breaker.is_open


def test_a_probe_that_nobody_waits_for_any_more_makes_room_for_the_next():
    breaker = out()
    assert breaker.admitted()
    breaker.given_up()
    assert breaker.delay_s(100.0) <= 0.0


def test_while_another_process_probes_this_one_waits_whoever_found_out_first():
    found_out, told = out(now_s=0.0), working()
    for breaker in (found_out, told):
        breaker.opened_elsewhere(5.0)
        assert breaker.delay_s(600.0) == inf
        breaker.answered(10.0, is_probe=True)
        assert breaker.delay_s(10.0) == 0.0
    assert (found_out.total_s(20.0), told.total_s(20.0)) == (10.0, 5.0)


def test_a_probe_of_its_own_that_fails_meanwhile_is_its_last():
    breaker = out()
    assert breaker.admitted()
    breaker.opened_elsewhere(5.0)
    breaker.failed(6.0, is_probe=True, is_first=False, slots=1)
    assert breaker.delay_s(600.0) == inf


def test_it_knows_how_long_this_outage_has_lasted_and_all_of_them():
    breaker = out(now_s=0.0)
    assert breaker.open_for_s(30.0) == 30.0
    assert breaker.admitted()
    breaker.answered(30.0, is_probe=True)
    assert breaker.open_for_s(50.0) == 0.0
    fail(breaker, FEWEST, 100.0)
    assert (breaker.open_for_s(110.0), breaker.total_s(110.0)) == (10.0, 40.0)
