"""A slice of what `make simulate` plays: whole nights on virtual time, every promise checked after each."""

from __future__ import annotations

import random

import pytest

from tests.simulation.broken import Broken
from tests.simulation.nights import Sound, play
from tests.simulation.scenarios import make_scenario
from tests.simulation.simulating import simulate
from tests.simulation.trace import digest, trace

SEEDS = 300


@pytest.mark.slow
def test_300_nights_keep_every_promise():
    failures = list(simulate(0, SEEDS, jobs=2))
    assert not failures, "\n\n".join(str(failure) for failure in failures)


def test_a_wait_shorter_than_the_clock_can_tell_is_over_some_time():
    """Once, the gate waited for a millionth of a millionth of a second, again and again."""
    assert play(7983).seed == 7983


@pytest.mark.parametrize("seed", [3955, 4802])
def test_an_answer_that_a_full_disk_refused_is_recorded_when_the_disk_is_mended_at_the_end(seed):
    """Once, such an answer was settled as lost, and its row stood nowhere. ``play`` checks every promise."""
    assert play(seed).seed == seed


def test_a_night_has_at_least_200_items():
    assert min(len(make_scenario(random.Random(seed)).rows) for seed in range(50)) >= 200


def test_the_same_seed_plays_the_same_night():
    assert digest(play(17)) == digest(play(17))


def test_another_seed_plays_another_night():
    assert digest(play(17)) != digest(play(18))


def test_a_broken_promise_is_told_with_its_night():
    class Unwilling(Sound):
        def plant(self, run):
            raise Broken("none", "for the sake of it")

    with pytest.raises(Broken) as caught:
        play(17, Unwilling())
    assert "seed 17: " in trace(caught.value.evidence)
    assert "session 1 of run-" in trace(caught.value.evidence)
