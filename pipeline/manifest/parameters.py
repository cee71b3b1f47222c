"""A ``request_parameters`` cell → the request parameters of one row, over the run's.

Owns which names are nobody's to set: those that say what is asked, of whom, and how it is answered. The
command line checks its own by the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from pipeline.manifest.cells import CellProblem, absent, named, positive_integer, shortened

OWNED: Final[Mapping[str, str]] = {
    "model": "say it with --model, or a model column",
    "messages": "they are made of the prompt and the media",
    "prompt": "say it with --prompt, or a prompt column",
    "system": "say it with --system, or a system_prompt column",
    "stream": "answers come whole",
    "stream_options": "answers come whole",
    "n": "one answer is asked for, and one is kept",
    "best_of": "one answer is asked for, and one is kept",
    "max_completion_tokens": "say it as max_tokens",
}
"""name → why it is ours, and what to do instead"""
BY_SCHEMA: Final = "response_format"
"""Ours where the run has a schema."""


def why_not(name: str, has_schema: bool) -> str | None:
    """Why a parameter of this name cannot be set; None where it can."""
    if name == BY_SCHEMA and has_schema:
        return "--schema says it"
    if not name.strip():
        return "a parameter has a name"
    return OWNED.get(name)


def row_parameters(cell: object, column: str, has_schema: bool) -> dict[str, Any] | None:
    """The object in a cell, or in its text; None where the cell is absent. A null says nothing.

    Raises:
        CellProblem: it is no JSON object, or sets what is ours.
    """
    if absent(cell):
        return None
    if isinstance(cell, str | bytes):
        try:
            cell = orjson.loads(cell)
        except orjson.JSONDecodeError:
            problem = f'is no JSON object such as {{"temperature": 0.2}}: {shortened(str(cell))}'
            raise CellProblem(column, problem) from None
    if not isinstance(cell, dict):
        raise CellProblem(column, f'holds {named(cell)}, not an object such as {{"temperature": 0.2}}')
    for name in cell:
        reason = why_not(name, has_schema)
        if reason is not None:
            raise CellProblem(column, f"sets {shortened(name)!r}, which is not for rows: {reason}")
    told = {name: value for name, value in cell.items() if value is not None}
    limit = positive_integer(told.pop("max_tokens", None), column)
    if limit is not None:
        told["max_tokens"] = limit
    try:
        orjson.dumps(told)
    except TypeError:
        raise CellProblem(column, "holds what JSON does not know (dates, decimals, bytes)") from None
    return told
