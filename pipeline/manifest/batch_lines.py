"""A line of an OpenAI batch file → what it asks: `{"custom_id", "method", "url", "body": {"model", …}}`.

What a request here can hold is taken over: a system message, one user message with text and media, and all
parameters. What it cannot hold (several turns, tools, uploaded files) makes the row a bad one that says so:
nothing is dropped without a word. Text parts are joined; text that stands between media goes before them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pipeline.manifest.cells import CellProblem, positive_integer, shortened, text
from pipeline.manifest.columns import WIDE
from pipeline.records import MediaModality

COLUMNS: Final = ("custom_id", "method", "url", "body")
"""The keys of a line, in the order in which `rows` takes them."""

_ELSEWHERE: Final = frozenset(
    ("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens")
)
_REFUSED: Final = frozenset(("tools", "tool_choice", "functions", "function_call"))
_MODALITY: Final[dict[str, MediaModality]] = {
    "image_url": "image",
    "audio_url": "audio",
    "video_url": "video",
}
_AUDIO_MIME: Final = {"mp3": "audio/mpeg", "m4a": "audio/mp4", "mp4": "audio/mp4"}


@dataclass(slots=True)
class Asked:
    """What a line asks. ``media``: (modality, address as the line has it), in order."""

    model: str | None = None
    prompt: str | None = None
    system: str | None = None
    parameters: dict[str, object] = field(default_factory=dict)
    media: list[tuple[MediaModality, str]] = field(default_factory=list)


def is_batch(columns: Iterable[str]) -> bool:
    """Whether NDJSON with these keys is a batch file."""
    return {"custom_id", "body"} <= set(columns) and {*WIDE, "prompt"}.isdisjoint(columns)


def asked_by(url: object, body: object) -> Asked:
    """
    Raises:
        CellProblem: it asks what cannot be asked here.
    """
    if url is not None and not str(url).endswith("/chat/completions"):
        raise CellProblem("url", f"is {shortened(str(url))}; only /v1/chat/completions is asked here")
    if isinstance(body, str):
        body = _loaded(body)
    if not isinstance(body, dict):
        raise CellProblem("body", "is no JSON object")
    asked = Asked(text(body.get("model"), "body"))
    for name, value in body.items():
        if name in _REFUSED and value:
            raise _cannot(f"{name!r}")
        if name not in _ELSEWHERE and value is not None:
            asked.parameters[name] = value
    if asked.parameters.pop("n", 1) != 1:
        raise _cannot("several answers ('n')")
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None:
        asked.parameters["max_tokens"] = positive_integer(limit, "body")
    _read_messages(body.get("messages"), asked)
    return asked


def _loaded(body: str) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise CellProblem("body", f"is no JSON ({error.msg})") from None


def _read_messages(messages: object, asked: Asked) -> None:
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise CellProblem("body", "has no list of messages")
    systems: list[str] = []
    users: list[object] = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer") and not users:
            systems.append(_text_of(message.get("content")))
        elif role == "user" and not users:
            users.append(message.get("content"))
        else:
            raise _cannot("a conversation of several turns")
    if systems:
        asked.system = "\n".join(systems)
    texts = []
    for part in _parts(users[0] if users else None):
        if part.get("type") == "text":
            texts.append(_text_of(part.get("text")))
        else:
            asked.media.append(_medium(part))
    asked.prompt = "\n".join(texts) if texts else None


def _parts(content: object) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise CellProblem("body", "has no user message with content")
    return content


def _text_of(content: object) -> str:
    """A text, or text parts."""
    if isinstance(content, str):
        return content
    parts = _parts(content)
    if not all(part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts):
        raise CellProblem("body", "has a text that is none")
    return "\n".join(part["text"] for part in parts)


def _medium(part: dict[str, Any]) -> tuple[MediaModality, str]:
    kind = part.get("type")
    told: Any = part.get(kind) if isinstance(kind, str) else None
    match kind, told:
        case (("image_url" | "audio_url" | "video_url"), str()):
            return _MODALITY[kind], told
        case (("image_url" | "audio_url" | "video_url"), {"url": str() as url}):
            if told.get("detail", "auto") != "auto":
                raise _cannot("the detail of an image")
            return _MODALITY[kind], url
        case "input_audio", {"data": str() as data, "format": str() as form}:
            if data.startswith(("data:", "http://", "https://")):
                return "audio", data
            return "audio", f"data:{_AUDIO_MIME.get(form, f'audio/{form}')};base64,{data}"
        case "file", {"file_data": str() as data}:
            return "document", data
        case "file", {"file_id": _}:
            raise _cannot("an uploaded file ('file_id'), which one account alone can read")
    raise _cannot(f"a part of type {shortened(str(kind))!r}")


def _cannot(what: str) -> CellProblem:
    return CellProblem("body", f"asks with {what}, which cannot be asked here")
