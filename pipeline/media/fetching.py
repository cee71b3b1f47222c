"""The first bytes of a medium at an address, and its last: enough to see how large or how long it is.

Owns how much is read and how long that may take; how a host is asked, `visiting` knows.
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio

from pipeline.errors import MediaMissing, MediaUnreachable
from pipeline.media.guarding import Resolve, Window, resolve
from pipeline.media.visiting import Visitor

HEAD_BYTES = 128 * 1024
TAIL_BYTES = 512 * 1024
MOST_BYTES = 64 * 1024 * 1024
"""Of larger media the end is not looked at: no gateway takes them."""
MOST_CONNECTIONS = 32
_RANGE = re.compile(r"bytes \d+-\d+/(\d+)")


@dataclass(frozen=True, slots=True)
class Glimpse:
    """Its first bytes, and its last where those were asked for; ``size_bytes`` None where nobody tells."""

    head: bytes
    tail: bytes
    size_bytes: int | None

    @property
    def content(self) -> bytes:
        """As large as the medium, with nothing in its middle: containers tell their length at either end."""
        if not self.tail:
            return self.head
        return self.head + bytes((self.size_bytes or 0) - len(self.head) - len(self.tail)) + self.tail


class Looker:
    """Asks for parts of media while it is entered, over a few connections."""

    def __init__(
        self, *, allow_private: bool = False, timeout_s: float = 15.0, resolve: Resolve = resolve
    ) -> None:
        self._timeout_s = timeout_s
        window = Window(allow_private=allow_private, resolve=resolve)
        self._visitor = Visitor(window, most_connections=MOST_CONNECTIONS, silence_s=timeout_s)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._visitor)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def glimpse(self, url: str, *, with_tail: bool) -> Glimpse:
        """
        Raises:
            MediaUnreachable: it does not answer, answers with an error, or may not be asked.
        """
        try:
            with anyio.fail_after(self._timeout_s):
                head = await self._part(url, 0, HEAD_BYTES)
                left = (head.size_bytes or 0) - len(head.content)
                tail = b""
                if with_tail and head.is_part and left > 0 and (head.size_bytes or 0) <= MOST_BYTES:
                    first = len(head.content) + max(0, left - TAIL_BYTES)
                    found = await self._part(head.url, first, TAIL_BYTES)
                    tail = found.content if found.is_part else b""
                return Glimpse(head.content, tail, head.size_bytes)
        except TimeoutError:
            raise MediaUnreachable(f"it did not answer within {self._timeout_s:g} s") from None

    async def _part(self, url: str, first: int, most: int) -> _Part:
        async with self._visitor.visit(url, {"Range": f"bytes={first}-{first + most - 1}"}) as found:
            if found.status not in (200, 206):
                raise MediaMissing(found.status)
            content = bytearray()
            async for chunk in found.chunks:
                content += chunk
                if len(content) >= most:
                    break
            is_part = found.status == 206
            ranged = _RANGE.fullmatch(found.told.get("content-range", ""))
            length = found.told.get("content-length", "")
            size = int(ranged[1]) if ranged else int(length) if length.isdigit() and not is_part else None
            return _Part(bytes(content[:most]), size, found.url, is_part)


@dataclass(frozen=True, slots=True)
class _Part:
    """``url``: where it was found in the end; ``is_part``: the server gives parts when asked for them."""

    content: bytes
    size_bytes: int | None
    url: str
    is_part: bool
