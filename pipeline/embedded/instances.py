"""A JSON Schema → a value that keeps to it: the same for the same question. There is no model behind it.

Patterns are not met: a text is what it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from zlib import crc32

from pipeline.embedded.refusals import invalid_argument
from pipeline.errors import SchemaError
from pipeline.typed.flattening import flattened

TEXT: Final = "no model was asked"
_ITEMS: Final = 2
_FORMATS: Final = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1M",
    "email": "nobody@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_NOTES: Final = {
    name: re.compile(rf"{words} ([^;)]+)")
    for name, words in {
        "format": "format:",
        "above": "more than",
        "below": "less than",
        "multiple": "a multiple of",
        "values": "one of",
    }.items()
}
"""What a flat schema says in words alone."""


def instance_of(schema: object, question: str) -> Any:
    """
    Raises:
        Refusal: it is no schema.
    """
    if not isinstance(schema, Mapping):
        raise invalid_argument("response_format.json_schema.schema has to be an object")
    try:
        flat = flattened(schema)
    except SchemaError as error:
        raise invalid_argument(f"response_format.json_schema.schema: {error}") from error
    return _made(flat, crc32(question.encode("utf-8", "surrogatepass")))


def _made(node: Mapping[str, Any], seed: int) -> Any:
    if "anyOf" in node:
        return _made(
            next((way for way in node["anyOf"] if way.get("type") != "null"), node["anyOf"][0]), seed
        )
    if node.get("enum"):
        return node["enum"][seed % len(node["enum"])]
    match node.get("type"):
        case "object":
            properties = node.get("properties", {})
            return {
                name: _made(inner, seed + place) for place, (name, inner) in enumerate(properties.items())
            }
        case "array":
            most = node.get("maxItems", _ITEMS)
            length = max(node.get("minItems", 0), min(_ITEMS, most))
            return [_made(node.get("items", {}), seed + place) for place in range(length)]
        case "integer" | "number" as kind:
            return _number(node, seed, kind == "integer")
        case "boolean":
            return seed % 2 == 0
        case "null":
            return None
    return _text(node)


def _number(node: Mapping[str, Any], seed: int, is_whole: bool) -> int | float:
    if (values := _note(node, "values")) is not None:
        return _as_number(values.split(",")[0])
    step = _as_number(_note(node, "multiple") or "1")
    value: int | float = (seed % 10) * step + (0 if is_whole or step != 1 else 0.5)
    above, below = _note(node, "above"), _note(node, "below")
    least = node.get("minimum", _as_number(above) + step if above else None)
    most = node.get("maximum", _as_number(below) - step if below else None)
    if above and below and least is not None and most is not None and least > most:
        return (_as_number(above) + _as_number(below)) / 2
    if most is not None:
        value = min(value, most)
    return value if least is None else max(value, least)


def _text(node: Mapping[str, Any]) -> str:
    known = _FORMATS.get(node.get("format") or _note(node, "format") or "")
    if known is not None:
        return known
    text = TEXT.ljust(node.get("minLength", 0), ".")
    return text[: node.get("maxLength", len(text))]


def _note(node: Mapping[str, Any], name: str) -> str | None:
    found = _NOTES[name].search(str(node.get("description", "")))
    return found[1] if found else None


def _as_number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
