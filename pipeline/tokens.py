"""How many input tokens a text or a medium is, by the rules of ``data/token_rules.toml``.

Owns the arithmetic and the table's shape; refuses to look at a medium itself (``pipeline.media.probing``
says how large and how long it is) and knows no HTTP. The embedded endpoint bills by these functions and an
estimate foretells by them, so that the two agree to the token. All counts are integers, all fractions round
up.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache
from importlib.resources import files
from math import ceil
from typing import Any


@dataclass(frozen=True, slots=True)
class TextRule:
    tokens_per_100_chars: int
    tokens_per_100_cjk_chars: int


@dataclass(frozen=True, slots=True)
class ImageRule:
    """``base_tokens``, and ``tile_tokens`` a tile after scaling down; without ``tile_px`` any size is one."""

    base_tokens: int
    tile_tokens: int = 0
    tile_px: int | None = None
    fit_px: int | None = None  # the square an image is first scaled down into
    short_side_px: int | None = None  # what its shorter side is then scaled down to
    small_px: int | None = None  # with both sides at most this: small_tokens
    small_tokens: int = 0
    by_detail: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AudioRule:
    tokens_per_s: int


@dataclass(frozen=True, slots=True)
class VideoRule:
    """One frame is looked at each started second; the soundtrack is audio beside it."""

    tokens_per_frame: int
    by_detail: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentRule:
    tokens_per_page: int


@dataclass(frozen=True, slots=True)
class TokenRules:
    """One family of models. ``assumed`` names the modalities for which its vendor publishes no rule."""

    family: str
    patterns: tuple[str, ...]
    example_model: str
    as_of: date
    sources: tuple[str, ...]
    assumed: frozenset[str]
    text: TextRule
    image: ImageRule
    audio: AudioRule
    video: VideoRule
    document: DocumentRule


@dataclass(frozen=True, slots=True)
class VideoTokens:
    """A video's two counts: its pictures, and its soundtrack, which is billed as audio."""

    picture: int
    soundtrack: int


def rules_for(model: str) -> TokenRules:
    """The rules of the first family whose pattern matches ``model``; the last family matches every name."""
    name = model.lower().rpartition("/")[2]
    return next(
        rules for rules in load_rules() if any(fnmatchcase(name, pattern) for pattern in rules.patterns)
    )


@cache
def load_rules() -> tuple[TokenRules, ...]:
    """The shipped table, in its order."""
    return parse_rules(tomllib.loads((files("data") / "token_rules.toml").read_text(encoding="utf-8")))


def parse_rules(table: Mapping[str, Any]) -> tuple[TokenRules, ...]:
    """A parsed rules file as records.

    Raises:
        TypeError, KeyError: the file has a field that no rule knows, or lacks one.
        ValueError: the last family does not match every name, so some model would have no rules.
    """
    families: Sequence[Mapping[str, Any]] = table["family"]
    rules = tuple(
        TokenRules(
            family=entry["name"],
            patterns=tuple(entry["patterns"]),
            example_model=entry["example_model"],
            as_of=entry["as_of"],
            sources=tuple(entry["sources"]),
            assumed=frozenset(entry["assumed"]),
            text=TextRule(**entry["text"]),
            image=ImageRule(**entry["image"]),
            audio=AudioRule(**entry["audio"]),
            video=VideoRule(**entry["video"]),
            document=DocumentRule(**entry["document"]),
        )
        for entry in families
    )
    if not rules or "*" not in rules[-1].patterns:
        raise ValueError(
            "the last family of the token rules has to match every model: give it the pattern '*'"
        )
    return rules


def text_tokens(rules: TokenRules, text: str) -> int:
    """Tokens of a text: so many for each hundred characters, CJK ones by a rate of their own."""
    cjk = sum(map(is_cjk, text))
    hundredths = (
        len(text) - cjk
    ) * rules.text.tokens_per_100_chars + cjk * rules.text.tokens_per_100_cjk_chars
    return -(-hundredths // 100)


def image_tokens(rules: TokenRules, width_px: int, height_px: int, *, detail: str | None = None) -> int:
    """Tokens of an image; ``detail`` is the request's word for its resolution, an unknown one is ignored."""
    rule = rules.image
    if detail is not None and detail in rule.by_detail:
        return rule.by_detail[detail]
    if rule.small_px is not None and max(width_px, height_px) <= rule.small_px:
        return rule.small_tokens
    if rule.tile_px is None:
        return rule.base_tokens
    scale = Fraction(1)
    if rule.fit_px is not None:
        scale = min(scale, Fraction(rule.fit_px, max(width_px, height_px)))
    if rule.short_side_px is not None:
        scale = min(scale, Fraction(rule.short_side_px, min(width_px, height_px)))
    tiles = ceil(width_px * scale / rule.tile_px) * ceil(height_px * scale / rule.tile_px)
    return rule.base_tokens + tiles * rule.tile_tokens


def audio_tokens(rules: TokenRules, duration_s: float) -> int:
    """Tokens of a sound of this length, which is taken to the millisecond."""
    return -(-_milliseconds(duration_s) * rules.audio.tokens_per_s // 1000)


def video_tokens(
    rules: TokenRules, duration_s: float, *, soundtrack_s: float | None, detail: str | None = None
) -> VideoTokens:
    """Tokens of a video; ``soundtrack_s`` is None where it has no sound."""
    per_frame = rules.video.tokens_per_frame
    if detail is not None:
        per_frame = rules.video.by_detail.get(detail, per_frame)
    frames = max(1, -(-_milliseconds(duration_s) // 1000))
    sound = 0 if soundtrack_s is None else audio_tokens(rules, soundtrack_s)
    return VideoTokens(picture=frames * per_frame, soundtrack=sound)


def document_tokens(rules: TokenRules, pages: int | None) -> int:
    """Tokens of a document; one whose pages cannot be counted is taken for one page."""
    return max(1, pages or 1) * rules.document.tokens_per_page


def is_cjk(character: str) -> bool:
    """Whether a character is Chinese, Japanese or Korean writing, its full-width punctuation included."""
    return (
        "\u2e80" <= character <= "\u9fff"  # radicals, kana, CJK punctuation and ideographs
        or "\uac00" <= character <= "\ud7af"  # hangul
        or "\uf900" <= character <= "\ufaff"  # compatibility ideographs
        or "\uff00" <= character <= "\uffef"  # full-width forms
        or "\U00020000" <= character <= "\U0003ffff"  # the rarer ideographs
    )


def _milliseconds(duration_s: float) -> int:
    """To the millisecond, so that 6.000000001 s of a container's arithmetic is no seventh second."""
    return max(0, round(duration_s * 1000))
