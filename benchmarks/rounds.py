"""Contenders in interleaved rounds, and the medians of their ratios.

On a shared machine absolute figures wander; so every ratio is of two runs that followed each other, and
the median of these is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks.contenders import Contender, Load
from benchmarks.measuring import Asked, Broken, server_stats

Runs = dict[str, list[Asked]]


def in_turn(
    contenders: Mapping[str, Contender], load: Load, rounds: int, line: Callable[[Asked], str]
) -> Runs:
    """So many rounds of them all; printed as they come.

    Raises:
        Broken: a contender lost an item, or asked for one twice.
    """
    runs: Runs = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, contender in contenders.items():
            before = server_stats(load.base_url)["answered"]
            asked = contender.ask(load)
            answered = server_stats(load.base_url)["answered"] - before
            if answered != asked.items + contender.own_requests:
                raise Broken(f"{name}: the server answered {answered} requests for {asked.items} items")
            runs[name].append(asked)
            print(f"  {number}  {name:<23} {line(asked)}", flush=True)
    return runs


def median_of(runs: Runs, name: str, of: Callable[[Asked], float]) -> float:
    return median(of(one) for one in runs[name])


def ratio(runs: Runs, name: str, other: str, of: Callable[[Asked], float]) -> float:
    """The median of one's ratios to another, round by round."""
    return median(of(one) / of(beside) for one, beside in zip(runs[name], runs[other], strict=True))


def kept(runs: Runs) -> dict[str, list[dict[str, Any]]]:
    return {name: [asdict(one) for one in of] for name, of in runs.items()}
