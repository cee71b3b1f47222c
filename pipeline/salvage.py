"""A damaged ledger made anew, of what can still be read of it and of the parts that stand in the store.

The damaged file is set aside as evidence, and read without a change to it: each table from its beginning to
the first page that cannot be read, then from its end back to one. Where that leaves a hole, the store's
parts fill it. What neither holds is gone, and the note says how much that is: nothing is dropped without a
word. Attempts of an item whose end is gone are numbered from what is known of it.
"""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson
import polars as pl
import polars.selectors as cs

from pipeline.errors import LedgerDamaged, StoreUnwritable
from pipeline.ledger import Group, InFlight, Ledger, Sealed
from pipeline.sealing import PART_ITEMS, fingerprint, is_whole, part_length, parts_of
from pipeline.settling import Standing, settle
from pipeline.store.places import Place, below, on_disk, rename
from pipeline.store.rows import ATTEMPT_COLUMN, COST_COLUMN, RESULT_COLUMN, Entry, Row, Tries, Writing
from pipeline.store.schemas import ATTEMPTS, COSTS, RESULTS, SCHEMAS
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally

_FILES: Final = ("", "-wal", "-shm")
_GROUP: Final = 1_000
_ITEM, _NUMBER = ATTEMPT_COLUMN["item_id"], ATTEMPT_COLUMN["attempt"]
_COST_ITEM, _COST_NUMBER = COST_COLUMN["item_id"], COST_COLUMN["attempt"]
_RESULT_ITEM, _ROW, _MADE = (RESULT_COLUMN[name] for name in ("item_id", "row", "attempts"))

OpenLedger = Callable[[Path], Ledger]


def open_settled(
    path: Path,
    writer: RunWriter,
    writing: Writing,
    *,
    is_known: bool,
    open_ledger: OpenLedger = Ledger.open,
    part_items: int = PART_ITEMS,
) -> tuple[Ledger, Standing, list[str]]:
    """The run's ledger, open and settled; made anew where it is damaged, which a sentence then tells.

    ``is_known``: the run was begun before, so that it must have one.

    Raises:
        StoreUnwritable: nothing is lost; open it again when the cause is gone.
        LedgerDamaged: not even a new one can be read.
    """
    notes: list[str] = []
    while True:
        try:
            if is_known and not (path.exists() and path.stat().st_size):
                raise LedgerDamaged(path, "it is not there")
            ledger = open_ledger(path)
            try:
                return ledger, settle(ledger, writer, writing, part_items), notes
            except BaseException:
                ledger.close()
                raise
        except LedgerDamaged as damage:
            if notes:
                raise
            notes.append(f"{damage.reason}; {salvage(path, writer, open_ledger)}")


def salvage(path: Path, writer: RunWriter, open_ledger: OpenLedger = Ledger.open) -> str:
    """Set a damaged ledger aside, make a new one in its place, and say what was saved.

    Killed in between, it begins again: the new one takes its place when it is whole.

    Raises:
        StoreUnwritable: there is no room for a second ledger.
    """
    try:
        aside = _set_aside(path)
        new = path.with_name(path.name + ".new")
        for suffix in _FILES:
            Path(f"{new}{suffix}").unlink(missing_ok=True)
        with open_ledger(new) as ledger:
            told = _Salvage(ledger, writer)
            if aside is not None:
                told.copy(aside)
            told.fill_holes()
        new.replace(path)
    except OSError as error:
        raise StoreUnwritable(path, error.strerror or str(error)) from None
    return told.sentence(aside)


