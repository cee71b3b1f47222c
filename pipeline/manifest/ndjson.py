"""NDJSON: one JSON object a line, each with the keys it likes.

``read`` takes the values as they are. ``frames`` needs one type a column for all lines of all files: whole
numbers, numbers, booleans, texts and lists of texts stay what they are; what is mixed or nested becomes text
(a text as it is, anything else as JSON). Blank lines are no records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import orjson
import polars as pl

from pipeline.errors import ManifestError
from pipeline.manifest.blocks import Block, TextFile, decoded, text_file

# `int` is exact as a float, too; `long` fits 64 bits; `huge` does not.
Kind = Literal["bool", "int", "long", "huge", "float", "text", "texts", "nested"]

_TYPES: Final[dict[frozenset[Kind], pl.DataType]] = {
    frozenset(("bool",)): pl.Boolean(),
    frozenset(("int",)): pl.Int64(),
    frozenset(("long",)): pl.Int64(),
    frozenset(("int", "long")): pl.Int64(),
    frozenset(("float",)): pl.Float64(),
    frozenset(("int", "float")): pl.Float64(),
    frozenset(("text",)): pl.String(),
    frozenset(("texts",)): pl.List(pl.String()),
}
# Lines of one program share a few key orders; past this many, remembering them costs more than it saves.
_KNOWN_KEY_ORDERS: Final = 10_000


@dataclass(frozen=True)
class Ndjson:
    """One NDJSON file."""

    path: Path
    body: TextFile

    @cached_property
    def _scan(self) -> tuple[tuple[str, ...], int]:
        columns: dict[str, None] = {}
        known: set[tuple[str, ...]] = set()
        rows = 0
        for block in self._blocks():
            for record in self._objects(block):
                rows += 1
                if (keys := tuple(record)) not in known:
                    columns.update(dict.fromkeys(keys))
                    if len(known) < _KNOWN_KEY_ORDERS:
                        known.add(keys)
        return tuple(columns), rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of all lines, in the order of their first appearance; scans the file once."""
        return self._scan[0]

    @property
    def rows_total(self) -> int:
        """Scan the file.

        Raises:
            ManifestError: a line is no JSON object; it names the line.
        """
        return self._scan[1]

    def cells(self, wanted: Sequence[str]) -> Iterator[list[list[object]]]:
        """The values of the wanted columns, column by column, a block at a time."""
        for block in self._blocks():
            records = list(self._objects(block))
            yield [[record.get(name) for record in records] for name in wanted]

    def kinds(self) -> dict[str, set[Kind]]:
        """What kinds of values each column holds; another pass over the file, for ``frames`` alone."""
        kinds: dict[str, set[Kind]] = {name: set() for name in self.columns}
        for block in self._blocks():
            for record in self._objects(block):
                for name, value in record.items():
                    if value is not None:
                        kinds[name].add(_kind(value))
        return kinds

    def frames(self, schema: Mapping[str, pl.DataType]) -> Iterator[pl.DataFrame]:
        """All rows under a schema that ``common_schema`` made."""
        for block in self._blocks():
            records = list(self._objects(block))
            yield pl.DataFrame(
                {
                    name: pl.Series(_as_type([record.get(name) for record in records], dtype), dtype=dtype)
                    for name, dtype in schema.items()
                }
            )

    def _blocks(self) -> Iterator[Block]:
        return self.body.blocks(lambda buffer: buffer.rfind(b"\n") + 1)

    def _objects(self, block: Block) -> Iterator[dict[str, object]]:
        for offset, line in enumerate(block.content.split(b"\n")):
            if not line or line.isspace():
                continue
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                number = block.line + offset
                decoded(self.path, line, number)
                raise ManifestError(
                    self.path, f"is no JSON: {error.msg}", line=number, hint=_hint(line)
                ) from None
            if type(record) is not dict:
                raise ManifestError(
                    self.path,
                    f"holds {_named(record)}, not a JSON object",
                    line=block.line + offset,
                    hint=_hint(line),
                )
            yield record


def open_ndjson(path: Path) -> Ndjson:
    """Find the records; they are scanned by ``rows_total``.

    Raises:
        ManifestError: the file holds nothing.
    """
    body = text_file(path)
    if body.begin == body.end:
        raise ManifestError(path, "is empty")
    return Ndjson(path, body)


def common_schema(files: Iterable[Ndjson]) -> dict[str, pl.DataType]:
    """One type for each column over all files; a column of nothing but nulls is text."""
    kinds: dict[str, set[Kind]] = {}
    for file in files:
        for name, found in file.kinds().items():
            kinds.setdefault(name, set()).update(found)
    return {name: _TYPES.get(frozenset(found), pl.String()) for name, found in kinds.items()}


def _kind(value: object) -> Kind:
    match value:
        case bool():
            return "bool"
        case int():
            return "int" if -(2**53) <= value <= 2**53 else "long" if -(2**63) <= value < 2**63 else "huge"
        case float():
            return "float"
        case str():
            return "text"
        case list() if all(type(element) is str for element in value):
            return "texts"
        case _:
            return "nested"


def _as_type(values: list[object], dtype: pl.DataType) -> list[object]:
    if dtype != pl.String():
        return values
    return [v if v is None or type(v) is str else orjson.dumps(v).decode() for v in values]


def _named(record: object) -> str:
    names = {list: "a JSON array", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(record), "a number")


def _hint(line: bytes) -> str:
    if line.lstrip()[:1] == b"[":
        return "A JSON array is no NDJSON: write one object a line."
    if line.strip() == b"{":
        return "The objects are spread over several lines: write each on one line."
    return ""
