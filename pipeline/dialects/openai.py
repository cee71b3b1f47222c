"""The dialect of OpenAI itself and of the servers that follow it closely (vLLM, SGLang, OpenRouter).

It differs from `newapi` in how inline audio and the output limit are spelled, and in what a 401 means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.dialects.chat import parse_chat
from pipeline.dialects.failures import classify_failure
from pipeline.dialects.parts import chat_body, document_part, input_audio_part, url_part
from pipeline.errors import AttemptError
from pipeline.records import Media, Reply, Request


class OpenAI:
    """Image as ``image_url``, inline audio as ``input_audio``, what OpenAI has no part for as ``…_url``."""

    name = "openai"
    path = "/chat/completions"

    def render(self, request: Request, urls: Sequence[str]) -> bytes:
        return chat_body(request, urls, _part, _parameters(request.parameters))

    def parse(self, body: bytes, request: Request) -> Reply:
        return parse_chat(body, request)

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptError:
        return classify_failure(status, headers, body, is_gateway=False)


def _parameters(parameters: Mapping[str, object]) -> dict[str, object]:
    # OpenAI deprecated `max_tokens`, and its reasoning models answer 400 to it; vLLM and SGLang mark it
    # deprecated too and read `max_completion_tokens` first. Endpoints that know only the old name are
    # served by the `newapi` dialect, which keeps it.
    renamed = "max_tokens" in parameters and "max_completion_tokens" not in parameters
    return {
        "max_completion_tokens" if renamed and name == "max_tokens" else name: value
        for name, value in parameters.items()
        if renamed or name != "max_tokens"
    }


def _part(media: Media, url: str) -> dict[str, object]:
    if media.modality == "document":
        return document_part(url)
    if media.modality == "audio" and url.startswith("data:"):
        # OpenAI takes audio inline only. A URL stays an `audio_url` part: vLLM and SGLang fetch it.
        return input_audio_part(url) or url_part(media, url)
    return url_part(media, url)