@dataclass(slots=True)
class _Salvage:
    """A new ledger, and what went into it."""

    ledger: Ledger
    writer: RunWriter
    records: int = 0
    from_parts: int = 0
    lost: int = 0  # sequences that are nowhere
    is_cut: bool = False  # something could not be read: more may be gone than is known
    unreadable: list[str] = field(default_factory=list)  # files of the store
    _sealed: dict[int, Sealed] = field(default_factory=dict)
    _left_over: list[Entry] = field(default_factory=list)

    def sentence(self, aside: Path | None) -> str:
        lost = ""
        if self.lost or self.is_cut or aside is None:
            count = f"{self.lost:,} records" if self.lost else "what else it may have held"
            lost = f"; {count} could not be saved: what they were of is asked again, and may be paid twice"
        damaged = f"; damaged parts: {', '.join(self.unreadable)}" if self.unreadable else ""
        kept = "" if aside is None else f"; the damaged file is kept as {aside.name}"
        return (
            f"it was made anew from {self.records:,} of its records and {self.from_parts:,} that stood in "
            f"the store's parts{lost}{damaged}{kept}"
        )

    def copy(self, source: Path) -> None:
        """Everything that can be read."""
        if Path(f"{source}-shm").exists() and not Path(f"{source}-wal").exists():
            self.is_cut = True
        uri = f"file:{quote(str(source))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            self.ledger.commit(
                Group(
                    sent=[InFlight(*row) for row in self._read(connection, "in_flight", _is_in_flight)],
                    tries=[(row, body) for row, body in self._read(connection, "tries", _is_tries)],
                )
            )
            self._sealed = {row[0]: Sealed(*row) for row in self._read(connection, "sealed", _is_sealed)}
            group = Group()
            for seq, body in self._read(connection, "done", _is_entry):
                group.done.append((seq, body))
                self.records += 1
                if len(group.done) >= _GROUP:
                    self.ledger.commit(group)
                    group = Group()
            self.ledger.commit(group)

    def fill_holes(self) -> None:
        """Keep what is sealed and whole, up to the first part that is not. What the others hold goes back
        into the ledger, at the sequences that are missing there; settling makes parts of it."""
        next_seq = 1
        files = parts_of(self.writer)
        while (sealed := self._sealed.get(next_seq)) is not None and is_whole(sealed, self.writer.out):
            self.ledger.commit(Group(sealed=[sealed]))
            next_seq = sealed.last_seq + 1
        ends = {seq: one.last_seq for seq, one in self._sealed.items() if seq >= next_seq}
        starts = sorted(seq for seq in {*ends, *files} if seq >= next_seq)
        for place, first_seq in enumerate(starts):
            if first_seq < next_seq:
                continue  # a leftover of another cut
            self._count_holes(next_seq, first_seq - 1)
            of_part = files.get(first_seq, {})
            last_seq = ends.get(first_seq)
            if last_seq is None:
                length = part_length(of_part)
                following = starts[place + 1] - 1 if place + 1 < len(starts) else self.ledger.last_seq()
                last_seq = max(first_seq, following if length is None else first_seq - 1 + length)
            self._take_back(first_seq, last_seq, of_part)
            next_seq = last_seq + 1
        self._count_holes(next_seq, self.ledger.last_seq())
        after = self.ledger.last_seq() + 1
        self.ledger.commit(Group(done=[(after + n, one.encode()) for n, one in enumerate(self._left_over)]))

    def _take_back(self, first_seq: int, last_seq: int, files: dict[str, Place]) -> None:
        """What a part holds and the ledger does not: an attempt with its charges, and the end it led to."""
        told = self._sealed.get(first_seq)
        frames = self._frames(files, orjson.loads(told.files) if told else {})
        seqs = set(range(first_seq, last_seq + 1))
        known: set[tuple[Any, Any]] = set()
        ended: set[Any] = set()
        for seq, body in self.ledger.done(first_seq, last_seq):
            entry = Entry.decode(body)
            seqs.discard(seq)
            known.update((row[_ITEM], row[_NUMBER]) for row in entry.attempts)
            if entry.result is not None:
                ended.add(entry.result[_ROW])
        results = {row[_RESULT_ITEM]: row for row in _rows(frames, "results") if row[_ROW] not in ended}
        costs: defaultdict[tuple[Any, Any], list[Row]] = defaultdict(list)
        for row in _rows(frames, "costs"):
            costs[row[_COST_ITEM], row[_COST_NUMBER]].append(row)
        entries = []
        for row in _rows(frames, "attempts"):
            attempt = (row[_ITEM], row[_NUMBER])
            if attempt not in known:
                result = results.get(row[_ITEM])
                is_last = result is not None and result[_MADE] == row[_NUMBER]
                entries.append(Entry([row], costs[attempt], results.pop(row[_ITEM]) if is_last else None))
                known.add(attempt)
        entries += [Entry([], [], result) for result in results.values()]
        free = sorted(seqs)
        rows = [(row,) for entry in entries if entry.result is not None for row in (entry.result[_ROW],)]
        # The ledger may be older than the part: what the part tells of is under way no more.
        over = [(one.id,) for one in self.ledger.in_flight() if (one.item_id, one.number) in known]
        done = [(seq, entry.encode()) for seq, entry in zip(free, entries, strict=False)]
        self.ledger.commit(Group(done=done, answered=over, ended=rows))  # type: ignore[arg-type] # ints
        self._left_over += entries[len(free) :]
        self.from_parts += len(entries)
        self.lost += max(0, len(free) - len(entries))

    def _count_holes(self, first_seq: int, last_seq: int) -> None:
        have = sum(1 for _ in self.ledger.done(first_seq, last_seq))
        self.lost += max(0, last_seq - first_seq + 1 - have)

    def _frames(self, files: dict[str, Place], verified: dict[str, Any]) -> dict[str, pl.DataFrame]:
        """Those that can be read; the others are moved out of the datasets."""
        frames = {}
        for name, path in files.items():
            here = below(path, self.writer.out)
            if here in verified and fingerprint(path) != verified[here]:
                self.unreadable.append(here)
            try:
                frame = pl.read_parquet(on_disk(path), hive_partitioning=False)
                frames[name] = frame.select(SCHEMAS[name].names())
            except (pl.exceptions.PolarsError, OSError):
                rename(path, path.name + ".damaged")
                if here not in self.unreadable:
                    self.unreadable.append(here)
        return frames

    def _read(
        self, connection: sqlite3.Connection, table: str, is_sound: Callable[[Any], bool]
    ) -> Iterator[tuple[Any, ...]]:
        """Rows from the first to a page that cannot be read, then from the last back to one."""
        column = _KEYS[table]
        reached = -1
        with suppress(sqlite3.DatabaseError):
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY {column}"):
                if not isinstance(row[0], int) or row[0] <= reached:
                    break
                reached = row[0]
                if is_sound(row):
                    yield row
                else:
                    self.is_cut = True
            else:
                return
        self.is_cut = True
        back_to = 1 << 62
        with suppress(sqlite3.DatabaseError):
            query = f"SELECT * FROM {table} WHERE {column} > ? ORDER BY {column} DESC"
            for row in connection.execute(query, (reached,)):
                if not isinstance(row[0], int) or not reached < row[0] < back_to:
                    break
                back_to = row[0]
                if is_sound(row):
                    yield row


