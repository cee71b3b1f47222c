"""Media → how many input tokens the rules give them, from what their first bytes state."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote_to_bytes

import anyio.to_thread
from anyio import CapacityLimiter

from pipeline.media.fetching import Looker
from pipeline.media.guarding import MediaUnreachable
from pipeline.media.probing import (
    AudioFacts,
    DocumentFacts,
    ImageFacts,
    MediaFacts,
    UnreadableMedia,
    VideoFacts,
    check_whole,
    probe,
)
from pipeline.records import CountModality, Media
from pipeline.tokens import TokenRules, audio_tokens, document_tokens, image_tokens, video_tokens


async def look(media: Media, looker: Looker, opened: CapacityLimiter) -> MediaFacts:
    """``opened`` limits how many are opened at once.

    Raises:
        MediaUnreachable: it cannot be had.
        UnreadableMedia: it can, and is none.
    """
    if media.is_local:
        try:
            return await anyio.to_thread.run_sync(facts_of, Path(media.url))
        except OSError as error:
            raise MediaUnreachable(f"it cannot be read ({error.strerror})") from None
    glimpse = await looker.glimpse(media.url, with_tail=media.modality in ("audio", "video"))
    # Its content is as large as the medium, if mostly empty: few at once.
    return await anyio.to_thread.run_sync(lambda: probe(glimpse.content), limiter=opened)


def facts_of(whole: Path | bytes) -> MediaFacts:
    """
    Raises:
        OSError: the file cannot be read.
        UnreadableMedia: it is no medium, or a broken one.
    """
    content = whole.read_bytes() if isinstance(whole, Path) else whole
    check_whole(content)
    return probe(content)


def inline_content(url: str) -> bytes:
    """Raises UnreadableMedia where its base64 is broken."""
    header, _, payload = url.partition(",")
    try:
        return b64decode(payload) if header.endswith(";base64") else unquote_to_bytes(payload)
    except ValueError:
        raise UnreadableMedia("medium", "its data: URL is broken") from None


def media_tokens(rules: TokenRules, facts: Iterable[MediaFacts]) -> dict[CountModality, int]:
    """By modality; a video's soundtrack is audio. Modalities without tokens are left out."""
    tokens: dict[CountModality, int] = {}
    for fact in facts:
        for modality, count in _tokens_of(rules, fact).items():
            tokens[modality] = tokens.get(modality, 0) + count
    return {modality: count for modality, count in tokens.items() if count}


def _tokens_of(rules: TokenRules, fact: MediaFacts) -> dict[CountModality, int]:
    match fact:
        case ImageFacts():
            return {"image": image_tokens(rules, fact.width_px, fact.height_px)}
        case AudioFacts():
            return {"audio": audio_tokens(rules, fact.duration_s)}
        case VideoFacts():
            soundtrack_s = None if fact.soundtrack is None else fact.soundtrack.duration_s
            told = video_tokens(rules, fact.duration_s, soundtrack_s=soundtrack_s)
            return {"video": told.picture, "audio": told.soundtrack}
        case DocumentFacts():
            return {"document": document_tokens(rules, fact.pages)}
