"""A request's body as a question: model, texts, media parts and the answer's limit.

Owns what of the chat-completions body is understood and in which spellings; refuses what it does not
understand instead of dropping it. The parts are opened by ``reading``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.embedded.refusals import invalid_argument, invalid_request

URL_PARTS = ("image_url", "audio_url", "video_url")


@dataclass(frozen=True, slots=True)
class MediaPart:
    """One medium of the request. ``place`` says where it stood, for error messages.

    ``source`` is an ``http(s)://`` or ``data:`` URL; ``detail`` is the request's word for the resolution.
    """

    place: str
    source: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """``text`` is every text of every message, joined by newlines; ``max_tokens`` None: no limit. ``schema``
    is as it was sent; ``is_first``: no answer stands among the messages."""

    model: str
    text: str
    prompt: str
    media: tuple[MediaPart, ...]
    max_tokens: int | None
    schema: object = None
    is_first: bool = True


def read_question(body: object) -> Question:
    """Understand a parsed request body.

    Raises:
        Refusal: the body is none of a chat completion, or asks for something not served here.
    """
    if not isinstance(body, dict):
        raise invalid_request("the request body has to be a JSON object")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise invalid_request("field model is required")
    if body.get("stream"):
        raise invalid_request("the embedded endpoint serves only whole answers: set stream to false")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid_request("field messages is required")
    texts: list[str] = []
    prompt = ""
    media: list[MediaPart] = []
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise invalid_request(f"messages[{number}] has to be an object")
        own_texts, own_media = _read_content(message.get("content"), f"messages[{number}].content")
        texts += own_texts
        media += own_media
        if message.get("role") == "user" and own_texts:
            prompt = "\n".join(own_texts)
    if not media and not any(text.strip() for text in texts):
        raise invalid_argument("contents is not specified: the messages hold neither text nor media")
    is_first = not any(message.get("role") == "assistant" for message in messages)
    return Question(model, "\n".join(texts), prompt, tuple(media), _max_tokens(body), _schema(body), is_first)


def _schema(body: Mapping[str, object]) -> object:
    """What the answer has to keep to; None where nothing is asked."""
    wanted = body.get("response_format")
    if wanted is None or (isinstance(wanted, Mapping) and wanted.get("type") == "text"):
        return None
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind == "json_object":
        return {"type": "object"}
    named = wanted.get("json_schema") if isinstance(wanted, Mapping) else None
    if kind != "json_schema" or not isinstance(named, Mapping) or named.get("schema") is None:
        raise invalid_request("response_format has to be of type text, json_object or json_schema")
    return named["schema"]


def _read_content(content: object, place: str) -> tuple[list[str], list[MediaPart]]:
    if content is None:
        return [], []
    if isinstance(content, str):
        return [content], []
    if not isinstance(content, list):
        raise invalid_request(f"{place} has to be a string or a list of parts")
    parts = list(_read_parts(content, place))
    return [part for part in parts if isinstance(part, str)], [
        part for part in parts if isinstance(part, MediaPart)
    ]


def _read_parts(parts: list[object], place: str) -> Iterator[str | MediaPart]:
    for number, part in enumerate(parts):
        where = f"{place}[{number}]"
        if not isinstance(part, dict):
            raise invalid_request(f"{where} has to be an object")
        kind = part.get("type")
        value = part.get(kind) if isinstance(kind, str) else None
        if kind == "text" and isinstance(value, str):
            yield value
        elif kind in URL_PARTS:
            yield _url_part(f"{where}.{kind}", value)
        elif kind == "input_audio" and isinstance(value, dict):
            yield MediaPart(f"{where}.input_audio", _inline(value.get("data"), f"{where}.input_audio.data"))
        elif kind == "file" and isinstance(value, dict):
            yield MediaPart(f"{where}.file", _inline(value.get("file_data"), f"{where}.file.file_data"))
        else:
            raise invalid_request(f"{where} is no part of a kind served here (type {kind!r})")


def _url_part(place: str, value: object) -> MediaPart:
    """Both spellings: ``{"url": …}`` and the plain string that some gateways take."""
    url, detail = (value.get("url"), value.get("detail")) if isinstance(value, Mapping) else (value, None)
    if not isinstance(url, str) or not url:
        raise invalid_request(f"{place}.url is required")
    return MediaPart(place, url, detail if isinstance(detail, str) else None)


def _inline(encoded: object, place: str) -> str:
    """Inline base64 as a ``data:`` URL, so that there is one way to read it."""
    if not isinstance(encoded, str) or not encoded:
        raise invalid_request(f"{place} is required")
    return encoded if encoded.startswith("data:") else f"data:application/octet-stream;base64,{encoded}"


def _max_tokens(body: Mapping[str, object]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        limit = body.get(name)
        if limit is None:
            continue
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise invalid_request(f"{name} has to be a whole number of at least 1")
        return limit
    return None
