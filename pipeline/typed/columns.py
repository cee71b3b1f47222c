"""Valid answers → one typed column. Its type is made from the schema alone: the same on every part of a run.

    object with properties    a struct; with free keys: JSON text
    array                     a list of what its items are
    string, enum of texts     String
    integer, number, boolean  Int64, Float64, Boolean
    … or null                 the same, null where it is null or missing
    anything else             JSON text: unions of different types, parts without a type

A whole number past 64 bits is null in the column; ``text`` still has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
import polars as pl

from pipeline.typed.answers import read
from pipeline.typed.schema import AnswerSchema

PARSED = "parsed"
"""The column's name, at the end of results."""

Cast = Callable[[Any], Any]
"""A valid value → what the column takes; None where there is no such value of its type."""

_LARGEST = 2**63


def parsed_column(statuses: Iterable[str], texts: Iterable[str | None], schema: AnswerSchema) -> pl.Series:
    """The answers of items that ended ``ok``, as the schema types them; null for the others."""
    dtype, cast = typed(schema.flat)
    values = []
    for status, text in zip(statuses, texts, strict=True):
        found = read(text or "", schema) if status == "ok" else None
        values.append(cast(found.value) if found is not None and found.fault is None else None)
    return pl.Series(PARSED, values, dtype=dtype)


def typed(flat: Mapping[str, Any]) -> tuple[pl.DataType, Cast]:
    """The type of a flat schema's values, and how they become it."""
    if "anyOf" in flat:
        ways = [typed(way) for way in flat["anyOf"] if way.get("type") != "null"]
        types = {dtype for dtype, _ in ways}
        if len(types) == 1:
            return ways[0]
        if types == {pl.Int64(), pl.Float64()}:
            return pl.Float64(), _number
        return pl.String(), _json_text
    match flat.get("type"):
        case "object" if flat.get("properties"):
            return _struct(flat["properties"])
        case "array" if flat.get("items"):
            inner, cast = typed(flat["items"])
            return pl.List(inner), lambda value: [cast(v) for v in value] if type(value) is list else None
        case "string":
            return pl.String(), lambda value: value if type(value) is str else None
        case "integer":
            return pl.Int64(), _integer
        case "number":
            return pl.Float64(), _number
        case "boolean":
            return pl.Boolean(), lambda value: value if type(value) is bool else None
    return pl.String(), _json_text


def _struct(properties: Mapping[str, Any]) -> tuple[pl.DataType, Cast]:
    fields = {name: typed(inner) for name, inner in properties.items()}
    casts = [(name, cast) for name, (_, cast) in fields.items()]

    def cast_all(value: Any) -> Any:
        if type(value) is not dict:
            return None
        return {name: cast(value[name]) if name in value else None for name, cast in casts}

    return pl.Struct({name: dtype for name, (dtype, _) in fields.items()}), cast_all


def _integer(value: Any) -> int | None:
    if type(value) is float and value.is_integer():  # 7.0 is a whole number to JSON Schema
        value = int(value)
    return value if type(value) is int and -_LARGEST <= value < _LARGEST else None


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _json_text(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
