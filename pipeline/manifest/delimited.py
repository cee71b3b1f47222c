"""CSV and TSV: the structural scan, and blocks that polars parses.

Quotes are RFC 4180's: a cell that begins with a quote may hold separators, line ends and doubled quotes; a
quote anywhere else is damage, since nobody could say what was meant. A blank line is no record; where the
file has a single column it is a record with an empty cell, except at the end of the file.

The scan never looks at single records while all is well. What is outside quotes, reduced to separators and
line ends, must be the same few bytes again and again; only a block that differs is gone through record by
record.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from pipeline.errors import ManifestError
from pipeline.manifest.blocks import BLOCK_BYTES, Block, TextFile, decoded, text_file
from pipeline.manifest.columns import check_columns

_STRAY = (
    "a quote inside a cell that does not begin with one; quote the whole cell and double the quotes in it"
)
_TRAILING = "text after a closing quote; double the quotes that belong to the cell"
_UNENDED = "the quoted cell that begins in this record never ends"


@dataclass(frozen=True)
class Delimited:
    """One CSV or TSV file. ``body`` is what follows the header."""

    path: Path
    separator: bytes
    columns: tuple[str, ...]
    body: TextFile

    @cached_property
    def rows_total(self) -> int:
        """Scan the file.

        Raises:
            ManifestError: a record has not the header's number of cells, a quote is astray, or a byte is
                not UTF-8; it names the line.
        """
        return sum(self._checked(block)[1] for block in self._blocks())

    def cells(self, wanted: Sequence[str]) -> Iterator[list[list[object]]]:
        """The cells of the wanted columns, column by column, a block at a time."""
        for frame in self._frames(wanted):
            yield [frame[name].to_list() for name in wanted]

    def frames(self) -> Iterator[pl.DataFrame]:
        """All columns as text, as it stands in the file."""
        return self._frames(self.columns)

    def _frames(self, wanted: Sequence[str]) -> Iterator[pl.DataFrame]:
        # Names of our own: the file's may be empty, or such as polars would change.
        schema = {f"c{i}": pl.String() for i in range(len(self.columns))}
        header = self.separator.join(name.encode() for name in schema) + b"\n"
        chosen = {f"c{self.columns.index(name)}": name for name in wanted}
        for block in self._blocks():
            content, rows = self._checked(block)
            if not rows:
                continue
            try:
                frame = pl.read_csv(
                    header + content, schema=schema, columns=list(chosen), separator=self.separator.decode()
                )
            except pl.exceptions.PolarsError as error:
                raise ManifestError(self.path, f"polars cannot read it: {error}", line=block.line) from error
            if frame.height != rows:
                raise ManifestError(
                    self.path,
                    f"polars finds {frame.height} records from here on, not {rows}",
                    line=block.line,
                )
            yield pl.DataFrame({name: frame.get_column(ours) for ours, name in chosen.items()})

    def _blocks(self) -> Iterator[Block]:
        return self.body.blocks(whole_records)

    def _checked(self, block: Block) -> tuple[bytes, int]:
        """The block without blank lines, and how many records it holds."""
        content = block.content if block.content.endswith(b"\n") else block.content + b"\n"
        if not content.isascii():
            decoded(self.path, content, block.line)
        plain = self._outside_quotes(content)
        if plain is not None:
            rows = plain.count(b"\n")
            # A single column's blank line is an empty cell; polars wants to see one.
            blank = len(self.columns) == 1 and re.search(rb"(?:^|\n)\r?\n", content)
            if not blank and plain == (self.separator * (len(self.columns) - 1) + b"\n") * rows:
                return content, rows
        return self._record_by_record(content, block.line)

    def _outside_quotes(self, content: bytes) -> bytes | None:
        """Separators and line ends outside quotes, all else left out; None where a quote is astray."""
        if b'"' in content:
            pieces = content.split(b'"')
            if len(pieces) % 2 == 0:
                return None
            # Quoted text shrinks to one quote, a cell to a run of quotes: it must stand between separators.
            content = b'"'.join(pieces[::2])
            shape = content.translate(_shape_table(self.separator))
            if b'x"' in shape or b'"x' in shape or b'\r"' in shape or re.search(rb'"\r(?!\n)', shape):
                return None
        return content.translate(None, delete=_all_but(self.separator))

    def _record_by_record(self, content: bytes, line: int) -> tuple[bytes, int]:
        records: list[bytes] = []
        for offset, record in _records(content):
            text = record.removesuffix(b"\n").removesuffix(b"\r")
            if not text:
                if len(self.columns) == 1:
                    records.append(b'""\n')
                continue
            found = _cells_of(text, self.separator)
            if isinstance(found, str):
                raise ManifestError(self.path, found, line=line + offset)
            if found != len(self.columns):
                cells = "1 cell" if found == 1 else f"{found} cells"
                raise ManifestError(
                    self.path, f"{cells}, where the header has {len(self.columns)}", line=line + offset
                )
            records.append(record)
        return b"".join(records), len(records)


def open_delimited(path: Path, separator: bytes) -> Delimited:
    """Read the header; the rest is scanned by ``rows_total``.

    Raises:
        ManifestError: the file holds nothing, or its header is no header of ours.
    """
    whole = text_file(path)
    if whole.begin == whole.end:
        raise ManifestError(path, "is empty")
    header, lines = _header(whole)
    text = decoded(path, header, whole.line).removesuffix("\n").removesuffix("\r")
    if "\0" in text:
        raise ManifestError(
            path, "is not UTF-8 text (it looks like UTF-16, or no text at all); save it as UTF-8"
        )
    if "\r" in text and "\n" not in text and not text.startswith('"'):
        raise ManifestError(path, "its lines end in CR alone; save it with LF or CRLF line ends")
    found = _cells_of(text.encode(), separator)
    if isinstance(found, str):
        raise ManifestError(path, found, line=whole.line)
    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator.decode(), strict=True))
    columns = tuple(name.strip() or f"column_{number}" for number, name in enumerate(names, 1))
    _check_separator(path, columns, separator)
    check_columns(path, columns)
    body = TextFile(path, min(whole.begin + len(header), whole.end), whole.end, whole.line + lines)
    return Delimited(path, separator, columns, body)


def whole_records(buffer: bytes) -> int:
    """How many bytes of a buffer that begins with a record are whole records; 0 where none is."""
    end = len(buffer)
    quoted = buffer.count(b'"') % 2 == 1
    while end > 0:
        quote = buffer.rfind(b'"', 0, end)
        if not quoted and (newline := buffer.rfind(b"\n", quote + 1, end)) >= 0:
            return newline + 1
        end, quoted = quote, not quoted
    return 0


def _header(whole: TextFile) -> tuple[bytes, int]:
    with open(whole.path, "rb") as file:
        file.seek(whole.begin)
        start = file.read(min(BLOCK_BYTES, whole.end - whole.begin))
    _, header = next(_records(start))
    return header, header.count(b"\n")


def _check_separator(path: Path, columns: Sequence[str], separator: bytes) -> None:
    if len(columns) > 1:
        return
    for other, name, ending in ((",", "commas", ".csv"), ("\t", "tabs", ".tsv"), (";", "semicolons", "")):
        if other.encode() != separator and other in columns[0]:
            mend = f"name it {ending}" if ending else "save it with commas"
            raise ManifestError(path, f"its cells look separated by {name}; {mend}", line=1)


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Records with their line ends, and the lines before each. A CR alone ends no line."""
    lines: list[bytes] = []
    quoted = False
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
        lines.append(line)
        quoted ^= line.count(b'"') % 2 == 1
        if not quoted:
            yield number - len(lines), b"\n".join(lines) + b"\n"
            lines = []
    if lines:
        yield number - len(lines), b"\n".join(lines) + b"\n"


def _cells_of(record: bytes, separator: bytes) -> int | str:
    """How many cells a record has, or what is wrong with its quotes."""
    cell = re.compile(rb'"(?:[^"]++|"")*+"|[^"\n' + separator + rb"]*+")
    position, cells = 0, 0
    while True:
        found = cell.match(record, position)
        assert found is not None  # the second branch matches nothing at all, too
        position, cells = found.end(), cells + 1
        if position == len(record):
            return cells
        if record[position : position + 1] != separator:
            if record[position : position + 1] == b'"' and position == found.start():
                return _UNENDED
            return _TRAILING if found[0].startswith(b'"') else _STRAY
        position += 1


def _all_but(separator: bytes) -> bytes:
    return bytes(byte for byte in range(256) if byte not in separator + b"\n")


def _shape_table(separator: bytes) -> bytes:
    return bytes(byte if byte in separator + b'\n\r"' else 0x78 for byte in range(256))
