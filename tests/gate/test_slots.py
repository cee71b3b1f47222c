"""Slots find their level: against servers whose latency depends on how much is under way."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

import pytest

from pipeline.gate.slots import FIRST_SLOTS, MOST_SLOTS, Slots

BASE_S = 0.5


class Night:
    """A server on one side, as many attempts as there are slots on the other; events in virtual time.

    ``latency_s`` of how many are under way; ``refuses`` more than so many at once; ``fails`` of how many are
    under way: the share that meets overload.
    """

    def __init__(
        self,
        slots: Slots,
        latency_s: Callable[[int], float],
        *,
        refuses_above: int | None = None,
        fails: Callable[[int], float] = lambda in_use: 0.0,
    ) -> None:
        self.slots, self._latency_s, self._refuses_above, self._fails = slots, latency_s, refuses_above, fails
        self.now_s, self.answered, self.refused = 0.0, 0, 0
        self._under_way: list[tuple[float, int, float, str]] = []
        self._number = 0
        self._chance = Random(5)
        self._event_s = -1.0

    def pass_s(self, seconds: float) -> float:
        """Answers a second meanwhile."""
        ends_s, before = self.now_s + seconds, self.answered
        self._fill()
        while self._under_way and self._under_way[0][0] <= ends_s:
            self.now_s, _, sent_s, fate = heapq.heappop(self._under_way)
            in_use = len(self._under_way)
            if fate == "refused":
                self.refused += 1
                if sent_s >= self._event_s:
                    self._event_s = self.now_s
                    self.slots.refused(self.now_s, "edge", in_use=in_use)
            elif fate == "overloaded":
                self.slots.troubled(sent_s, self.now_s)
            else:
                self.answered += 1
                self.slots.answered(sent_s, self.now_s, in_use=in_use)
            self._fill()
        self.now_s = ends_s
        return (self.answered - before) / seconds

    def _fill(self) -> None:
        while len(self._under_way) < self.slots.limit:
            in_use = len(self._under_way) + 1
            if self._refuses_above is not None and in_use > self._refuses_above:
                takes_s, fate = 0.02, "refused"
            elif self._chance.random() < self._fails(in_use):
                takes_s, fate = 0.1, "overloaded"
            else:
                takes_s, fate = self._latency_s(in_use) * self._chance.uniform(0.8, 1.2), "answered"
            self._number += 1
            heapq.heappush(self._under_way, (self.now_s + takes_s, self._number, self.now_s, fate))


def steady(in_use: int) -> float:
    return BASE_S


def degrading(in_use: int) -> float:
    """Beyond 200 at once answers take longer than that many more would make up for."""
    return BASE_S * max(1.0, in_use / 200) ** 1.5


def queueing(in_use: int) -> float:
    """It works on 100 at a time; the others wait."""
    return BASE_S * max(1.0, in_use / 100)


def test_where_answers_take_as_long_however_many_there_are_they_grow_to_the_most():
    slots = Slots()
    Night(slots, steady).pass_s(60)
    assert slots.limit >= 0.9 * MOST_SLOTS


def test_where_more_makes_everything_slower_they_settle_where_most_is_answered():
    night = Night(Slots(), degrading)
    night.pass_s(60)
    assert night.pass_s(60) >= 0.95 * 200 / BASE_S


def test_an_endpoint_that_only_queues_is_not_driven_further():
    slots = Slots()
    night = Night(slots, queueing)
    night.pass_s(60)
    assert night.pass_s(30) >= 0.95 * 100 / BASE_S
    assert slots.level <= 200


def test_where_more_are_refused_they_stay_just_below_and_seldom_try():
    night = Night(Slots(), steady, refuses_above=50)
    night.pass_s(60)
    refused = night.refused
    assert night.pass_s(60) >= 0.95 * 50 / BASE_S
    assert night.refused - refused <= 0.02 * 60 * 50 / BASE_S


def test_they_follow_when_an_endpoint_takes_more_than_before():
    slots = Slots()
    night = Night(slots, steady, refuses_above=20)
    night.pass_s(60)
    assert slots.limit <= 20
    night._refuses_above = 200
    night.pass_s(300)
    assert slots.limit >= 100


def test_overload_that_comes_with_more_takes_slots_away():
    slots = Slots()
    night = Night(slots, steady, fails=lambda in_use: 0.5 if in_use > 60 else 0.0)
    night.pass_s(120)
    assert slots.level <= 100


def test_a_few_failures_at_random_take_nothing_away():
    slots = Slots()
    Night(slots, steady, fails=lambda in_use: 0.03).pass_s(60)
    assert slots.limit >= 0.5 * MOST_SLOTS


def test_one_round_trip_makes_one_decrease():
    """All that fails was sent before the first decrease."""
    slots = Slots(first=100)
    for _ in range(100):
        slots.troubled(0.0, 1.0)
    assert slots.limit >= 75


def test_they_begin_small_or_where_an_earlier_run_found_them():
    assert Slots().limit == FIRST_SLOTS
    assert Slots(first=400).limit == 400
    assert Slots(first=10 * MOST_SLOTS).limit == MOST_SLOTS


def test_from_a_remembered_level_they_go_in_small_steps():
    slots = Slots(first=100)
    night = Night(slots, steady, refuses_above=110)
    most = 0
    for _ in range(200):
        night.pass_s(0.5)
        most = max(most, slots.limit)
    assert most <= 125


def test_a_number_is_what_it_is_where_nothing_is_refused():
    slots = Slots(64)
    Night(slots, degrading, fails=lambda in_use: 0.2).pass_s(60)
    assert slots.limit == 64


def test_a_number_gives_way_where_it_is_too_large_and_never_grows_beyond():
    slots = Slots(80)
    night = Night(slots, steady, refuses_above=50)
    night.pass_s(30)
    assert night.pass_s(60) >= 0.95 * 50 / BASE_S
    night._refuses_above = None
    night.pass_s(200)
    assert slots.limit == 80


def test_where_something_else_is_the_limit_slots_do_not_grow():
    """Half of them are in use, whatever there are."""
    slots = Slots()
    for second in range(300):
        slots.answered(float(second), second + 0.5, in_use=slots.limit // 2)
    assert slots.limit == FIRST_SLOTS


def test_an_outage_tells_nothing_about_slots():
    slots = Slots(first=100)
    for _ in range(100):
        slots.troubled(5.0, 6.0)
    assert slots.limit < 100
    slots.as_before(since_s=5.5, now_s=7.0)
    assert slots.limit == 100


@pytest.mark.parametrize("verdict", ["edge", "overrun"])
def test_there_is_always_one_slot(verdict):
    slots = Slots()
    for second in range(100):
        slots.refused(float(second), verdict, in_use=0)
    assert slots.limit == 1


def test_what_is_worse_than_it_seemed_falls_further():
    slots = Slots(first=100)
    slots.refused(1.0, "edge", in_use=99)
    nudged = slots.limit
    slots.refused(1.0, "worse", in_use=99)
    assert 75 <= slots.limit < nudged < 100
