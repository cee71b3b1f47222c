"""Path or glob → an open manifest: formats told by ending, confirmed by first bytes, each file scanned whole.

Raises ``ManifestError`` for all that makes the manifest unreadable as a whole; rows come later, and are never
an error here. ``Manifest.read`` feeds the run, ``Manifest.frames`` feeds ``export``.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Final

import polars as pl

from pipeline.errors import ManifestError
from pipeline.manifest.batch_lines import COLUMNS as LINE
from pipeline.manifest.batch_lines import is_batch
from pipeline.manifest.cells import CellProblem, scalar_text
from pipeline.manifest.columnar import Columnar, open_columnar
from pipeline.manifest.columns import READ, check_columns, overlooked
from pipeline.manifest.delimited import Delimited, open_delimited
from pipeline.manifest.fetching import Fetched, fetch, is_address
from pipeline.manifest.ids import LIKE_GIVEN, IdTable
from pipeline.manifest.ndjson import Ndjson, common_schema, open_ndjson
from pipeline.manifest.rows import Defaults, Rows
from pipeline.media.urls import without_signature
from pipeline.records import BadRow, Item

BATCH_ROWS: Final = 2_000

FORMATS: Final[dict[str, str]] = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "Parquet",
    ".ndjson": "NDJSON",
    ".jsonl": "NDJSON",
    ".arrow": "Arrow IPC",
    ".ipc": "Arrow IPC",
    ".feather": "Arrow IPC",
}
_SUPPORTED: Final = f"a manifest ends in {', '.join(list(FORMATS)[:-1])} or {list(FORMATS)[-1]}"

# First bytes → what they are, from the formats' own specifications.
_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow IPC"),
    (b"\xff\xff\xff\xff", "an Arrow stream (write it as an Arrow file)"),
    (b"FEA1", "Feather version 1 (write it as version 2)"),
    (b"\x1f\x8b", "gzip (unpack it first)"),
    (b"\x28\xb5\x2f\xfd", "zstd (unpack it first)"),
    (b"BZh", "bzip2 (unpack it first)"),
    (b"\xfd7zXZ", "xz (unpack it first)"),
    (b"PK\x03\x04", "a zip file or an Excel workbook (save it as CSV)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (save it as CSV)"),
    (b"SQLite format 3", "an SQLite database"),
    (b"%PDF", "PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\xff\xfe", "UTF-16 text (save it as UTF-8)"),
    (b"\xfe\xff", "UTF-16 text (save it as UTF-8)"),
)
_BATCH_NOTE: Final = "the manifest is an OpenAI batch file: its lines say what is asked, and of which model"
_BINARY_MAGIC: Final = {"Parquet": b"PAR1", "Arrow IPC": b"ARROW1"}

Source = Delimited | Ndjson | Columnar


@dataclass(frozen=True, slots=True)
class Manifest:
    """One or several files of one format, scanned and found whole.

    ``digest`` is of the files' contents in their order. ``notes`` are sentences for a person about columns
    that were probably meant for us and are not read.
    """

    paths: tuple[Path, ...]
    format: str
    columns: tuple[str, ...]
    rows_total: int
    digest: str
    notes: tuple[str, ...]
    _sources: tuple[Source, ...] = field(repr=False)
    _stamps: tuple[tuple[int, int], ...] = field(repr=False)
    _fetched: Fetched | None = field(default=None, repr=False)  # its files last as long as it does

    def read(self, defaults: Defaults, passed: bytearray | None = None) -> Iterator[list[Item | BadRow]]:
        """All rows in order, in lists of at most 2,000; rows count from 1 over all files.

        Ids are unique within one reading, and the same in each. Only the columns that matter are decoded.
        ``passed[row]`` is not 0 for rows to pass over: their ids are taken, and that is all.

        Raises:
            ManifestError: a file changed since it was opened.
        """
        fields = defaults.columns(self.columns)
        rows = Rows(defaults, self._look_alikes, fields)
        own, record = (LINE, rows.record_of_line) if is_batch(self.columns) else (READ, rows.record)
        every = (*own, *fields)
        row = 0
        for source, folder in self._whole_sources():
            wanted = [name for name in dict.fromkeys(every) if name in source.columns]
            for columns in source.cells(wanted):
                present = dict(zip(wanted, columns, strict=True))
                height = len(columns[0]) if columns else 0
                if passed is not None and rows.pass_over_all(
                    present.get(own[0]), passed[row + 1 : row + 1 + height]
                ):
                    row += height
                    continue
                cells = zip(
                    *(present[name] if name in present else repeat(None, height) for name in every),
                    strict=True,
                )
                batch: list[Item | BadRow] = []
                for row, values in enumerate(cells, row + 1):  # noqa: B020  # rows go on counting
                    if passed is not None and passed[row]:
                        rows.pass_over(row, values, folder, record)
                        continue
                    batch.append(record(row, values, folder))
                    if len(batch) == BATCH_ROWS:
                        yield batch
                        batch = []
                if batch:
                    yield batch

    def check(self, defaults: Defaults) -> None:
        """
        Raises:
            PromptError: a template names a column that is not there.
            ManifestError: a part of a column that it reads cannot be decoded.
        """
        manifest = self.paths[0] if len(self.paths) == 1 else f"the manifest ({self.paths[0]}, …)"
        for template in defaults.templates:
            template.check(self.columns, manifest)
        for source in self._sources:
            if isinstance(source, Columnar):
                source.scan(defaults.columns(self.columns))

    def frames(self) -> Iterator[pl.DataFrame]:
        """All columns of all rows as polars batches of one schema, with ``row`` (UInt64, from 1) in front.

        CSV and TSV come as text, as it stands in the file; NDJSON as ``ndjson`` describes; columns whose
        types differ between Parquet or IPC files as the type that holds both. A column of the manifest's own
        that is called ``row`` comes as ``row_``.

        Raises:
            ManifestError: a file changed since it was opened, or types between files have nothing in common.
        """
        schema = self._schema()
        row = 0
        for source, _ in self._whole_sources():
            frames = source.frames(schema) if isinstance(source, Ndjson) else source.frames()
            for frame in frames:
                # No expressions: `pl.col` takes a name such as `^a$` or `*` for a pattern.
                cast = pl.DataFrame(
                    {name: frame.get_column(name).cast(dtype) for name, dtype in schema.items()}
                )
                numbers = pl.int_range(row + 1, row + 1 + frame.height, dtype=pl.UInt64, eager=True).alias(
                    "row"
                )
                row += frame.height
                if "row" in schema:
                    cast = cast.rename({"row": _free_name("row_", schema)})
                yield cast.insert_column(0, numbers)

    def _schema(self) -> dict[str, pl.DataType]:
        ndjson = [source for source in self._sources if isinstance(source, Ndjson)]
        if ndjson:
            return common_schema(ndjson)
        columnar = [source for source in self._sources if isinstance(source, Columnar)]
        if not columnar:
            return {name: pl.String() for name in self.columns}
        empty = pl.DataFrame(schema=columnar[0].schema)
        for source in columnar[1:]:
            try:
                other = pl.DataFrame(schema=source.schema).select(self.columns)
                empty = pl.concat([empty, other], how="vertical_relaxed")
            except pl.exceptions.PolarsError as error:
                raise ManifestError(source.path, f"its columns have other types: {error}") from error
        return dict(empty.schema)

    def _whole_sources(self) -> Iterator[tuple[Source, str]]:
        for source, stamp in zip(self._sources, self._stamps, strict=True):
            if _stamp(source.path) != stamp:
                raise ManifestError(source.path, "changed after it was checked; start again")
            # Paths in a manifest that was fetched begin nowhere on this machine.
            yield source, os.path.abspath(source.path.parent) if self._fetched is None else ""

    def _look_alikes(self) -> IdTable:
        """Explicit ids that could be taken for ids we give: one pass over the id column alone."""
        table = IdTable()
        column = LINE[0] if is_batch(self.columns) else READ[0]
        for source in self._sources:
            if column in source.columns:
                for (cells,) in source.cells([column]):
                    for cell in cells:
                        try:
                            item_id = scalar_text(cell, column)
                        except CellProblem:
                            continue
                        if item_id is not None and LIKE_GIVEN.fullmatch(item_id):
                            table.add(item_id)
        return table


def open_manifest(path_or_glob: str, *, ca_file: Path | None = None) -> Manifest:
    """Open, confirm and scan a manifest; one at an address is fetched first.

    Raises:
        ManifestError: missing, empty, not what its ending says, broken, or without a column to ask about.
    """
    if not is_address(path_or_glob):
        return _opened(_paths(path_or_glob))
    fetched = fetch(path_or_glob, ca_file=ca_file)
    try:
        return replace(_opened(fetched.paths), _fetched=fetched)
    except ManifestError as error:
        raise error.of(without_signature(path_or_glob)) from None


def _opened(paths: list[Path]) -> Manifest:
    file_format = _format(paths[0])
    for path in paths:
        if (other := _format(path)) != file_format:
            raise ManifestError(
                path, f"is {other} by its ending, the files before it are {file_format}; one format, please"
            )
    try:
        sources = tuple(_open(path, file_format) for path in paths)
        stamps = tuple(_stamp(path) for path in paths)
        rows_total = sum(source.rows_total for source in sources)
        columns = _common_columns(sources)
        digest = _digest(paths)
    except OSError as error:
        raise ManifestError(error.filename or paths[0], error.strerror or str(error)) from error
    return Manifest(
        tuple(paths),
        file_format,
        columns,
        rows_total,
        digest,
        (_BATCH_NOTE,) if is_batch(columns) else overlooked(columns),
        sources,
        stamps,
    )


def _paths(path_or_glob: str) -> list[Path]:
    # A file whose name holds brackets is a file.
    if os.path.lexists(path_or_glob) or not glob.has_magic(path_or_glob):
        paths = [Path(path_or_glob)]
    else:
        paths = sorted(
            Path(found) for found in glob.glob(path_or_glob, recursive=True) if os.path.isfile(found)
        )
        if not paths:
            raise ManifestError(path_or_glob, "no file matches")
    for path in paths:
        if not path.exists():
            raise ManifestError(path, "no such file")
        if path.is_dir():
            raise ManifestError(
                path, "is a folder; name a file, or a glob such as", hint=f"'{path}/*.parquet'"
            )
    return paths


def _format(path: Path) -> str:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise ManifestError(path, f"its ending is none we read; {_SUPPORTED}") from None


def _open(path: Path, file_format: str) -> Source:
    with open(path, "rb") as file:
        head = file.read(4096)
        file.seek(max(0, path.stat().st_size - 6))
        tail = file.read(6)
    if not head:
        raise ManifestError(path, "is empty")
    looks_like = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if looks_like is None and file_format in _BINARY_MAGIC:
        looks_like = _text_like(head)
    if looks_like != file_format and (looks_like or file_format in _BINARY_MAGIC):
        raise ManifestError(path, f"is not {file_format}, as its ending says; it looks like {looks_like}")
    if file_format in _BINARY_MAGIC:
        if not tail.endswith(_BINARY_MAGIC[file_format]):
            raise ManifestError(path, f"is cut short: a {file_format} file ends as it begins; copy it again")
        return open_columnar(path, file_format)
    if file_format == "NDJSON":
        if _text_like(head) == "CSV":
            raise ManifestError(path, "is not NDJSON, as its ending says; it looks like CSV", line=1)
        source = open_ndjson(path)
        if source.rows_total and not is_batch(source.columns):
            check_columns(path, source.columns)
        return source
    if (found := _text_like(head)) in ("NDJSON", "HTML"):
        raise ManifestError(path, f"is not {file_format}, as its ending says; it looks like {found}", line=1)
    return open_delimited(path, b"," if file_format == "CSV" else b"\t")


def _text_like(head: bytes) -> str:
    """What a file without magic looks like by its first line."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    first = start.split(b"\n", 1)[0]
    if b"\0" in head:
        return "some other binary file"
    if start[:1] == b"{":
        return "NDJSON"
    if start[:9].lower() == b"<!doctype" or start[:5].lower() == b"<html":
        return "HTML"
    if start[:1] not in (b"[", b'"') or b'",' in first:
        return "CSV" if b"," in first else "text"
    return "text"


def _common_columns(sources: Sequence[Source]) -> tuple[str, ...]:
    """The columns of all files: the same in each, in any order; NDJSON lines may each have their own."""
    first = sources[0].columns
    if isinstance(sources[0], Ndjson):
        return tuple(dict.fromkeys(name for source in sources for name in source.columns))
    for source in sources[1:]:
        if set(source.columns) != set(first):
            missing = [repr(name) for name in first if name not in source.columns]
            extra = [repr(name) for name in source.columns if name not in first]
            difference = [f"lacks {', '.join(missing)}"] * bool(missing) + [
                f"also has {', '.join(extra)}"
            ] * bool(extra)
            raise ManifestError(
                source.path, f"has other columns than {sources[0].path}: it {' and '.join(difference)}"
            )
    return first


def _digest(paths: Sequence[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{whole.hexdigest()}"


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _free_name(name: str, taken: dict[str, pl.DataType]) -> str:
    while name in taken:
        name += "_"
    return name
