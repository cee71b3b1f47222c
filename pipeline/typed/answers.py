"""An answer's text → the JSON value that was asked for, or what is wrong with it.

Models put JSON into fences, or words around it: the first complete value that is valid counts. Nothing is
looked for inside a complete value, nor behind the place where one is broken off: a piece of a wrong answer is
no answer.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple, NoReturn

import orjson

from pipeline.errors import InvalidAnswer
from pipeline.records import Reply
from pipeline.typed.schema import AnswerSchema

_OPENINGS: Final = {"object": "{", "array": "["}
_THOUGHT: Final = "</think>"
"""Where some open models end their thoughts, which may hold drafts."""


class Found(NamedTuple):
    """``fault`` is None where ``value`` is valid."""

    value: Any
    fault: str | None


def invalid_answer(reply: Reply, schema: AnswerSchema) -> InvalidAnswer | None:
    """What is wrong with a reply whose text does not keep to the schema."""
    fault = read(reply.text or "", schema).fault
    if fault is None:
        return None
    if reply.finish_reason == "length":
        fault = f"it was cut off at the longest answer allowed (finish_reason length): {fault}"
    return InvalidAnswer(fault, reply)


def read(text: str, schema: AnswerSchema) -> Found:
    """The first complete value in the text that is valid, else the fault of the first complete one."""
    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _read_inside(text, schema)
    return Found(whole, schema.fault_of(whole))


def _read_inside(text: str, schema: AnswerSchema) -> Found:
    if text.lstrip().startswith("<think>"):
        text = text.partition(_THOUGHT)[2]
    roots = schema.roots
    openings = "".join(opening for kind, opening in _OPENINGS.items() if not roots or kind in roots)
    if not openings:
        return _read_scalar(text, schema)
    first: Found | None = None
    broken = ""
    at = _next(text, openings, 0)
    while at is not None:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            # What was read up to here belongs to the broken value.
            is_cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
            if not broken and (is_cut or error.pos > at + 1):
                where = "it ends in the middle of its JSON" if is_cut else f"its JSON is broken: {error.msg}"
                broken = f"{where} (after {error.pos - at:,} characters)"
            if is_cut:
                break
            at = _next(text, openings, max(error.pos, at + 1))
            continue
        except (RecursionError, ValueError):
            broken = broken or "its JSON is nested too deep, or holds what is no JSON"
            break
        value, fault = _storable(value, schema)
        if fault is None:
            return Found(value, None)
        first = first or Found(value, fault)
        at = _next(text, openings, end)
    if first is not None and not broken:
        return first
    if broken:
        return Found(None, broken)
    return Found(None, "there is no JSON in it" if text.strip() else "it is empty")


def _read_scalar(text: str, schema: AnswerSchema) -> Found:
    """A text, a number, true or false: only as the whole answer, in a fence or not."""
    inner = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        value = orjson.loads(inner)
    except orjson.JSONDecodeError:
        return Found(None, "it is no JSON" if inner else "it is empty")
    return Found(value, schema.fault_of(value))


def _storable(value: Any, schema: AnswerSchema) -> tuple[Any, str | None]:
    """A value as orjson would have read it: halves of characters, and numbers past 64 bits, made fit."""
    try:
        value = orjson.loads(json.dumps(value).encode())
    except (orjson.JSONDecodeError, RecursionError, ValueError):
        return value, "it holds half a character (a lone surrogate)"
    return value, schema.fault_of(value)


def _next(text: str, openings: str, start: int) -> int | None:
    found = [place for opening in openings if (place := text.find(opening, start)) >= 0]
    return min(found, default=None)


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# Not strict: models put line ends into texts as they are.
_DECODER: Final = json.JSONDecoder(strict=False, parse_constant=_no_json)
