"""The run's crash-safe record: one SQLite file, written ahead, the source of truth until the run is finished.

    in_flight   attempts recorded before they were sent, whose answers are not here yet
    tries       what the attempts of items that have not ended came to
    done        dataset rows of answered attempts and ended items, by ledger sequence
    sealed      which sequences stand in which part of the store, which manifest rows ended there, the counts

What survives a killed process: all that was committed, and what was under way stands in ``in_flight``. What
survives a power cut: the same, as far as the disk keeps what it was told to flush (WAL,
``synchronous=FULL``). On a full disk the ballast beside the file makes room for what has arrived; then the
run halts.

Synchronous, and used by one thread at a time: `recorder.py` brings groups of writes here, and has them
flushed off the event loop.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote

from pipeline.errors import LedgerDamaged, MediabatchError, StoreUnwritable

BALLAST_BYTES: Final = 8 * 1024 * 1024

_SCHEMA: Final = """
BEGIN;
CREATE TABLE in_flight (
    id INTEGER PRIMARY KEY, row INTEGER NOT NULL, item_id TEXT NOT NULL, number INTEGER NOT NULL,
    sent_at INTEGER NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, dialect TEXT NOT NULL
);
CREATE TABLE tries (row INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE done (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE sealed (
    first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, rows BLOB NOT NULL, keys BLOB NOT NULL,
    tally BLOB NOT NULL, files BLOB NOT NULL
);
PRAGMA user_version = 1;
COMMIT;
"""


class InFlight(NamedTuple):
    """An attempt recorded before it was sent. ``sent_at`` is in microseconds since 1970, UTC."""

    id: int
    row: int
    item_id: str
    number: int
    sent_at: int
    endpoint: str
    model: str
    dialect: str


class Sealed(NamedTuple):
    """A part that stands in the store: manifest rows that ended in it (uint32), the first 16 hex digits of
    their request keys (uint64), its `Tally`, and ``{path: [size_bytes, blake2b]}`` as JSON."""

    first_seq: int
    last_seq: int
    rows: bytes
    keys: bytes
    tally: bytes
    files: bytes


@dataclass(slots=True)
class Group:
    """Writes that become durable together, in one transaction."""

    sent: list[InFlight] = field(default_factory=list)
    answered: list[tuple[int]] = field(default_factory=list)  # in_flight ids
    tries: list[tuple[int, bytes]] = field(default_factory=list)  # (row, body); the newest holds
    ended: list[tuple[int]] = field(default_factory=list)  # rows whose tries are over
    done: list[tuple[int, bytes]] = field(default_factory=list)  # (seq, body)
    sealed: list[Sealed] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.sent or self.answered or self.done or self.sealed or self.tries or self.ended)


class Ledger:
    """The file, open."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._ballast = path.with_suffix(".ballast")
        self._written: Group | None = None  # and not yet committed

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the ledger, or make it.

        Raises:
            StoreUnwritable: the folder takes no writes.
            LedgerDamaged: the file is no ledger any more.
        """
        shm, wal = (path.with_name(path.name + suffix) for suffix in ("-shm", "-wal"))
        if path.exists() and shm.exists() and not wal.exists():
            # SQLite removes them together, the -wal first: opened now, the ledger would be an older one.
            raise LedgerDamaged(path, "its -wal file is gone")
        try:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _problem(error, path) from None
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            connection.close()
            raise _problem(error, path) from None
        ledger = cls(path, connection)
        ledger._lay_ballast()
        return ledger

    @classmethod
    @contextmanager
    def looking(cls, path: Path) -> Iterator[Self]:
        """Look at a ledger as it is at this moment, whoever else has it open: no writer waits for that, and
        nothing is left behind.

        Raises:
            LedgerDamaged: it cannot be read, or is gone.
        """
        # Without a -wal file nobody writes, and a reader would make one: then as a file that does not change.
        is_open = path.with_name(path.name + "-wal").exists()
        uri = f"file:{quote(str(path.absolute()))}?mode=ro{'' if is_open else '&immutable=1'}"
        try:
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
                connection.execute("BEGIN")  # all that is read is of one moment
                yield cls(path, connection)
        except sqlite3.Error as error:
            raise LedgerDamaged(path, str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()
        with suppress(OSError):
            self._ballast.unlink()

    def remove(self) -> None:
        """Close and delete: the run is finished, and its parts are verified."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                os.unlink(f"{self.path}{suffix}")

    def write(self, group: Group) -> None:
        """Write a group ahead of its `commit`, which then has to flush it and no more. What goes wrong here
        shows there."""
        with suppress(sqlite3.Error):
            self._write(group)
            self._written = group

    def commit(self, group: Group) -> StoreUnwritable | None:
        """Make a group durable, all or nothing.

        Returns what is wrong where the group was written only thanks to the ballast: there is no more room.

        Raises:
            StoreUnwritable, LedgerDamaged: nothing of the group was written.
        """
        try:
            self._commit(group)
        except sqlite3.Error as error:
            self._roll_back()
            problem = _problem(error, self.path)
            if not isinstance(problem, StoreUnwritable) or not self._ballast.exists():
                raise problem from None
            with suppress(OSError):
                self._ballast.unlink()
            try:
                self._commit(group)
            except sqlite3.Error as again:
                self._roll_back()
                raise _problem(again, self.path) from None
            return problem
        return None

    # Reading: before a session's first commit.

    def in_flight(self) -> list[InFlight]:
        """Attempts that were recorded as sent and whose answers are not here."""
        return [InFlight(*row) for row in self._read("SELECT * FROM in_flight ORDER BY id")]

    def tries(self) -> dict[int, bytes]:
        """Of items that have not ended, by manifest row: what their attempts came to."""
        return dict(self._read("SELECT row, body FROM tries"))

    def sealed(self) -> list[Sealed]:
        return [Sealed(*row) for row in self._read("SELECT * FROM sealed ORDER BY first_seq")]

    def done(self, first_seq: int, last_seq: int) -> Iterator[tuple[int, bytes]]:
        """What was recorded from one sequence to another, both included, in order.

        Raises:
            LedgerDamaged: at the first page that cannot be read.
        """
        query = "SELECT seq, body FROM done WHERE seq BETWEEN ? AND ? ORDER BY seq"
        try:
            yield from self._connection.execute(query, (first_seq, last_seq))
        except sqlite3.Error as error:
            raise _problem(error, self.path) from None

    def last_seq(self) -> int:
        """The newest ledger sequence; 0 before the first."""
        ((done, sealed),) = self._read(
            "SELECT (SELECT max(seq) FROM done), (SELECT max(last_seq) FROM sealed)"
        )
        return max(done or 0, sealed or 0)

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query).fetchall()
        except sqlite3.Error as error:
            raise _problem(error, self.path) from None

    def _commit(self, group: Group) -> None:
        if self._written is not group:
            self._write(group)
        self._written = None
        self._connection.execute("COMMIT")

    def _write(self, group: Group) -> None:
        self._roll_back()
        many = self._connection.executemany
        self._connection.execute("BEGIN IMMEDIATE")
        if group.sent:
            many("INSERT INTO in_flight VALUES (?, ?, ?, ?, ?, ?, ?, ?)", group.sent)
        if group.answered:
            many("DELETE FROM in_flight WHERE id = ?", group.answered)
        if group.tries:
            many("INSERT OR REPLACE INTO tries VALUES (?, ?)", group.tries)
        if group.ended:
            many("DELETE FROM tries WHERE row = ?", group.ended)
        if group.done:
            many("INSERT INTO done VALUES (?, ?)", group.done)
        if group.sealed:
            many("INSERT OR REPLACE INTO sealed VALUES (?, ?, ?, ?, ?, ?)", group.sealed)

    def _roll_back(self) -> None:
        """What was written of a group that was not committed."""
        self._written = None
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _lay_ballast(self) -> None:
        """Room that is given up when the disk is full, so that answers that arrived can still be written.

        Raises:
            StoreUnwritable: there is no such room, so that nothing may be sent.
        """
        try:
            with self._ballast.open("wb") as file:
                file.write(bytes(BALLAST_BYTES))
        except OSError as error:
            self.close()
            raise StoreUnwritable(self._ballast, error.strerror or str(error)) from None


def _problem(error: sqlite3.Error, path: Path) -> MediabatchError:
    """SQLite's error as ours; the primary result code decides, not the message."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LedgerDamaged(path, str(error))
    if code in _UNWRITABLE:
        return StoreUnwritable(path, str(error))
    raise error  # a bug of ours


_UNWRITABLE: Final = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
)
