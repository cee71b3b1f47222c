"""What goes wrong where answers have a schema, to be rehearsed: each as endpoints do it.

    ignored      prose, unless the prompt itself asks for JSON
    cut          broken off in the middle, with finish_reason length
    wrong-type   a number, or else a text, is something else
    fenced       in a fence of Markdown
    talkative    with words around it

A second question, which names the fault, is answered well. Fenced and talkative ones stay what they are: they
can be read.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import orjson

SchemaFault = Literal["ignored", "cut", "wrong-type", "fenced", "talkative"]
SCHEMA_FAULTS: tuple[SchemaFault, ...] = get_args(SchemaFault)


def spoilt(value: Any, fault: SchemaFault | None, is_first: bool) -> tuple[str, bool]:
    """The answer's text, and whether it is cut. ``is_first``: nothing was objected to yet."""
    text = orjson.dumps(value).decode()
    match fault:
        case "cut" if is_first:
            return text[: len(text) // 2], True
        case "wrong-type" if is_first:
            return orjson.dumps(_wrong(value)).decode(), False
        case "fenced":
            return f"```json\n{text}\n```", False
        case "talkative":
            return f"Here is what you asked for:\n\n{text}\n\nTell me if you need [more].", False
    return text, False


def _wrong(value: Any) -> Any:
    """The same with the first leaf of another type."""
    if isinstance(value, dict) and value:
        number = next((name for name, one in value.items() if isinstance(one, int | float)), None)
        name = next(iter(value)) if number is None else number
        return {**value, name: _wrong(value[name])}
    if isinstance(value, list) and value:
        return [_wrong(value[0]), *value[1:]]
    return "about a dozen" if isinstance(value, int | float) else 12
