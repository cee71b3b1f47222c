"""Media as an endpoint can read them: URLs as they stand, objects in buckets signed, files inlined.

Owns what stands in a body for each medium. Where media are fetched to go inline, `inlining` has done that
before, and `reach` has decided which; by default nothing is fetched, and neither of them is imported. Local
files are read while they are sent, so that an item asleep in backoff holds no bytes.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from pipeline.errors import MediaGone
from pipeline.media.kinds import MAX_INLINE_BYTES, mime_of_path
from pipeline.media.splicing import Inlined, inlined
from pipeline.media.spool import Blob
from pipeline.records import DeliveryKind, Media, Request
from pipeline.tokens import image_tokens, rules_for

if TYPE_CHECKING:
    from pipeline.media.buckets import Buckets
    from pipeline.media.guarding import Window
    from pipeline.media.inlining import Inliner
    from pipeline.media.reach import Reach

Fetched = Mapping[Media, Blob]
"""Media that were fetched to go inline, where they are now."""


MISSING_EXTRA = "media in buckets need an extra: pip install 'mediabatch[cloud]'"
LONGEST_DOWNLOAD_S = 120.0


def has_extra() -> bool:
    """Whether media in buckets can be reached; nothing is imported for it."""
    return find_spec("obstore") is not None


@dataclass(slots=True)
class Saved:
    """What making images smaller has saved in this session: tokens by the token rules, an estimate."""

    images: int = 0
    tokens: int = 0


class Delivery:
    """Of one run. No ``inliner``: media go as URLs; a ``reach``: inline where that is needed (`auto`)."""

    def __init__(self, inliner: Inliner | None = None, reach: Reach | None = None) -> None:
        self.inliner = inliner
        self.reach = reach
        self.saved = Saved()
        self._buckets: Buckets | None = None

    async def to_fetch(self, request: Request, *, everything: bool) -> list[Media]:
        """The media of a request that go inline and are not at hand as they are to be sent."""
        if self.inliner is None:
            return []
        chosen = []
        for media in request.media:
            if media.is_local or media.url.startswith("data:"):
                if request.image_max_px is not None and media.modality == "image":
                    chosen.append(media)
            elif everything or self.reach is None or await self.reach.is_out_of(media):
                chosen.append(media)
        return chosen

    async def deliver(self, request: Request, fetched: Fetched) -> tuple[list[str], Sequence[Inlined]]:
        """One URL per medium, in order, and the files that some of them stand for.

        Raises:
            MediaGone: a local file went away or grew past the limit after the manifest was read; or an object
                cannot be signed.
        """
        if not fetched:
            for media in request.media:
                if not media.is_ready:
                    break
            else:  # nearly always: nothing is to be done
                return [media.url for media in request.media], ()
        urls: list[str] = []
        files: list[Inlined] = []
        for media in request.media:
            blob = fetched.get(media)
            if blob is None and media.is_ready:
                urls.append(media.url)
            elif blob is None and media.is_in_bucket:
                urls.append(await self._signed(media.url))
            else:
                file = await anyio.to_thread.run_sync(_local, media) if blob is None else _at_hand(blob)
                files.append(file)
                urls.append(file.url)
        return urls, files

    def count_saved(self, request: Request, blobs: Sequence[Blob]) -> None:
        """An answer has come about these."""
        for blob in blobs:
            if blob.before_px is not None and blob.after_px is not None:
                rules = rules_for(request.model)
                self.saved.images += 1
                self.saved.tokens += image_tokens(rules, *blob.before_px) - image_tokens(
                    rules, *blob.after_px
                )

    async def _signed(self, url: str) -> str:
        if self._buckets is None:
            from pipeline.media.buckets import Buckets
            from pipeline.media.downloading import Patience

            self._buckets = Buckets(Patience())
        return await self._buckets.signed(url)


@asynccontextmanager
async def open_delivery(
    kind: DeliveryKind,
    *,
    allow_private: bool = False,
    timeout_s: float = LONGEST_DOWNLOAD_S,
    ca_file: Path | None = None,
    window: Window | None = None,
) -> AsyncIterator[Delivery]:
    """``allow_private``: media may be fetched from this network; ``timeout_s``: for one download; ``window``:
    what they are fetched through instead."""
    if kind == "url":
        yield Delivery()
        return
    # An HTTP client and decoders, which passing URLs on never needs.
    from pipeline.media.downloading import Patience
    from pipeline.media.guarding import Window
    from pipeline.media.inlining import Inliner
    from pipeline.media.reach import Reach

    total_s = min(timeout_s, LONGEST_DOWNLOAD_S)
    patience = Patience(connect_s=min(Patience().connect_s, total_s), total_s=total_s)
    window = window or Window(allow_private=allow_private)
    async with Inliner(window, patience, ca_file) as inliner:
        yield Delivery(inliner, Reach(window.resolve) if kind == "auto" else None)


def _at_hand(blob: Blob) -> Inlined:
    return inlined(blob.path, blob.size_bytes, blob.mime)


def _local(media: Media) -> Inlined:
    path = media.url
    try:
        size_bytes = os.stat(path).st_size
    except OSError as error:
        raise MediaGone(f"{path}: cannot be read any more ({error.strerror})") from None
    if size_bytes > MAX_INLINE_BYTES:
        raise MediaGone(
            f"{path}: grew to {size_bytes} bytes; the limit for inline media is {MAX_INLINE_BYTES}"
        )
    mime = mime_of_path(path, media.modality)
    assert mime is not None  # there is one for every modality
    return inlined(Path(path), size_bytes, mime)