_KEYS: Final = {"in_flight": "id", "tries": "row", "done": "seq", "sealed": "first_seq"}


def _set_aside(path: Path) -> Path | None:
    """Move the ledger away; None where there is none. One that was moved already is found again."""
    taken = 1
    while path.with_name(f"{path.name}.damaged-{taken}").exists():
        taken += 1
    aside = path.with_name(f"{path.name}.damaged-{taken if path.exists() else taken - 1}")
    if not path.exists() and taken == 1:
        for suffix in _FILES[1:]:
            Path(f"{path}{suffix}").unlink(missing_ok=True)  # of a ledger that is gone: they tell nothing
        return None
    for suffix in _FILES:
        with suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def _rows(frames: dict[str, pl.DataFrame], name: str) -> Iterator[Row]:
    """As the ledger keeps them."""
    if name not in frames:
        return
    plain = frames[name].with_columns(cs.datetime().dt.epoch("us"), cs.decimal().cast(pl.String))
    media = SCHEMAS[name].names().index("media") if "media" in SCHEMAS[name] else None
    for row in plain.iter_rows():
        if media is None:
            yield row
        else:
            of_row = [tuple(one.values()) for one in row[media] or ()]
            yield (*row[:media], of_row, *row[media + 1 :])


def _is_entry(row: tuple[Any, ...]) -> bool:
    try:
        told = Entry.decode(row[1])
        return (
            all(len(one) == len(ATTEMPTS) for one in told.attempts)
            and all(len(one) == len(COSTS) for one in told.costs)
            and (told.result is None or len(told.result) == len(RESULTS))
        )
    except (ValueError, TypeError):
        return False


def _is_tries(row: tuple[Any, ...]) -> bool:
    try:
        Tries.decode(row[1])
    except (ValueError, TypeError, ArithmeticError):
        return False
    return True


def _is_in_flight(row: tuple[Any, ...]) -> bool:
    *numbers, endpoint, model, dialect = row[0], row[1], row[3], row[4], row[5], row[6], row[7]
    texts = (row[2], endpoint, model, dialect)
    return all(isinstance(one, int) for one in numbers) and all(isinstance(one, str) for one in texts)


def _is_sealed(row: tuple[Any, ...]) -> bool:
    try:
        sealed = Sealed(*row)
        Tally.decode(sealed.tally)
        files = orjson.loads(sealed.files)
        return (
            isinstance(files, dict)
            and sealed.last_seq >= sealed.first_seq
            and len(sealed.rows) // 4 == len(sealed.keys) // 8
            and not len(sealed.rows) % 4
        )
    except (ValueError, TypeError, KeyError, ArithmeticError):
        return False
