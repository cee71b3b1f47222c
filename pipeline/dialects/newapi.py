"""The dialect of the gateway in the example: new-api and its family, object spelling.

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
    """Every kind of media is a part of its own name: ``{"type": "video_url", "video_url": {"url": …}}``."""

    name = "newapi"
    path = "/chat/completions"

    def render(self, request: Request, urls: Sequence[str]) -> bytes:
        return chat_body(request, urls, _part, request.parameters)

    def parse(self, body: bytes, request: Request) -> Reply:
        return parse_chat(body, request)

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptError:
        return classify_failure(status, headers, body, is_gateway=True)


def _part(media: Media, url: str) -> dict[str, object]:
    return document_part(url) if media.modality == "document" else url_part(media, url)
