"""Media parts → analyses, without ever holding up the event loop or measuring the same content twice.

Owns the worker threads, the downloads and a bounded cache by content digest: a rehearsal of 20,000 rows over
a few media decodes each of them once. Refusals are not kept, so that a medium that failed is looked at
again.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from types import TracebackType

from pipeline.embedded.analysis import Analysis, analyse
from pipeline.embedded.question import MediaPart
from pipeline.embedded.reading import Fetcher, decode_data_url
from pipeline.embedded.refusals import unreadable
from pipeline.media.probing import UnreadableMedia

WORKERS = min(4, (os.cpu_count() or 1) + 1)
CACHED_ANALYSES = 4096  # about a kilobyte each
_HASHED_AT_ONCE_BYTES = 512 * 1024  # more takes long enough to hash that a thread does it


class Analyst:
    """Opens media while it is entered; one for each server."""

    def __init__(self, measure: Callable[[bytes], Analysis] = analyse) -> None:
        self._measure = measure
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="mediabatch-embedded")
        self._fetcher = Fetcher()
        self._done: OrderedDict[bytes, Analysis] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[Analysis]] = {}

    async def __aenter__(self) -> Analyst:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._fetcher.close()
        # What is being decoded ends by itself, in seconds; nobody waits for it, nor takes its result.
        for running in list(self._running.values()):
            running.cancel()
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def analyse_all(self, parts: Sequence[MediaPart]) -> list[Analysis]:
        """One analysis a part, in order.

        Raises:
            Refusal: the first part, in order, that cannot be had or read.
        """
        return [await self._analyse_part(part) for part in parts]

    async def _analyse_part(self, part: MediaPart) -> Analysis:
        try:
            if part.source[:5].lower() == "data:":
                return await self._analyse_inline(part)
            content = await self._fetcher.fetch(part.source)
            digest = await self._digest(content)
            return await self._once(digest, content)
        except UnreadableMedia as error:
            raise unreadable(part.place, error) from error

    async def _analyse_inline(self, part: MediaPart) -> Analysis:
        """Known by the digest of the URL itself, so that a known one need not even be decoded from base64."""
        # JSON may spell lone surrogates, which are no URL but must not break the hashing of one.
        return await self._once(await self._digest(part.source.encode("utf-8", "surrogatepass")), part)

    async def _digest(self, content: bytes) -> bytes:
        if len(content) <= _HASHED_AT_ONCE_BYTES:
            return sha256(content).digest()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, lambda: sha256(content).digest())

    async def _once(self, digest: bytes, subject: bytes | MediaPart) -> Analysis:
        """The analysis kept under this digest, or under way, or made now."""
        known = self._done.get(digest)
        if known is not None:
            self._done.move_to_end(digest)
            return known
        running = self._running.get(digest)
        if running is None:
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._workers, self._open, subject)
            self._running[digest] = running
            running.add_done_callback(lambda done: self._keep(digest, done))
        # Shielded: a client that hangs up must not take the analysis from the others that wait for it.
        return await asyncio.shield(running)

    def _open(self, subject: bytes | MediaPart) -> Analysis:
        return self._measure(subject if isinstance(subject, bytes) else decode_data_url(subject))

    def _keep(self, digest: bytes, done: asyncio.Future[Analysis]) -> None:
        del self._running[digest]
        if done.cancelled() or done.exception() is not None:
            return
        self._done[digest] = done.result()
        while len(self._done) > CACHED_ANALYSES:
            self._done.popitem(last=False)
