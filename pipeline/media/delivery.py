"""Media as an endpoint can read them: URLs are passed on, local files go inline as ``data:`` URLs.

Local files are read per attempt, so that an item asleep in backoff holds no body bytes.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import anyio.to_thread

from pipeline.errors import MediaGone
from pipeline.media.kinds import MAX_INLINE_BYTES, mime_of_path
from pipeline.records import Media


async def deliverable_urls(media: tuple[Media, ...]) -> list[str]:
    """One URL per medium, in order.

    Raises:
        MediaGone: a local file went away or grew past the limit after the manifest was read.
    """
    return [await anyio.to_thread.run_sync(_inline, one) if one.is_local else one.url for one in media]


def _inline(media: Media) -> str:
    path = media.url
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise MediaGone(f"{path}: cannot be read any more ({error.strerror})") from None
    if len(content) > MAX_INLINE_BYTES:
        raise MediaGone(
            f"{path}: grew to {len(content)} bytes; the limit for inline media is {MAX_INLINE_BYTES}"
        )
    return f"data:{mime_of_path(path, media.modality)};base64,{b64encode(content).decode()}"
