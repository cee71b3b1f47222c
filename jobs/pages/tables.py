"""Lines of a report → tables of a page: a person may sort, filter and copy them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

from jobs.wording import amount

_LONGEST_LINE = 48
_MOST_ROWS = 1_000
_MOST_DECIMALS = 9
"""Up to so many, the decimals of a column are padded to stand below each other."""

SERIES: Final = ("output", "text", "image", "image+video", "video", "audio", "document", "unattributed")
"""What has a colour of its own: output, and the modalities of input."""

Value = str | int | float | Decimal | None


@dataclass(frozen=True, slots=True)
class Cell:
    """``text`` is shown and copied, ``value`` is sorted by; ``share`` (0 to 1) draws a bar behind it, and
    ``swatch`` a spot of a modality's colour before it."""

    text: str
    value: str | None = None
    share: float | None = None
    swatch: str | None = None
    is_bad: bool = False

    @property
    def is_long(self) -> bool:
        return len(self.text) > _LONGEST_LINE


@dataclass(frozen=True, slots=True)
class Column:
    """``kind``: how its cells read, and on which side they stand."""

    name: str
    kind: Literal["text", "number", "money", "long"] = "text"

    @property
    def is_number(self) -> bool:
        return self.kind in ("number", "money")


@dataclass(slots=True)
class Table:
    name: str
    columns: Sequence[Column]
    rows: list[list[Cell]] = field(default_factory=list)
    total: list[Cell] | None = None
    left_out: int = 0  # rows past those that a page has room for

    def cut(self) -> Table:
        """With the first thousand rows alone: a page is no archive."""
        self.left_out = max(0, len(self.rows) - _MOST_ROWS)
        del self.rows[_MOST_ROWS:]
        return self

    def add(self, *values: Value | Cell) -> None:
        self.rows.append(self._cells(values))

    def add_total(self, *values: Value | Cell) -> None:
        self.total = self._cells(values)

    def aligned(self) -> Table:
        """With the decimals of each column of money below each other."""
        for place, column in enumerate(self.columns):
            if column.kind != "money":
                continue
            rows = [*self.rows, *([self.total] if self.total else [])]
            decimals = max((len(row[place].text.partition(".")[2]) for row in rows), default=0)
            if decimals > _MOST_DECIMALS:
                continue
            for row in rows:
                cell = row[place]
                if cell.value is not None:
                    row[place] = Cell(
                        f"{Decimal(cell.value):,.{decimals}f}", cell.value, cell.share, cell.swatch
                    )
        return self

    def _cells(self, values: Iterable[Value | Cell]) -> list[Cell]:
        return [
            value if isinstance(value, Cell) else _cell(column, value)
            for column, value in zip(self.columns, values, strict=True)
        ]


def _cell(column: Column, value: Value) -> Cell:
    if value is None:
        return Cell("—")
    if isinstance(value, Decimal):
        return Cell(amount(value), amount(value))
    if isinstance(value, int):
        return Cell(f"{value:,}", str(value))
    if isinstance(value, float):
        return Cell(f"{value:,.3g}", repr(value))
    return Cell(value, value if column.is_number else None)


def failed_cell(count: int | None) -> Cell | int | None:
    return Cell(f"{count:,}", str(count), is_bad=True) if count else count


def currencies(costs: Iterable[Mapping[str, Decimal]]) -> list[str]:
    """Those that occur, each for a column of its own: they are never added."""
    return sorted({currency for cost in costs for currency in cost})


def series_of(direction: str | None, modality: str | None) -> str:
    name = "output" if direction == "output" else modality or "unattributed"
    return name if name in SERIES else "unattributed"
