"""Request bodies that hold media: rendered with a mark for each, which are read and encoded as they are sent.

So a body of many megabytes takes a few hundred kilobytes of memory. A mark is random, so no prompt can hold
one. Small bodies are made whole: sending those in pieces would cost more than it saves.
"""

from __future__ import annotations

import re
import secrets
from binascii import b2a_base64
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.errors import MediaGone
from pipeline.off_loop import in_few_threads

WHOLE_BYTES: Final = 512 * 1024
"""A body no larger than this is made whole."""
READ_AT_ONCE_BYTES: Final = 3 * 64 * 1024  # a multiple of three: base64 without padding in between


@dataclass(frozen=True, slots=True)
class Inlined:
    """A file that stands in a body as a ``data:`` URL, for now as a mark."""

    path: Path
    size_bytes: int
    mime: str
    mark: str

    @property
    def url(self) -> str:
        return f"data:{self.mime};base64,{self.mark}"


def inlined(path: Path, size_bytes: int, mime: str) -> Inlined:
    return Inlined(path, size_bytes, mime, secrets.token_hex(16))


class SplicedBody:
    """A body whose media are read while it is sent; it can be sent more than once. ``len`` is in bytes."""

    def __init__(self, pieces: Sequence[bytes | Inlined]) -> None:
        self._pieces = pieces
        self._size_bytes = sum(
            len(piece) if isinstance(piece, bytes) else _encoded_bytes(piece.size_bytes) for piece in pieces
        )

    def __len__(self) -> int:
        return self._size_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """
        Raises:
            MediaGone: a file is not what it was.
        """
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            left_bytes = piece.size_bytes
            with closing(await in_few_threads(_opened, piece)) as file:
                while left_bytes:
                    chunk = await in_few_threads(_next_chunk, file, piece, left_bytes)
                    left_bytes -= min(left_bytes, READ_AT_ONCE_BYTES)
                    yield chunk

    def whole(self) -> bytes:
        """Blocking."""
        made = []
        for piece in self._pieces:
            if isinstance(piece, bytes):
                made.append(piece)
                continue
            with closing(_opened(piece)) as file:
                content = file.read(piece.size_bytes)
            if len(content) < piece.size_bytes:
                raise _gone(piece)
            made.append(b2a_base64(content, newline=False))
        return b"".join(made)


async def spliced(rendered: bytes, media: Sequence[Inlined]) -> bytes | SplicedBody:
    """The body with the media where their marks are.

    Raises:
        MediaGone: a file is not what it was.
    """
    if not media:
        return rendered
    by_mark = {one.mark.encode(): one for one in media}
    texts = re.split(b"(" + b"|".join(by_mark) + b")", rendered)
    body = SplicedBody([by_mark.get(text, text) for text in texts])
    return await in_few_threads(body.whole) if len(body) <= WHOLE_BYTES else body


def _encoded_bytes(size_bytes: int) -> int:
    return 4 * -(-size_bytes // 3)


def _opened(one: Inlined) -> BinaryIO:
    try:
        return one.path.open("rb")
    except OSError as error:
        raise MediaGone(f"{one.path}: cannot be read any more ({error.strerror})") from None


def _next_chunk(file: BinaryIO, one: Inlined, left_bytes: int) -> bytes:
    wanted = min(left_bytes, READ_AT_ONCE_BYTES)
    content = file.read(wanted)
    if len(content) < wanted:
        raise _gone(one)
    return b2a_base64(content, newline=False)


def _gone(one: Inlined) -> MediaGone:
    return MediaGone(f"{one.path}: became shorter while it was sent")
