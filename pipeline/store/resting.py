"""Rows that are not asked: at rest, or sharing another row's outcome. Kept compactly, written at a
session's end."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import polars as pl

from pipeline.records import Duplicate, RestStatus
from pipeline.store.places import all_on_disk
from pipeline.store.rows import frame_of
from pipeline.store.schemas import COST, REST, RESULTS
from pipeline.store.writer import RunWriter
from pipeline.typed.columns import PARSED

_CHUNK = 10_000
_DUPLICATES = pl.Schema(
    {"item_id": pl.String(), "row": pl.Int64(), "first_row": pl.Int64(), "request_key": pl.String()}
)


@dataclass(slots=True)
class _Gathered:
    """Rows folded into frames as they come: a million of them are some 50 MB."""

    schema: pl.Schema
    frames: list[pl.DataFrame] = field(default_factory=list)
    rows: list[tuple[object, ...]] = field(default_factory=list)

    def add(self, row: tuple[object, ...]) -> None:
        self.rows.append(row)
        if len(self.rows) >= _CHUNK:
            self.fold()

    def fold(self) -> None:
        self.frames.append(frame_of(self.rows, self.schema))
        self.rows = []

    def frame(self) -> pl.DataFrame:
        self.fold()
        return pl.concat(self.frames)


class Rest:
    """The rows of the rest dataset, gathered."""

    def __init__(self, run_id: str, job: str) -> None:
        self._run_id = run_id
        self._job = job
        self._gathered = _Gathered(REST)

    def add(self, item_id: str, row: int, status: RestStatus, answered_by: str | None = None) -> None:
        self._gathered.add((self._run_id, self._job, item_id, row, status, answered_by))

    def write(self, writer: RunWriter) -> None:
        """Replace the run's rest file by what was gathered; no rows, no file."""
        writer.write_rest(self._gathered.frame().sort("row"))


class Duplicates:
    """Rows that ask what an earlier row asks, gathered until that one's outcome stands in the store."""

    def __init__(self) -> None:
        self._gathered = _Gathered(_DUPLICATES)

    def add(self, duplicate: Duplicate) -> None:
        self._gathered.add((duplicate.id, duplicate.row, duplicate.first_row, duplicate.request_key))

    def resolve(self, writer: RunWriter) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(results of the rows whose first has ended, those that have none), and write the former.

        A duplicate has its first's outcome and answer, no attempts, no tokens of its own, and costs nothing.
        """
        gathered = self._gathered.frame()
        parts = all_on_disk(writer.parts("results"))
        firsts = pl.scan_parquet(parts) if parts else pl.LazyFrame(schema=RESULTS)
        columns = [*RESULTS.names(), *(name for name in firsts.collect_schema() if name == PARSED)]
        rows = gathered["first_row"].unique().implode()
        firsts = firsts.filter(pl.col("row").is_in(rows))
        nothing = pl.lit(Decimal(0), dtype=COST)
        shared = (
            gathered.lazy()
            .join(
                firsts.rename({"row": "first_row", "item_id": "duplicate_of_id"}),
                on=["first_row", "request_key"],  # two keys that share 64 bits are told apart here
                how="inner",
                maintain_order="left",
            )
            .with_columns(
                pl.lit(0, dtype=pl.Int64).alias("attempts"),
                pl.lit(0, dtype=pl.Int64).alias("unpriced_tokens"),
                *[
                    pl.lit(None, dtype=pl.Int64).alias(f"{name}_tokens")
                    for name in ("prompt", "completion", "total")
                ],
                *[nothing.alias(name) for name in ("cost", "cost_low", "cost_high")],
                pl.col("duplicate_of_id").alias("duplicate_of"),
            )
            .select(columns)
            .collect()
        )
        writer.write_duplicates(shared)
        return shared, gathered.join(shared.select("row"), on="row", how="anti", maintain_order="left")
