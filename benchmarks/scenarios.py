"""Scenarios of a part, one after the other or side by side where they leave the machine idle anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.measuring import Broken
from benchmarks.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Ended:
    """What a scenario found, and what is told of it."""

    told: list[str]
    verdicts: list[Verdict]
    found: dict[str, Any]


def measure_scenarios(
    names: Sequence[str], measure: Callable[[str], Ended], *, side_by_side: int = 1
) -> dict[str, dict[str, Any]]:
    """What each found; printed as they end, in order.

    Raises:
        Broken: in one of them an item was lost. The others are measured before that is said.
    """
    found: dict[str, dict[str, Any]] = {}
    broken: list[str] = []

    def caught(name: str) -> Ended | Broken:
        try:
            return measure(name)
        except Broken as error:
            return error

    for name, of in zip(names, _each(names, caught, side_by_side), strict=True):
        if isinstance(of, Broken):
            lines = [f"broken: {of}"]
            broken.append(f"{name}: {of}")
        else:
            lines = [*of.told, *(one.line() for one in of.verdicts)]
            found[name] = of.found | {"verdicts": [one.kept() for one in of.verdicts]}
        print("\n    ".join([f"  {name}", *lines]), flush=True)
    if broken:
        raise Broken("\n".join(broken))
    return found


def _each(
    names: Sequence[str], measure: Callable[[str], Ended | Broken], side_by_side: int
) -> Iterator[Ended | Broken]:
    """In order. One by one it takes no thread: an interrupt then ends the child that is measured."""
    if side_by_side == 1:
        yield from map(measure, names)
        return
    with ThreadPoolExecutor(side_by_side) as threads:
        yield from threads.map(measure, names)
