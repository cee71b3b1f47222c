"""The dialects of the gateway in the example: new-api and its family, in object and in string spelling.

The shape is that of the recorded example, key for key. Next: `chat` and `failures`, which it shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.dialects.chat import parse_chat
from pipeline.dialects.failures import classify_failure
from pipeline.dialects.parts import chat_body, document_part, url_part
from pipeline.errors import AttemptError
from pipeline.records import Media, Reply, Request


class NewApi:
    """Every kind of media is a part of its own name: ``{"type": "video_url", "video_url": {"url": …}}``.

    Some builds take sound and video only as plain strings, and silently drop the objects: ``are_strings``
    spells ``{"type": "video_url", "video_url": "…"}``. Images are objects everywhere.
    """

    path = "/chat/completions"

    def __init__(self, name: str = "newapi", *, are_strings: bool = False) -> None:
        self.name = name
        self._part = _string_part if are_strings else _part

    def render(self, request: Request, urls: Sequence[str]) -> bytes:
        return chat_body(request, urls, self._part, request.parameters)

    def parse(self, body: bytes, request: Request) -> Reply:
        return parse_chat(body, request)

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptError:
        return classify_failure(status, headers, body, is_gateway=True)


def _string_part(media: Media, url: str) -> dict[str, object]:
    if media.modality not in ("audio", "video"):
        return _part(media, url)
    name = f"{media.modality}_url"
    return {"type": name, name: url}


def _part(media: Media, url: str) -> dict[str, object]:
    return document_part(url) if media.modality == "document" else url_part(media, url)
