"""A figure beside its target, and in plain words whether it is met. A missed one is told, never an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Verdict:
    """``value`` None: it could not be had, and so it is missed."""

    name: str
    value: float | None
    sense: Literal["at least", "at most"]
    target: float
    unit: str = ""

    @property
    def is_met(self) -> bool:
        if self.value is None:
            return False
        return self.value >= self.target if self.sense == "at least" else self.value <= self.target

    def line(self) -> str:
        sign = "≥" if self.sense == "at least" else "≤"
        word = "met" if self.is_met else "missed"
        value, target = shown(self.value, self.unit), shown(self.target, self.unit)
        return f"{self.name}: {value} (target {sign} {target}: {word})"

    def kept(self) -> dict[str, Any]:
        return asdict(self) | {"is_met": self.is_met}


def tell(verdicts: Iterable[Verdict]) -> None:
    for one in verdicts:
        print(f"    {one.line()}", flush=True)


def shown(value: float | None, unit: str) -> str:
    if value is None:
        return "never"
    match unit:
        case "%":
            return f"{value * 100:.2f}%"
        case "MB":
            return f"{value / 1e6:,.0f} MB"
        case "kB":
            return f"{value / 1e3:,.0f} kB"
        case "":
            return f"{value:.3f}"
        case _:
            return f"{value:.2f} {unit}"
