"""What an answer is said to have used, in the layout of the gateway that it stands in for.

``prompt_tokens`` holds everything; the details name text and audio only, a video's soundtrack being audio.
Images, videos and documents are the remainder that nobody names, as in the recorded example: whoever reads
usage has to cope with exactly that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.embedded.analysis import Analysis
from pipeline.media.probing import AudioFacts, DocumentFacts, ImageFacts, VideoFacts
from pipeline.tokens import (
    TokenRules,
    audio_tokens,
    document_tokens,
    image_tokens,
    text_tokens,
    video_tokens,
)


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """``unnamed`` are those of images, videos without their sound, and documents."""

    text: int
    audio: int
    unnamed: int

    @property
    def total(self) -> int:
        return self.text + self.audio + self.unnamed


def count_prompt(rules: TokenRules, text: str, media: Iterable[tuple[Analysis, str | None]]) -> PromptTokens:
    """The input's tokens; each medium comes with the request's word for its resolution, or None."""
    audio = unnamed = 0
    for analysis, detail in media:
        match analysis.facts:
            case ImageFacts() as facts:
                unnamed += image_tokens(rules, facts.width_px, facts.height_px, detail=detail)
            case AudioFacts() as facts:
                audio += audio_tokens(rules, facts.duration_s)
            case VideoFacts() as facts:
                soundtrack_s = None if facts.soundtrack is None else facts.soundtrack.duration_s
                tokens = video_tokens(rules, facts.duration_s, soundtrack_s=soundtrack_s, detail=detail)
                audio += tokens.soundtrack
                unnamed += tokens.picture
            case DocumentFacts() as facts:
                unnamed += document_tokens(rules, facts.pages)
    return PromptTokens(text_tokens(rules, text), audio, unnamed)


def cut_to_tokens(rules: TokenRules, text: str, max_tokens: int | None) -> tuple[str, bool]:
    """The longest beginning of a text that keeps the limit, and whether that cut something off."""
    if max_tokens is None or text_tokens(rules, text) <= max_tokens:
        return text, False
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if text_tokens(rules, text[:middle]) <= max_tokens:
            fits = middle
        else:
            too_long = middle
    return text[:fits], True


def usage(prompt: PromptTokens, completion_tokens: int) -> dict[str, object]:
    """The reply's ``usage``, key by key that of the recorded example."""
    return {
        "prompt_tokens": prompt.total,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt.total + completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "text_tokens": prompt.text,
            "audio_tokens": prompt.audio,
            "image_tokens": 0,
        },
        "completion_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0},
        "output_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0},
        "input_tokens": 0,
        "output_tokens": 0,
        "input_tokens_details": None,
        "claude_cache_creation_5_m_tokens": 0,
        "claude_cache_creation_1_h_tokens": 0,
    }
