"""Requests and tokens a minute: told, read from headers, learned from 429s."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gate.rates import Allowance, Pace, PerMinute, Refusals


def admitted(limit: int, amounts: list[float], gaps_s: list[float]) -> list[tuple[float, float]]:
    """(when, how much): each comes some time after the last went, and goes as soon as it may."""
    bucket, now_s, went = PerMinute(limit), 0.0, []
    for amount, gap_s in zip(amounts, gaps_s, strict=True):
        now_s += gap_s
        while (delay_s := bucket.delay_s(amount, now_s)) > 0:
            now_s += delay_s
        bucket.take(amount, now_s)
        went.append((now_s, amount))
    return went


def most_in_a_minute(went: list[tuple[float, float]]) -> float:
    return max(
        sum(amount for at_s, amount in went if begins_s <= at_s < begins_s + 60) for begins_s, _ in went
    )


@given(st.integers(1, 500), st.lists(st.floats(0, 90), min_size=1, max_size=200))
def test_no_minute_ever_holds_more_requests_than_the_limit(limit: int, gaps_s: list[float]):
    assert most_in_a_minute(admitted(limit, [1.0] * len(gaps_s), gaps_s)) <= limit + 1e-6


@given(
    st.integers(1_000, 100_000),
    st.lists(st.tuples(st.floats(1, 1_000), st.floats(0, 30)), min_size=1, max_size=150),
)
def test_no_minute_ever_holds_more_tokens_than_the_limit(limit: int, asked: list[tuple[float, float]]):
    went = admitted(limit, [amount for amount, _ in asked], [gap_s for _, gap_s in asked])
    assert most_in_a_minute(went) <= limit + 1e-6


@pytest.mark.parametrize(("limit", "least"), [(6_000, 0.97), (600, 0.97), (60, 0.97), (7, 0.97), (1, 0.97)])
def test_a_limit_that_is_always_wanted_is_used(limit: int, least: float):
    """Ten minutes of it, and nobody ever lacks work."""
    went = admitted(limit, [1.0] * limit * 11, [0.0] * limit * 11)
    used = sum(1 for at_s, _ in went if 60 <= at_s < 660)
    assert used >= least * 10 * limit


def test_tokens_that_were_guessed_wrong_are_settled_by_what_was_used():
    """Guessed at 100, they take 400 each: over ten minutes that comes to the limit all the same."""
    bucket, now_s, used = PerMinute(60_000), 0.0, 0.0
    while now_s < 600:
        delay_s = bucket.delay_s(100, now_s)
        if delay_s > 0:
            now_s += delay_s
            continue
        bucket.take(100, now_s)
        bucket.settle(100, 400, now_s)
        used += 400
    assert 0.97 * 600_000 <= used <= 600_000 * 1.01


def test_what_was_set_aside_too_much_is_given_back():
    bucket = PerMinute(6_000)
    bucket.take(60, 0.0)
    assert bucket.delay_s(60, 0.0) > 0
    bucket.settle(60, 0.0, 0.0)
    assert bucket.delay_s(60, 0.0) == 0.0


def test_more_than_goes_at_once_waits_until_nothing_is_owed():
    bucket = PerMinute(6_000)
    bucket.take(3_000, 0.0)
    assert bucket.delay_s(3_000, 0.0) > 20


class Limited:
    """A server's limit: a window that begins anew, or a bucket that is refilled."""

    def __init__(self, limit: float, *, is_window: bool) -> None:
        self.limit, self.is_window = limit, is_window
        self.left, self.at_s, self.refused, self.accepted = limit, 0.0, 0, 0

    def ask(self, now_s: float) -> tuple[float, float]:
        """(remaining, seconds to the reset), after one request."""
        if self.is_window:
            if int(now_s // 60) != int(self.at_s // 60):
                self.left = self.limit
            reset_s = 60 - now_s % 60
        else:
            self.left = min(self.limit, self.left + (now_s - self.at_s) * self.limit / 60)
            reset_s = (self.limit - self.left) * 60 / self.limit
        self.at_s = now_s
        if self.left < 1:
            self.refused += 1
        else:
            self.left -= 1
            self.accepted += 1
        return max(0.0, self.left // 1), reset_s


@pytest.mark.parametrize("is_window", [True, False])
@pytest.mark.parametrize("limit", [60, 600])
def test_what_headers_say_is_left_is_spread_over_the_time_to_the_reset(limit: int, is_window: bool):
    """Ten minutes against both kinds of limit: most of it is used, and next to nothing refused."""
    server, allowance, now_s = Limited(limit, is_window=is_window), Allowance(), 0.0
    while now_s < 600:
        delay_s = allowance.delay_s(1.0, now_s)
        if delay_s > 0:
            now_s += delay_s
            continue
        allowance.take(1.0, now_s)
        remaining, reset_s = server.ask(now_s)
        allowance.told(limit, remaining, reset_s, now_s)
        now_s += 0.001
    assert server.accepted >= 0.9 * limit * 10
    assert server.refused <= 0.05 * server.accepted


def test_plenty_left_slows_nobody_down():
    allowance = Allowance()
    allowance.told(100, 80, 60, 0.0)
    allowance.take(1.0, 0.0)
    assert allowance.delay_s(1.0, 0.0) == 0.0


def test_nobody_waits_past_the_reset():
    allowance = Allowance()
    allowance.told(100, 0, 5, 0.0)
    allowance.take(1.0, 0.0)
    assert 0 < allowance.delay_s(1.0, 0.0) <= 5
    assert allowance.delay_s(1.0, 5.0) == 0.0


def test_the_first_429_overran_a_limit_and_what_was_sent_before_it_is_no_news():
    refusals = Refusals()
    refusals.accepted()
    assert refusals.refused(0.0, 1.0) == "overrun"
    assert [refusals.refused(sent_s, 1.1) for sent_s in (0.1, 0.5, 0.9)] == [None] * 3
    assert refusals.refused(1.2, 2.0) == "overrun"


def test_one_429_after_many_that_went_well_is_at_the_edge_unless_more_follow():
    refusals = Refusals()
    for _ in range(200):
        refusals.accepted()
    assert refusals.refused(0.0, 1.0) == "edge"
    assert [refusals.refused(0.5, 1.0) for _ in range(4)] == [None] * 4
    assert refusals.refused(0.6, 1.0) == "worse"
    assert refusals.refused(0.7, 1.0) is None


def run(pace: Pace, allowed_per_s: float, seconds: float, *, hold_s: float = 0.0) -> tuple[int, int]:
    """(accepted, refused) of a server that allows so much, with a burst of one second."""
    now_s, level, at_s, accepted, refused = 0.0, allowed_per_s, 0.0, 0, 0
    held_s = 0.0
    while now_s < seconds:
        wait_s = max(pace.delay_s(now_s), held_s - now_s)
        if wait_s > 0:
            now_s += wait_s
            continue
        pace.take(now_s)
        level, at_s = min(allowed_per_s, level + (now_s - at_s) * allowed_per_s), now_s
        if level >= 1:
            level -= 1
            accepted += 1
            pace.accepted(now_s)
        else:
            refused += 1
            held_s = now_s + hold_s
            pace.refused(hold_s, 0.05, now_s)
        now_s += 0.002  # it could send 500 a second
    return accepted, refused


@pytest.mark.parametrize("hold_s", [0.05, 1.0])
@pytest.mark.parametrize("allowed_per_s", [5.0, 100.0])
def test_the_pace_comes_close_to_what_is_allowed(allowed_per_s: float, hold_s: float):
    """Five minutes, told nothing; with holds of a round trip, or of a second."""
    accepted, refused = run(Pace(), allowed_per_s, 300, hold_s=hold_s)
    assert accepted >= 0.9 * allowed_per_s * 300
    assert refused <= 0.05 * accepted


def test_there_is_no_pace_before_the_first_429():
    pace = Pace()
    for tenth in range(100):
        pace.take(tenth / 10)
        pace.accepted(tenth / 10)
    assert pace.per_s is None
    assert pace.delay_s(10.0) == 0.0


def test_a_pace_grows_back_when_the_limit_is_gone():
    pace = Pace()
    run(pace, 10.0, 60, hold_s=0.05)
    assert pace.per_s is not None
    assert pace.per_s < 12
    now_s = 60.0
    while now_s < 180:
        now_s += max(pace.delay_s(now_s), 0.0)
        pace.take(now_s)
        pace.accepted(now_s)
    assert pace.per_s > 50


def test_429s_at_random_do_not_ruin_the_pace():
    """One in ten, whatever is done: it never falls below a twentieth of the best."""
    pace, chance, now_s, best = Pace(), Random(7), 0.0, 0.0
    while now_s < 300:
        now_s += max(pace.delay_s(now_s), 0.001)
        pace.take(now_s)
        if chance.random() < 0.1:
            pace.refused(0.2, 0.2, now_s)
        else:
            pace.accepted(now_s)
        best = max(best, pace.per_s or 0.0)
    assert pace.per_s is not None
    assert pace.per_s >= 0.04 * best


def test_what_a_hold_kept_back_does_not_go_at_once_afterwards():
    pace = Pace()
    run(pace, 10.0, 30, hold_s=0.05)
    went = 0
    assert pace.per_s is not None
    while pace.delay_s(90.0) <= 0:  # a minute later, all in one moment
        pace.take(90.0)
        went += 1
    assert went <= 2 + 0.1 * pace.per_s, "what a late timer misses, and no more"
