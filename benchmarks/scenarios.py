"""Scenarios of a part, one after the other or side by side where they leave the machine idle anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    with ThreadPoolExecutor(side_by_side) as threads:
        for name, ended in [(name, threads.submit(measure, name)) for name in names]:
            try:
                of = ended.result()
            except Broken as error:
                lines = [f"broken: {error}"]
                broken.append(f"{name}: {error}")
            else:
                lines = [*of.told, *(one.line() for one in of.verdicts)]
                found[name] = of.found | {"verdicts": [one.kept() for one in of.verdicts]}
            print("\n    ".join([f"  {name}", *lines]), flush=True)
    if broken:
        raise Broken("\n".join(broken))
    return found
