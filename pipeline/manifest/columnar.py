"""Parquet and Arrow IPC: read in slices, since polars' own batches read ahead (three times the memory).

The scan decodes the columns that matter once, so that a damaged page ends nothing in the middle of a night.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import polars as pl
from polars.selectors import by_name

from pipeline.errors import ManifestError
from pipeline.manifest.columns import READ, check_columns

# Rows with inline media are megabytes each: the first slice is small, the next as large as its rows allow.
_FIRST_SLICE_ROWS: Final = 500
# polars goes through a whole row group or record batch for each slice of it, and Arrow's cannot be read in
# part: few large slices for IPC. The scan reads single columns, so its slices may be larger.
_SLICE_ROWS: Final = {"Parquet": 20_000, "Arrow IPC": 125_000}
_SLICE_BYTES: Final = {"Parquet": 16 << 20, "Arrow IPC": 32 << 20}
_SCAN_ROWS: Final = {"Parquet": 50_000, "Arrow IPC": 125_000}
_FRAME_ROWS: Final = 5_000


@dataclass(frozen=True)
class Columnar:
    """One Parquet or Arrow IPC file."""

    path: Path
    format: str
    schema: pl.Schema

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.schema.names())

    @cached_property
    def rows_total(self) -> int:
        """Scan the columns that ``cells`` will be asked for.

        Raises:
            ManifestError: a part of the file cannot be decoded.
        """
        return self.scan([name for name in self.columns if name in READ])

    def scan(self, columns: Sequence[str]) -> int:
        """Decode columns once, and return how many rows they have.

        Raises:
            ManifestError: a part of the file cannot be decoded.
        """
        rows = 0
        for name in columns:
            rows = sum(frame.height for frame in self._slices([name], _SCAN_ROWS[self.format]))
        return rows

    def cells(self, wanted: Sequence[str]) -> Iterator[list[list[object]]]:
        """The cells of the wanted columns, column by column, a slice at a time."""
        for frame in self._slices(wanted):
            yield [frame[name].to_list() for name in wanted]

    def frames(self) -> Iterator[pl.DataFrame]:
        """All columns as they are typed in the file."""
        return self._slices(self.columns)

    def _slices(self, wanted: Sequence[str], most_rows: int | None = None) -> Iterator[pl.DataFrame]:
        rows = _FIRST_SLICE_ROWS
        begin = 0
        try:
            source = _scan(self.path, self.format)
            total = source.select(pl.len()).collect().item()
            while begin < total:
                # Column by column, a quarter less memory at the peak. `by_name`: a name is no pattern.
                columns = {
                    name: source.select(by_name(name)).slice(begin, rows).collect().to_series()
                    for name in wanted
                }
                frame = pl.DataFrame(columns)
                if not frame.height:
                    raise ManifestError(self.path, f"ends after {begin} of {total} rows; it is damaged")
                begin += frame.height
                row_bytes = 1 + int(frame.estimated_size()) // frame.height
                by_size = _SLICE_BYTES[self.format] // row_bytes
                rows = max(1, min(most_rows or _SLICE_ROWS[self.format], by_size))
                yield from frame.iter_slices(_FRAME_ROWS)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ManifestError(
                self.path, f"is a damaged {self.format} file near row {begin + 1}: {error}"
            ) from error


def open_columnar(path: Path, file_format: str) -> Columnar:
    """Read the schema.

    Raises:
        ManifestError: the file has no schema to read, or none of our columns.
    """
    try:
        schema = _scan(path, file_format).collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ManifestError(path, f"is a damaged {file_format} file: {error}") from error
    check_columns(path, schema.names())
    return Columnar(path, file_format, schema)


def _scan(path: Path, file_format: str) -> pl.LazyFrame:
    if file_format == "Parquet":
        # A folder or a file name may hold brackets, or `key=value`: neither is a pattern here.
        return pl.scan_parquet(path, glob=False, hive_partitioning=False)
    return pl.scan_ipc(path, glob=False, hive_partitioning=False)
