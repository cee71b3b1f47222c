"""The manifest of a simulated night: rows to ask, rows that ask the same, bad rows, odd rows, several models.

A row is known to the endpoint by its prompt. Which rows are bad, and which row asks a thing first, is decided
here, by the one who writes them, and not found out by the code under test.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

import orjson
import polars as pl

MODELS = ("a-model", "b-model", "unpriced-model")
UNKNOWN_MODEL = "ghost-model"

_KINDS: tuple[tuple[str, ...], ...] = (
    (),
    ("image",),
    ("audio",),
    ("video",),
    ("image", "audio"),
    ("image", "video"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One manifest row. ``id`` is what it is filed under; ``first``: the row that asks the same first."""

    number: int
    id: str
    kind: Literal["asked", "duplicate", "bad"]
    model: str
    prompt: str
    media: tuple[tuple[str, str], ...]  # (modality, URL without its signature)
    first: int
    cells: tuple[str, ...]  # what stands in the file, in the order of COLUMNS


COLUMNS = ("id", "prompt", "model", "max_tokens", "image_url", "audio_url", "video_url")


def signed_again(row: Row) -> Row:
    """The same row as it stands in the manifest of another night."""
    return replace(row, cells=tuple(cell.replace("Date=20260305", "Date=20260304") for cell in row.cells))


def make_rows(rng: Random, count: int, *, is_ghostly: bool) -> list[Row]:
    """So many rows, of which some are bad, and some ask what an earlier one asks.

    ``is_ghostly``: a few name a model that the endpoint does not know.
    """
    bad, twice, signed = rng.choice((0, 0.02, 0.1)), rng.choice((0, 0.03, 0.15)), rng.random() < 0.5
    models = MODELS[: rng.randint(1, len(MODELS))]
    rows: list[Row] = []
    asked: list[Row] = []
    for number in range(1, count + 1):
        chance = rng.random()
        if chance < bad:
            rows.append(_bad(rng, number, asked))
        elif chance < bad + twice and asked:
            rows.append(_duplicate(rng.choice(asked), number, signed))
        else:
            model = UNKNOWN_MODEL if is_ghostly and rng.random() < 0.03 else rng.choice(models)
            kinds = rng.choice(_KINDS)
            media = tuple((kind, f"https://media.example/{number}.{kind}") for kind in kinds)
            row = Row(number, f"i{number}", "asked", model, f"p{number}", media, number, ())
            row = replace(row, cells=_cells(row, signed))
            rows.append(row)
            asked.append(row)
    return rows


def write_rows(rows: Sequence[Row], folder: Path, name: str, ending: str) -> Path:
    """Write the rows as ``csv``, ``ndjson`` or ``parquet``."""
    path = folder / f"{name}.{ending}"
    if ending == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(row.cells for row in rows)
    elif ending == "ndjson":
        lines = [dict(zip(COLUMNS, row.cells, strict=True)) for row in rows]
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    else:
        pl.DataFrame([row.cells for row in rows], schema=COLUMNS, orient="row").write_parquet(path)
    return path


def _cells(row: Row, signed: bool) -> tuple[str, ...]:
    urls = dict(row.media)
    signature = f"?X-Amz-Signature={row.number:x}&X-Amz-Date=20260305" if signed else ""
    written = [urls[kind] + signature if kind in urls else "" for kind in ("image", "audio", "video")]
    return (row.id, row.prompt, row.model, "", *written)


def _duplicate(first: Row, number: int, signed: bool) -> Row:
    row = replace(first, number=number, id=f"i{number}", kind="duplicate", first=first.number)
    return replace(row, cells=_cells(row, signed))


def _bad(rng: Random, number: int, asked: Sequence[Row]) -> Row:
    row = Row(number, f"i{number}", "bad", "", "", (), number, ())
    problem = rng.randrange(3)
    if problem == 0:
        return replace(row, cells=(row.id, "p", "", "many", "", "", ""))
    if problem == 1 or not asked:
        return replace(row, cells=(row.id, "", "", "", "", "", ""))
    # An id that came before is filed as its next number: see `number_ids`.
    again = rng.choice(asked).id
    return replace(row, id=again, cells=(again, f"p{number}", "", "", "", "", ""))


def number_ids(rows: Sequence[Row]) -> list[Row]:
    """The rows with repeated ids filed as ``id#2``, ``id#3``, …"""
    came: dict[str, int] = {}
    numbered = []
    for row in rows:
        times = came[row.id] = came.get(row.id, 0) + 1
        numbered.append(row if times == 1 else replace(row, id=f"{row.id}#{times}"))
    return numbered
