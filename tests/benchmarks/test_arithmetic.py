"""Schedules, rates and verdicts."""

from __future__ import annotations

from itertools import islice

import pytest

from benchmarks.latencies import LONGEST_S, SHORTEST_S, best_schedule_s, heavy_tail
from benchmarks.limits import Span, used_share
from benchmarks.timeline import (
    Timeline,
    back_to_speed_s,
    rate_between,
    rate_of_tenth,
    steady_rate,
    whole_rate,
)
from benchmarks.verdicts import Verdict

TEN_A_SECOND = [tenth / 10 for tenth in range(1_000)]


def test_the_best_schedule_gives_a_free_slot_the_next_at_once():
    """Two slots, 3, 1, 1, 1, 5: the second works off the ones until 3 s, the 5 ends at 8 s."""
    assert best_schedule_s([3.0, 1.0, 1.0, 1.0, 5.0], 2) == 8.0


def test_with_slots_for_all_the_best_schedule_is_the_longest_latency():
    assert best_schedule_s([3.0, 1.0, 2.0], 10) == 3.0


def test_the_heavy_tail_stays_in_its_bounds_and_is_the_same_for_a_seed():
    drawn = list(islice(heavy_tail(7), 10_000))
    assert drawn == list(islice(heavy_tail(7), 10_000))
    assert drawn != list(islice(heavy_tail(8), 10_000))
    assert min(drawn) >= SHORTEST_S
    assert max(drawn) <= LONGEST_S


def test_the_heavy_tail_has_the_mean_of_its_distribution():
    """a / (a - 1) x L^a / (1 - (L/H)^a) x (L^(1-a) - H^(1-a)) with a = 1.5, L = 3, H = 30: 6.35."""
    drawn = list(islice(heavy_tail(7), 100_000))
    assert sum(drawn) / len(drawn) == pytest.approx(6.35, rel=0.02)


def test_a_rate_counts_the_start_of_its_window_and_not_the_end():
    assert rate_between(TEN_A_SECOND, 10.0, 20.0) == 10.0


def test_a_steady_rate_leaves_out_the_slow_start_and_the_tail():
    """1 a second for 50 s, 10 a second for 100 s, then one a second for 20 s."""
    times = [float(second) for second in range(50)]
    times += [50 + tenth / 10 for tenth in range(1_000)]
    times += [150.0 + second for second in range(20)]
    assert steady_rate(times) == pytest.approx(10.0, rel=0.01)
    assert whole_rate(times) == pytest.approx(1_070 / 169)


def test_of_a_limit_the_burst_at_the_start_counts_for_nothing():
    """100 at second 0 and 10 a second after it, where 10 a second are allowed: all of it, no more."""
    times = Timeline(accepted=[0.0] * 100 + TEN_A_SECOND)
    assert used_share(times, 10.0, Span(seconds=60.0, skip_s=10.0)) == pytest.approx(1.0, abs=0.003)


def test_a_run_that_ends_early_is_measured_until_its_end():
    times = Timeline(accepted=[at_s for at_s in TEN_A_SECOND if at_s < 20])
    assert used_share(times, 10.0, Span(seconds=60.0, skip_s=10.0)) == pytest.approx(1.0, rel=0.02)


def test_429s_are_a_share_of_all_requests():
    assert Timeline(accepted=[1.0] * 95, throttled=[1.0] * 5).throttled_share == 0.05


def test_full_speed_is_back_when_a_window_holds_the_normal_rate():
    """Down from 20 s to 30 s, one a second until 33 s, then ten a second again."""
    times = [at_s for at_s in TEN_A_SECOND if at_s < 20 or at_s >= 33]
    times = sorted([*times, 30.5, 31.5, 32.5])
    assert back_to_speed_s(times, 30.0, 10.0) == pytest.approx(2.5, abs=0.51)


def test_full_speed_that_never_comes_back_is_a_missed_target():
    back_s = back_to_speed_s([at_s for at_s in TEN_A_SECOND if at_s < 20], 30.0, 10.0)
    assert back_s is None
    assert Verdict("back", back_s, "at most", 5.0, "s").line() == "back: never (target ≤ 5.00 s: missed)"


def test_a_verdict_says_figure_target_and_whether_it_is_met():
    assert Verdict("ideal time", 1.08, "at most", 1.10).line() == "ideal time: 1.080 (target ≤ 1.100: met)"
    assert Verdict("429s", 0.02, "at most", 0.01, "%").line() == "429s: 2.00% (target ≤ 1.00%: missed)"
    assert Verdict("of it", 0.97, "at least", 0.97).is_met


def test_a_tenth_of_a_run_is_a_tenth_of_its_answers():
    """Ten a second at first, and one a second for the last hundred of a thousand."""
    times = [100 + at_s for at_s in TEN_A_SECOND[:901]] + [191.0 + second for second in range(100)]
    assert rate_of_tenth(times, 1) == pytest.approx(10.0)
    assert rate_of_tenth(times, 10) == pytest.approx(1.0)
