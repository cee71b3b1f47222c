"""One cell → text, several texts, or a positive number; whatever the format typed it as.

An empty or blank text, null and NaN (how pandas writes a missing text) are absent. What a column cannot hold
is a ``CellProblem``, which ``rows`` turns into a bad row.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

import orjson

MAX_TOKENS_LIMIT: Final = 10_000_000
"""No model answers in more; a larger number is a slip."""
_SHOWN_CHARACTERS: Final = 100
# A list that lost its end in a spreadsheet; a file may be called `[1].jpg`, but hardly `["…`.
_BEGUN_ARRAY: Final = re.compile(r'\[\s*"')


class CellProblem(Exception):  # a fact on its way to a RowError, nothing to catch outside
    """What is wrong with a row, and in which column. Never leaves this package."""

    def __init__(self, column: str | None, problem: str) -> None:
        super().__init__(problem)
        self.column = column
        self.problem = problem


def text(cell: object, column: str) -> str | None:
    """The text of a cell as it stands; None where it is absent."""
    if type(cell) is str:
        return cell if cell and not cell.isspace() else None
    if absent(cell):
        return None
    if isinstance(cell, bytes):
        return text(_decoded(cell, column), column)
    raise CellProblem(column, f"holds {named(cell)}, not text")


def texts(cell: object, column: str) -> list[str]:
    """One text or several, stripped: a list, or a JSON array in a text. Absent elements are left out."""
    if type(cell) is str:
        stripped = cell.strip()
        if not stripped:
            return []
        if stripped[0] == "[" and (stripped[-1] == "]" or _BEGUN_ARRAY.match(stripped)):
            try:
                return _elements(orjson.loads(stripped), column)
            except orjson.JSONDecodeError as error:
                problem = f"looks like a JSON array, but is none ({error.msg}): {shortened(stripped)}"
                raise CellProblem(column, problem) from None
        return [stripped]
    if isinstance(cell, list):
        return _elements(cell, column)
    one = text(cell, column)
    return [] if one is None else texts(one, column)


def scalar_text(cell: object, column: str) -> str | None:
    """Any scalar as text: 7 is ``7``, and so is 7.0 (whole numbers next to missing ones arrive as floats).

    A text stays as it is, blanks around it included.
    """
    match cell:
        case str() | bytes():
            return text(cell, column)
        case bool():
            return "true" if cell else "false"
        case float() if cell.is_integer() and abs(cell) < 2**63:
            return str(int(cell))
        case _ if absent(cell):
            return None
        case int() | float() | Decimal() | timedelta():
            return str(cell)
        case datetime() | date() | time():
            return cell.isoformat()
    raise CellProblem(column, f"holds {named(cell)}, not one value")


def scalar_texts(cell: object, column: str) -> list[str] | str | None:
    """A scalar as text, or the texts of a list or of a JSON array in a text."""
    if isinstance(cell, str) and cell.lstrip()[:1] == "[" and cell.rstrip()[-1:] == "]":
        with suppress(orjson.JSONDecodeError):  # then it is a key in brackets
            cell = orjson.loads(cell)
    if isinstance(cell, list):
        return [one for element in cell if (one := scalar_text(element, column)) is not None]
    return scalar_text(cell, column)


def positive_integer(cell: object, column: str) -> int | None:
    """A whole number above zero: 500, 500.0, or their texts; None where it is absent."""
    number: object = cell
    if isinstance(cell, str | bytes):
        stripped = (text(cell, column) or "").strip()
        if not stripped:
            return None
        if re.fullmatch(r"\+?[0-9]{1,18}(\.0*)?", stripped):
            number = int(stripped.partition(".")[0])
    elif absent(cell):
        return None
    elif isinstance(cell, float | Decimal) and math.isfinite(cell) and cell == int(cell):
        number = int(cell)
    if type(number) is not int or number < 1:
        raise CellProblem(column, f"is {shortened(str(cell))}, not a whole number above zero")
    if number > MAX_TOKENS_LIMIT:
        raise CellProblem(
            column, f"is {shortened(str(cell))}, more than any model answers in ({MAX_TOKENS_LIMIT:,})"
        )
    return number


def absent(cell: object) -> bool:
    """Null, a blank text, or NaN."""
    return cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell


def named(cell: object) -> str:
    """What a cell holds, for a sentence: ``a number (12)``."""
    match cell:
        case bool():
            return "true or false"
        case int() | float() | Decimal():
            return f"a number ({shortened(str(cell))})"
        case dict():
            return "an object"
        case list():
            return "a list"
        case bytes():
            return "bytes"
    return f"a {type(cell).__name__}"


def shortened(value: str) -> str:
    """A value for a sentence: on one line, and not megabytes of it."""
    line = " ".join(value[: 4 * _SHOWN_CHARACTERS].split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…"


def _elements(elements: object, column: str) -> list[str]:
    assert isinstance(elements, list)
    return [one.strip() for element in elements if (one := text(element, column)) is not None]


def _decoded(cell: bytes, column: str) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        raise CellProblem(column, "holds bytes that are not UTF-8 text") from None
