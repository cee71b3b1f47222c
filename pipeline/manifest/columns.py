"""Which columns mean what, and what a person probably meant.

Owns the names; refuses cells. ``opening`` checks a file's columns here before it is read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipeline.errors import ManifestError
from pipeline.records import MediaModality

WIDE: Final[dict[str, MediaModality]] = {"image_url": "image", "audio_url": "audio", "video_url": "video"}
READ: Final = (
    *("id", *WIDE, "url", "modality", "media_key", "prompt", "model", "max_tokens"),
    *("system_prompt", "request_parameters"),
)
"""The columns ``Manifest.read`` decodes, in the order in which ``rows`` takes them."""
ASKABLE: Final = (*WIDE, "url", "prompt")
"""At least one of these must be there, or no row could be asked."""

_MEANT: Final = {
    **dict.fromkeys(("image", "img", "imageurl", "imgurl", "picture", "photo", "pic", "图片"), "image_url"),
    **dict.fromkeys(("audio", "audiourl", "sound", "speech", "音频"), "audio_url"),
    **dict.fromkeys(("video", "videourl", "clip", "movie", "视频"), "video_url"),
    **dict.fromkeys(("uri", "link", "href", "file", "path", "media", "mediaurl", "fileurl", "链接"), "url"),
    **dict.fromkeys(("question", "instruction", "text", "query", "提示词"), "prompt"),
    **dict.fromkeys(("maxtokens", "maxtoken"), "max_tokens"),
    **dict.fromkeys(("mediakey", "key"), "media_key"),
}


def check_columns(path: Path, columns: Sequence[str]) -> None:
    """Refuse columns of which no row could be made.

    Raises:
        ManifestError: a name comes twice, or none of ``ASKABLE`` is there.
    """
    seen: set[str] = set()
    for name in columns:
        if name in seen:
            raise ManifestError(path, f"the column {name!r} is there twice; rename one of them")
        seen.add(name)
    if seen.isdisjoint(ASKABLE):
        found = ", ".join(repr(name) for name in columns[:12]) + (", …" if len(columns) > 12 else "")
        expected = ", ".join(ASKABLE[:-1]) + " or " + ASKABLE[-1]
        meant = [(name, guess) for name in columns if (guess := meant_column(name)) in ASKABLE]
        raise ManifestError(
            path,
            f"no column to ask about: found {found}; expected one of {expected}.",
            hint=" ".join(f"Did you mean {guess!r} by {name!r}?" for name, guess in meant[:3]),
        )


def meant_column(name: str) -> str | None:
    """The column a near miss probably stands for; None for a column that means itself or nothing to us."""
    plain = re.sub(r"[\W_]+", "", name).lower()
    if name in READ or not plain:
        return None
    for column in READ:
        if plain == column.replace("_", ""):
            return column
    if plain in _MEANT:
        return _MEANT[plain]
    if plain.endswith("s") and (plain[:-1] in _MEANT or plain[:-1].removesuffix("url") in _MEANT):
        return _MEANT.get(plain[:-1]) or _MEANT[plain[:-1].removesuffix("url")]
    near = difflib.get_close_matches(name.lower(), READ, n=1, cutoff=0.8)
    return near[0] if near else None


def overlooked(columns: Sequence[str]) -> tuple[str, ...]:
    """Sentences about columns that look like ours in other letters and are therefore not read: ``Prompt``."""
    return tuple(
        f"the column {name!r} is not read; name it {column!r} if it is meant"
        for name in columns
        for column in READ
        if name != column and column not in columns and _plain(name) == column.replace("_", "")
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).lower()
