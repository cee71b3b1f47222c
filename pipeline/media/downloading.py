"""Whole media from an address into a file, streamed.

Owns the limits of a download: bytes, time, encodings; what a host answers leaves here as one of our errors.
Refuses to judge the bytes: that is `judging`'s. How a host is asked, `visiting` knows.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import anyio

from pipeline.errors import FetchFailed, MediaMissing, MediaMistaken, MediaOversized, MediaUnreachable
from pipeline.media.guarding import Window
from pipeline.media.visiting import Visitor
from pipeline.off_loop import in_few_threads

MOST_CONNECTIONS: Final = 64
WRITTEN_AT_ONCE_BYTES: Final = 256 * 1024
_PASSING: Final = frozenset({408, 425, 429})
_LONGEST_NAMED_WAIT_S: Final = 120.0

OnSize = Callable[[int], None]
"""Told how many bytes there will be, as soon as that is known."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, and to send the next bytes; for one whole download."""

    connect_s: float = 10.0
    total_s: float = 120.0


class Downloader:
    """Downloads over one pool of connections, for as long as it is open."""

    def __init__(
        self, window: Window, *, patience: Patience = Patience(), ca_file: Path | None = None
    ) -> None:
        self._total_s = patience.total_s
        self._visitor = Visitor(
            window, most_connections=MOST_CONNECTIONS, silence_s=patience.connect_s, ca_file=ca_file
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._visitor)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def download(self, url: str, into: Path, most_bytes: int, on_size: OnSize) -> int:
        """Write what is at ``url`` into a file, and return its size.

        Raises:
            MediaUnreachable: which of them says why; the file holds as much as came.
        """
        try:
            with anyio.fail_after(self._total_s):
                async with self._visitor.visit(url, {}) as found:
                    if found.status != 200:
                        raise _refusal(found.status, found.told)
                    return await _store(found.chunks, found.told, into, most_bytes, on_size)
        except TimeoutError:
            raise FetchFailed(f"it did not arrive within {self._total_s:g} s") from None


def _refusal(status: int, told: Mapping[str, str]) -> MediaUnreachable:
    if status < 500 and status not in _PASSING:
        return MediaMissing(status)
    wait = told.get("retry-after", "")
    named_s = min(float(wait), _LONGEST_NAMED_WAIT_S) if wait.isascii() and wait.isdigit() else None
    return FetchFailed(f"its host answers {status}", retry_after_s=named_s)


async def _store(
    stream: AsyncIterable[bytes], told: Mapping[str, str], into: Path, most_bytes: int, on_size: OnSize
) -> int:
    """The body into the file, unpacked. A stated length is a promise, and what comes is counted."""
    unpacked = _unpacking(told.get("content-encoding", ""), most_bytes)
    length = told.get("content-length", "")
    if length.isdigit() and unpacked is None:
        if int(length) > most_bytes:
            raise MediaOversized(most_bytes)
        on_size(int(length))
    return await write_chunks(stream if unpacked is None else unpacked(stream), into, most_bytes)


async def write_chunks(chunks: AsyncIterable[bytes | memoryview], into: Path, most_bytes: int) -> int:
    """Chunks into a file, off the event loop; given up as soon as they are too many.

    Raises:
        MediaOversized, MediaMistaken: there are too many bytes, or none.
    """
    size_bytes = 0
    waiting = bytearray()
    with into.open("wb", buffering=0) as file:
        async for chunk in chunks:
            size_bytes += len(chunk)
            if size_bytes > most_bytes:
                raise MediaOversized(most_bytes)
            waiting += chunk
            if len(waiting) >= WRITTEN_AT_ONCE_BYTES:
                await in_few_threads(file.write, waiting)
                waiting = bytearray()
        await in_few_threads(file.write, waiting)
    if not size_bytes:
        raise MediaMistaken("it is empty")
    return size_bytes


def _unpacking(
    encoding: str, most_bytes: int
) -> Callable[[AsyncIterable[bytes]], AsyncIterable[bytes]] | None:
    """None was asked for, and some hosts pack what they send all the same. It is unpacked in small steps: a
    bomb ends as a medium that is too large.

    Raises:
        MediaMistaken: it is packed in a way that is not read here.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise MediaMistaken(f"its host sends it packed ({encoding[:40]}), which was not asked for")

    async def unpacked(stream: AsyncIterable[bytes]) -> Any:
        packer = zlib.decompressobj(wbits=47)  # gzip or zlib, by its header
        try:
            async for chunk in stream:
                for piece in _pieces(packer, chunk, most_bytes):
                    yield piece
        except zlib.error:
            raise MediaMistaken("its host sends it packed, and it cannot be unpacked") from None
        if not packer.eof:
            raise MediaMistaken("its host sends it packed, and it is cut off")

    return unpacked


def _pieces(packer: Any, chunk: bytes, most_bytes: int) -> Iterator[bytes]:
    while chunk:
        piece = packer.decompress(chunk, min(most_bytes, 1 << 20))
        chunk = packer.unconsumed_tail
        if not piece and not chunk:
            return
        yield piece
