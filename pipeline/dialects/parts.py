"""Request → the body of a chat completion: one user message, the text part, then the media parts; before it
the system prompt, after it what is objected to an answer.

Owns the shape of the body and of each part; refuses to decide which part a medium becomes: that is what
dialects differ in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from pipeline.records import Media, Objection, Request

if TYPE_CHECKING:
    from pipeline.typed.schema import AnswerSchema

PartOf = Callable[[Media, str], dict[str, object]]


def chat_body(
    request: Request, urls: Sequence[str], part_of: PartOf, parameters: Mapping[str, object]
) -> bytes:
    """The body, its keys in the order of the example: model, parameters, messages, stream.

    Raises:
        ValueError: there are not as many URLs as media.
    """
    content: list[dict[str, object]] = []
    schema = request.schema
    text = request.prompt
    if schema is not None and request.schema_in != "format" and request.objection is None:
        text = f"{text}\n\n{schema.words}" if text else schema.words
    # Gemini refuses an empty text part, so none is made where media speak for themselves.
    if text or not request.media:
        content.append({"type": "text", "text": text})
    for media, url in zip(request.media, urls, strict=True):
        content.append(part_of(media, url))
    body: dict[str, object] = {"model": request.model}
    body.update(parameters)
    # Set last: a parameter of that name must change neither the model, the messages nor the streaming.
    body["model"] = request.model
    messages: list[dict[str, object]] = [{"role": "user", "content": content}]
    if request.system is not None:
        messages.insert(0, {"role": "system", "content": request.system})
    if schema is not None:
        if request.schema_in != "words":
            body["response_format"] = orjson.Fragment(schema.response_format)
        if request.objection is not None:
            messages += _objection(request.objection, schema)
    body["messages"] = messages
    body["stream"] = False
    return orjson.dumps(body, default=_as_json)


def _objection(objection: Objection, schema: AnswerSchema) -> list[dict[str, object]]:
    """The answer as it came, and what is wrong with it. An empty message is refused by some."""
    return [
        {"role": "assistant", "content": objection.answer.strip() or "(nothing)"},
        {"role": "user", "content": schema.objection_to(objection.fault)},
    ]


def url_part(media: Media, url: str) -> dict[str, object]:
    """The object spelling: ``{"type": "image_url", "image_url": {"url": …}}``."""
    name = f"{media.modality}_url"
    return {"type": name, name: {"url": url}}


def document_part(url: str) -> dict[str, object]:
    """A ``file`` part. Both ``filename`` and ``file_data`` have to be there: new-api drops a part with one
    of them missing (its ``dto.Message.ParseContent``), without an error."""
    return {"type": "file", "file": {"filename": _file_name(url), "file_data": url}}


def input_audio_part(url: str) -> dict[str, object] | None:
    """``{"type": "input_audio", "input_audio": {"data", "format"}}`` of a base64 ``data:`` URL, else None."""
    header, comma, payload = url.partition(",")
    if not comma or not header.endswith(";base64"):
        return None
    mime = header[len("data:") :].split(";", 1)[0].lower()
    subtype = mime.rpartition("/")[2]
    return {
        "type": "input_audio",
        "input_audio": {"data": payload, "format": _AUDIO_FORMATS.get(subtype, subtype or "wav")},
    }


# What the endpoints call a format, by MIME subtype; others go by their subtype (flac, ogg, aac, webm).
_AUDIO_FORMATS = {
    "x-wav": "wav",
    "wave": "wav",
    "vnd.wave": "wav",
    "x-pn-wav": "wav",
    "mpeg": "mp3",
    "mpeg3": "mp3",
    "x-mpeg": "mp3",
    "x-mp3": "mp3",
    "mp4": "m4a",
    "x-m4a": "m4a",
    "x-flac": "flac",
    "x-aac": "aac",
    "x-aiff": "aiff",
}

_EXTENSIONS = {"application/pdf": "pdf", "text/plain": "txt", "text/markdown": "md", "text/html": "html"}


def _file_name(url: str) -> str:
    if url.startswith("data:"):
        mime = url[len("data:") :].partition(",")[0].partition(";")[0].lower()
        return f"document.{_EXTENSIONS.get(mime, 'pdf')}"
    path = url.partition("://")[2].partition("?")[0].partition("#")[0]
    return path.partition("/")[2].rpartition("/")[2] or "document.pdf"


def _as_json(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a request parameter cannot be written as JSON: {type(value).__name__}")
