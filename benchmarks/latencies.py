"""Latencies that are drawn, and the best that any schedule could make of them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from itertools import islice

SHORTEST_S = 3.0
LONGEST_S = 30.0
SHAPE = 1.5
"""Of the bounded Pareto distribution: the mean is 6.4 s, and one in 20 takes longer than 16 s."""


def heavy_tail(seed: int) -> Iterator[float]:
    """Endless seconds, always the same for a seed."""
    dice = random.Random(seed)
    rarest = 1 - (SHORTEST_S / LONGEST_S) ** SHAPE
    while True:
        yield SHORTEST_S * (1 - dice.random() * rarest) ** (-1 / SHAPE)


def jittered(latency_s: float, share: float) -> Iterator[float]:
    """Endless seconds, evenly from so much less to so much more, always the same."""
    dice = random.Random(0)
    while True:
        yield latency_s * (1 + share * (2 * dice.random() - 1))


def best_schedule_s(latencies: Iterable[float], slots: int) -> float:
    """Seconds until the last answer, where a slot that falls free takes the next at once.

    That order is given, as a manifest's is: what could be gained by knowing the latencies beforehand counts
    for nobody.
    """
    latencies = iter(latencies)
    ends = list(islice(latencies, slots))
    heapq.heapify(ends)
    for latency_s in latencies:
        heapq.heapreplace(ends, ends[0] + latency_s)
    return max(ends)
