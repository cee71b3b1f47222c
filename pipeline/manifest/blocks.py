"""Text files in bounded blocks, cut at record boundaries, every block knowing the line it begins on.

Owns reading bytes and where a text file begins (after its byte order mark) and ends (before blank lines);
refuses to understand records: the format says where the last whole record of a buffer ends. CSV and NDJSON
come next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import ManifestError

BLOCK_BYTES: Final = 1 << 20
# Three inline media at the size limit, in base64, fit; an open quote does not read a whole file into memory.
MAX_RECORD_BYTES: Final = 128 << 20
UTF8_BOM: Final = b"\xef\xbb\xbf"
_TAIL_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records, as bytes; ``line`` is the number of the first line, from 1."""

    line: int
    content: bytes


@dataclass(frozen=True, slots=True)
class TextFile:
    """What of a text file holds records: ``begin`` and ``end`` in bytes, ``line`` at ``begin``."""

    path: Path
    begin: int
    end: int
    line: int

    def blocks(self, whole_records: Callable[[bytes], int]) -> Iterator[Block]:
        """Blocks of about 1 MiB. ``whole_records`` tells how many bytes of a buffer are whole records.

        The last block may lack its line end, or hold a record that never ends.

        Raises:
            ManifestError: a record is longer than ``MAX_RECORD_BYTES``, or the file got shorter.
        """
        position, line, buffer = self.begin, self.line, b""
        with open(self.path, "rb", buffering=0) as file:
            file.seek(position)
            while position < self.end:
                # Doubling: a record of many megabytes is not looked through once a megabyte.
                chunk = file.read(min(max(BLOCK_BYTES, len(buffer)), self.end - position))
                if not chunk:
                    raise ManifestError(self.path, "got shorter while it was being read; start again")
                position += len(chunk)
                buffer = buffer + chunk if buffer else chunk
                if position >= self.end:
                    break
                if cut := whole_records(buffer):
                    block = Block(line, buffer[:cut])
                    yield block
                    line += block.content.count(b"\n")
                    buffer = buffer[cut:]
                elif len(buffer) > MAX_RECORD_BYTES:
                    raise ManifestError(
                        self.path,
                        f"the record that begins here does not end within {MAX_RECORD_BYTES >> 20} MiB; "
                        "is a closing quote or a line end missing?",
                        line=line,
                    )
        if buffer:
            yield Block(line, buffer)


def text_file(path: Path) -> TextFile:
    """Find where the records of a text file begin and end.

    A byte order mark, and blank lines before the first and after the last record, are no records.
    """
    with open(path, "rb", buffering=0) as file:
        head = file.read(BLOCK_BYTES)
        begin = len(UTF8_BOM) if head.startswith(UTF8_BOM) else 0
        blank = len(head) - begin - len(head[begin:].lstrip(b"\r\n"))
        line = 1 + head.count(b"\n", begin, begin + blank)
        begin += blank
        end = file.seek(0, 2)
        while end > begin:
            start = max(begin, end - _TAIL_BYTES)
            file.seek(start)
            kept = _without_blank_lines(file.read(end - start))
            if kept == end - start:
                break
            end = start + kept
    return TextFile(path, begin, max(begin, end), line)


def _without_blank_lines(tail: bytes) -> int:
    """How much of ``tail`` stays when lines of nothing but spaces are taken off its end."""
    end = len(tail)
    while True:
        last = end
        while last and tail[last - 1] == 0x20:
            last -= 1
        # Spaces after anything but a line end belong to the last cell.
        if not last or tail[last - 1] != 0x0A:
            return end
        end = last - 1
        if end and tail[end - 1] == 0x0D:
            end -= 1


def decoded(path: Path, content: bytes, line: int) -> str:
    """The text of a piece of a file that begins on ``line``.

    Raises:
        ManifestError: a byte is not UTF-8; it names the line.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(
            path,
            f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8",
            line=line + content.count(b"\n", 0, error.start),
        ) from None
