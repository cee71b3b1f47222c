"""Media that go inline: fetched, judged, made smaller where that is asked for, and kept for a while.

Owns what it takes to have a medium in a file as it will be sent: where it comes from, its limits, the threads
in which it is looked at. Refuses to decide which media go inline. Next: `delivery` puts files into bodies.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote_to_bytes

import anyio
import anyio.to_thread

from pipeline.errors import MediaMistaken, MediaOversized, MediaUnreachable
from pipeline.media.buckets import Buckets
from pipeline.media.downloading import Downloader, Patience
from pipeline.media.guarding import Window
from pipeline.media.judging import judged_mime
from pipeline.media.kinds import MAX_INLINE_BYTES
from pipeline.media.probing import UnreadableMedia
from pipeline.media.shrinking import shrunk
from pipeline.media.spool import Blob, Held, Spool, Wanted
from pipeline.media.urls import storable
from pipeline.off_loop import in_few_threads
from pipeline.records import Media, Request

MOST_BYTES_TO_SHRINK: Final = 64 * 1000 * 1000
"""Largest image that is fetched to be made smaller."""
SHRUNK_AT_ONCE: Final = 2
"""Threads. Decoding takes four bytes a pixel: at most 360 MB each, some 50 MB for a camera's picture."""


@dataclass(slots=True)
class Inliner:
    """For as long as a run lasts. ``patience`` is that of one download."""

    window: Window
    patience: Patience = Patience()
    ca_file: Path | None = None
    spool: Spool = field(default_factory=Spool)
    _downloader: Downloader = field(init=False)
    _buckets: Buckets = field(init=False)
    _shrinking: anyio.CapacityLimiter = field(init=False)
    _open: AsyncExitStack = field(init=False, default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        self._shrinking = anyio.CapacityLimiter(SHRUNK_AT_ONCE)
        self._buckets = Buckets(self.patience)
        self._open.callback(self.spool.close)
        self._downloader = await self._open.enter_async_context(
            Downloader(self.window, patience=self.patience, ca_file=self.ca_file)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def fetch(self, request: Request, media: Sequence[Media]) -> Held:
        """These media of a request, once there is room for all of them; in their order.

        Raises:
            MediaUnreachable: one of them cannot be had.
            StoreUnwritable: the disk for them takes no more.
        """
        return await self.spool.hold([self._wanted(one, request.image_max_px) for one in media])

    def _wanted(self, media: Media, max_px: int | None) -> Wanted:
        if media.modality != "image":
            max_px = None
        most_bytes = MAX_INLINE_BYTES if max_px is None else MOST_BYTES_TO_SHRINK
        # By its URL without signature: what is signed anew for every row is still fetched once.
        key = (media.modality, storable(media.url), max_px)
        return Wanted(key, most_bytes, partial(self._make, media, max_px, most_bytes))

    async def _make(
        self, media: Media, max_px: int | None, most_bytes: int, path: Path, on_size: Callable[[int], None]
    ) -> Blob:
        read: Callable[[], bytes] = path.read_bytes
        try:
            if media.is_in_bucket:
                await self._buckets.download(media.url, path, most_bytes, on_size)
            elif media.is_ready and not media.url.startswith("data:"):
                await self._downloader.download(media.url, path, most_bytes, on_size)
            else:
                read = partial(_at_hand, media)
            if max_px is None:
                blob = await in_few_threads(_judged, path, media)
            else:
                blob = await anyio.to_thread.run_sync(
                    _smaller, read, path, media, max_px, limiter=self._shrinking
                )
            if blob.size_bytes > MAX_INLINE_BYTES:
                raise MediaOversized(MAX_INLINE_BYTES)
        except MediaUnreachable as error:
            error.url = storable(media.url)
            raise
        return blob


def _at_hand(media: Media) -> bytes:
    """What needs no fetching. It is read when it is to be made smaller, and not copied before."""
    if media.is_local:
        try:
            return Path(media.url).read_bytes()
        except OSError as error:
            raise MediaUnreachable(f"it cannot be read any more ({error.strerror})") from None
    header, _, payload = media.url.partition(",")
    content = unquote_to_bytes(payload)
    if not header.lower().endswith(";base64"):
        return content
    try:
        return a2b_base64(content)
    except Base64Error as error:
        raise MediaMistaken(f"its base64 is broken ({error})") from None


def _judged(path: Path, media: Media) -> Blob:
    content = path.read_bytes()
    return Blob(path, len(content), judged_mime(content, media.modality))


def _smaller(read: Callable[[], bytes], path: Path, media: Media, max_px: int) -> Blob:
    content = read()
    mime = judged_mime(content, media.modality)
    try:
        made = shrunk(content, max_px)
    except UnreadableMedia as error:
        raise MediaMistaken(f"it cannot be made smaller: {error.reason}") from None
    if made is None:
        path.write_bytes(content)
        return Blob(path, len(content), mime)
    path.write_bytes(made.content)
    return Blob(path, len(made.content), made.mime, made.before_px, made.after_px)
