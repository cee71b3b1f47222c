"""Parts made from what the ledger holds, verified, and remembered there as sealed.

A part is named by its first ledger sequence and covers a run of sequences, so that making one again
overwrites it. Verified means: read back from the disk and found to be the bytes that were meant.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import orjson
import polars as pl

from pipeline.errors import StoreUnwritable
from pipeline.ledger import Sealed
from pipeline.store.places import Place, on_disk
from pipeline.store.rows import RESULT_COLUMN, Entry, Part
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally

PART_ITEMS = 5_000

_ROW = RESULT_COLUMN["row"]
_KEY = RESULT_COLUMN["request_key"]


@dataclass(slots=True)
class Batch:
    """Entries of consecutive ledger sequences that become one part."""

    first_seq: int
    last_seq: int = 0
    part: Part = field(default_factory=Part)
    tally: Tally = field(default_factory=Tally)
    rows: array[int] = field(default_factory=lambda: array("I"))
    keys: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, seq: int, entry: Entry) -> None:
        self.last_seq = seq
        self.part.add(entry)
        self.tally.add(entry)
        if entry.result is not None:
            self.rows.append(entry.result[_ROW])  # type: ignore[arg-type] # an int by the schema
            self.keys.append(key_number(entry.result[_KEY]))

    def extend(self, later: Batch) -> None:
        """Take in the batch that follows this one."""
        self.last_seq = later.last_seq or self.last_seq
        self.part.extend(later.part)
        self.tally.merge(later.tally)
        self.rows.extend(later.rows)
        self.keys.extend(later.keys)

    def __len__(self) -> int:
        return self.last_seq - self.first_seq + 1 if self.last_seq else 0


def seal(batch: Batch, writer: RunWriter) -> Sealed:
    """Write the part and verify it.

    Raises:
        StoreUnwritable: the store does not take it, or gives back something else.
    """
    files: dict[str, list[object]] = {}
    for path, content in writer.write_part(batch.first_seq, batch.part).items():
        files[path] = [len(content), _digest(content)]
        if fingerprint(writer.out / path, anew=True) != files[path]:
            raise StoreUnwritable(path, "it was written, and reads back as something else")
    return Sealed(
        batch.first_seq,
        batch.last_seq,
        batch.rows.tobytes(),
        batch.keys.tobytes(),
        batch.tally.encode(),
        orjson.dumps(files),
    )


def is_whole(sealed: Sealed, out: Place) -> bool:
    """Whether a sealed part's files are still the bytes that were verified."""
    files = orjson.loads(sealed.files)
    return all(fingerprint(out / path) == told for path, told in files.items())


def parts_of(writer: RunWriter) -> dict[int, dict[str, Place]]:
    """The files of each part of the run that stands in the store, by first sequence and dataset."""
    found: dict[int, dict[str, Place]] = {}
    for name in ("attempts", "costs", "results"):
        for first_seq, path in writer.numbered_parts(name).items():
            found.setdefault(first_seq, {})[name] = path
    return found


def part_length(files: Mapping[str, Place]) -> int | None:
    """How many sequences a part covers; None where its files do not tell.

    Each sequence is one attempt, with the item's end or without; or an end that has no attempt of its own: of
    a bad row, or of an item that could not be asked again. (Where the last attempt of that one stands in the
    same part, this tells one less.)
    """
    try:
        if "results" not in files:
            return _read(files["attempts"], "attempt").height or None if "attempts" in files else None
        ended = _read(files["results"], "item_id", "attempts")
        if "attempts" not in files:
            return ended.height if (ended["attempts"] == 0).all() else None
        made = _read(files["attempts"], "item_id", "attempt")
    except (pl.exceptions.PolarsError, OSError):
        return None
    alone = ended.join(made, left_on=["item_id", "attempts"], right_on=["item_id", "attempt"], how="anti")
    return made.height + alone.height


def _read(path: Place, *columns: str) -> pl.DataFrame:
    return pl.read_parquet(on_disk(path), columns=list(columns), hive_partitioning=False)


def fingerprint(path: Place, *, anew: bool = False) -> list[object] | None:
    """Size in bytes and digest of a file, None where it cannot be read. ``anew``: as a bucket gives it now;
    else by the copy of that version, where there is one."""
    try:
        content = path.read_bytes() if anew else on_disk(path).read_bytes()
    except OSError:
        return None
    return [len(content), _digest(content)]


def key_number(request_key: object) -> int:
    """The first 64 bits of a request key, 0 for none: enough to tell a run's requests apart in 8 bytes
    each."""
    return int(str(request_key).partition("-")[2][:16], 16) if request_key else 0


def _digest(content: bytes | memoryview) -> str:
    return blake2b(content, digest_size=16).hexdigest()
