"""Small manifests for the tests beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson

from pipeline.manifest import Defaults, open_manifest
from pipeline.records import BadRow, Item

DEFAULTS = Defaults("a-model", "default prompt", {"max_tokens": 2000})
URL = "https://h.example/a.jpg"


def read(path: Path | str) -> list[Item | BadRow]:
    return [record for batch in open_manifest(str(path)).read(DEFAULTS) for record in batch]


def ndjson(folder: Path, *rows: object) -> Path:
    path = folder / "m.ndjson"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def records(folder: Path, *rows: object) -> list[Item | BadRow]:
    return read(ndjson(folder, *rows))


def item(folder: Path, **row: object) -> Item:
    (record,) = records(folder, row)
    assert isinstance(record, Item), record
    return record


def problem(folder: Path, **row: object) -> str:
    (record,) = records(folder, row)
    assert isinstance(record, BadRow), record
    return str(record.error)


def ids(found: Iterable[Item | BadRow]) -> list[str]:
    return [record.id for record in found]
