"""How many tokens a request will need: what similar ones needed so far."""

from __future__ import annotations

from pipeline.records import Request

CHARACTERS_PER_TOKEN = 3
TOKENS_PER_MEDIA = 1_000
ANSWERED_SHARE = 0.25
"""Guesses that hold until the first reply; of `max_tokens`, how much an answer uses."""
SMOOTHED_OVER = 64
"""Replies: of so many, one that is different moves the mean noticeably."""

Kind = tuple[str, ...]
"""Model and modalities of a request."""


class TokenNeeds:
    """Mean tokens of a reply, by model and kinds of media."""

    def __init__(self) -> None:
        self._seen: dict[Kind, tuple[int, float]] = {}  # replies, mean tokens

    def of(self, request: Request) -> float:
        """Tokens in and out that this request is expected to use."""
        seen = self._seen.get(_kind(request))
        return seen[1] if seen is not None else guess(request)

    def learn(self, request: Request, tokens: int) -> None:
        kind = _kind(request)
        replies, mean = self._seen.get(kind, (0, 0.0))
        replies = min(replies + 1, SMOOTHED_OVER)
        self._seen[kind] = (replies, mean + (tokens - mean) / replies)


def _kind(request: Request) -> Kind:
    return (request.model, *[media.modality for media in request.media])


def guess(request: Request) -> float:
    """Before anything is known: by the prompt's length, the media and the longest answer allowed."""
    longest = request.parameters.get("max_tokens")
    answer = ANSWERED_SHARE * longest if isinstance(longest, int) else 0.0
    text = len(request.prompt) + len(request.system or "")
    if request.schema is not None:
        text += len(request.schema.response_format)
    return text / CHARACTERS_PER_TOKEN + TOKENS_PER_MEDIA * len(request.media) + answer
