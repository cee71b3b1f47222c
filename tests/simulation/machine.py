"""The computer a simulated session runs on: its disk fills up and is mended, and it dies at any moment.

Every write of the real code passes a door here. A dead machine lets nothing through any more, so that
whatever the dying program still does in its ``finally`` blocks leaves no trace: that is what a kill is.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import orjson
import trio

from pipeline.errors import StoreUnwritable
from pipeline.ledger import Group, Ledger
from pipeline.store.writer import RunWriter


class Crash(BaseException):
    """The program is no more."""


@dataclass(frozen=True, slots=True)
class Misfortune:
    """What happens to the machine in one session. Seconds of the session; doors are counted from 1."""

    dies_at_s: float | None = None
    dies_at_door: int | None = None
    dies_before_write: bool = True
    full_s: tuple[tuple[float, float], ...] = ()  # the ledger takes no writes
    unwritable_s: tuple[tuple[float, float], ...] = ()  # the store takes no parts
    flaky: float = 1.0  # the share of writes that fail in these windows
    ballast_room: int = 0  # commits that fit where the ballast was
    slow_disk_s: float = 0.003


@dataclass
class Records:
    """What reached the disk for certain, kept over all sessions of a night by whoever watches the doors.

    ``attempts`` and ``results`` hold the rows as they were committed; ``sent`` the attempts that may go.
    """

    attempts: dict[tuple[str, str, int], list[Any]] = field(default_factory=dict)
    results: dict[tuple[str, int], list[Any]] = field(default_factory=dict)
    sent: dict[tuple[str, int], int] = field(default_factory=dict)  # (run, row) → the newest number
    went: dict[tuple[str, int], int] = field(default_factory=dict)
    attempts_of: Counter[str] = field(default_factory=Counter)  # by run
    results_of: Counter[str] = field(default_factory=Counter)
    twice: list[str] = field(default_factory=list)
    _answered: dict[str, set[int]] = field(default_factory=dict)

    def take(self, run_id: str, group: Group) -> None:
        for sent in group.sent:
            self.sent[run_id, sent.row] = sent.number
        for _, body in group.done:
            attempts, _, result = orjson.loads(body)
            for row in attempts:
                key = (row[0], row[2], row[3])
                if key in self.attempts:
                    self.twice.append(f"attempt {key} was recorded twice")
                self.attempts[key] = row
                self.attempts_of[run_id] += 1
            if result is not None:
                place = (result[0], result[4])
                if place in self.results:
                    self.twice.append(f"row {place} ended twice")
                self.results[place] = result
                self.results_of[run_id] += 1
                if result[5] == "ok":
                    self._answered.setdefault(run_id, set()).add(result[4])

    def may_go(self, place: tuple[str, int]) -> bool:
        """Whether an attempt of this row stands on record as sent that has not gone yet; it goes now."""
        newest = self.sent.get(place, 0)
        if newest <= self.went.get(place, 0):
            return False
        self.went[place] = newest
        return True

    def answered_rows(self, *, but_run: str) -> set[int]:
        """Rows that other runs have had answered. All manifests of a night begin with the same rows."""
        return set().union(*(rows for run_id, rows in self._answered.items() if run_id != but_run))


class Machine:
    """One session's."""

    def __init__(self, session: int, misfortune: Misfortune, rng: Random, records: Records) -> None:
        self.session = session
        self.is_alive = True
        self.records = records
        self.faults: list[str] = []  # which doors were shut, in order
        self.doors = 0
        self.is_finishing = False
        self.faults_at_finish = 0
        self.could_not_record = False  # the last commit before the session's finish failed
        self.before_write: Callable[[], None] = lambda: None
        self._misfortune = misfortune
        self._rng = rng
        self._room = misfortune.ballast_room

    async def off_loop(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As `anyio.to_thread.run_sync`: not begun where cancelled, and then not to be interrupted."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check()
        rng, slow_s = self._rng, self._misfortune.slow_disk_s
        with trio.CancelScope(shield=True):
            if rng.random() < 0.5:
                await trio.sleep(rng.uniform(0, slow_s))
            if getattr(function, "__name__", "") == "finish":
                self.is_finishing = True
            done = function(*arguments)
            if rng.random() < 0.25:
                await trio.sleep(rng.uniform(0, slow_s))
        self.check()
        return done

    def check(self) -> None:
        if not self.is_alive:
            raise Crash

    def die(self) -> None:
        self.is_alive = False
        raise Crash

    async def die_in_time(self) -> None:
        if self._misfortune.dies_at_s is not None:
            await trio.sleep(self._misfortune.dies_at_s)
            self.die()

    def through_door(self, write: Callable[[], Any]) -> Any:
        """Write, unless the machine is dead; and die, if this is the door."""
        self.check()
        self.before_write()
        self.doors += 1
        is_the_door = self.doors == self._misfortune.dies_at_door
        if is_the_door and self._misfortune.dies_before_write:
            self.die()
        done = write()
        if is_the_door:
            self.die()
        return done

    def ledger_is_full(self, has_ballast: bool) -> bool:
        if not self._is_within(self._misfortune.full_s):
            return False
        if not has_ballast and self._room > 0:
            self._room -= 1
            return False
        self._fault("ledger")
        return True

    def store_is_unwritable(self) -> bool:
        if not self._is_within(self._misfortune.unwritable_s):
            return False
        self._fault("store")
        return True

    def _is_within(self, windows: tuple[tuple[float, float], ...]) -> bool:
        if not windows:
            return False
        now_s = trio.current_time()
        is_within = any(begin <= now_s < end for begin, end in windows)
        return is_within and self._rng.random() < self._misfortune.flaky

    def recorded(self, is_recorded: bool) -> None:
        if not self.is_finishing:
            self.could_not_record = not is_recorded

    def _fault(self, door: str) -> None:
        self.faults.append(door)
        self.faults_at_finish += self.is_finishing


class SimulatedLedger(Ledger):
    """The real ledger, on this machine's disk."""

    machine: Machine
    run_id: str

    def commit(self, group: Group) -> StoreUnwritable | None:
        try:
            problem = super().commit(group)
        except StoreUnwritable:
            self.machine.recorded(False)
            raise
        self.machine.recorded(True)
        return problem

    def remove(self) -> None:
        self.machine.through_door(super().remove)

    def close(self) -> None:
        if self.machine.is_alive:
            super().close()
        else:
            self._connection.close()  # what was not committed is gone; the ballast stays where it is

    def _lay_ballast(self) -> None:
        self._ballast.touch()  # this disk is full when it is told to be: 8 MB would only take time

    def _commit(self, group: Group) -> None:
        self.machine.check()
        if self.machine.ledger_is_full(self._ballast.exists()):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        self.machine.through_door(lambda: self._commit_for_real(group))

    def _commit_for_real(self, group: Group) -> None:
        super()._commit(group)
        self.machine.records.take(self.run_id, group)


class SimulatedWriter(RunWriter):
    """The real writer, on this machine's disk."""

    def __init__(self, machine: Machine, out: Path, run_id: str, started_at: datetime) -> None:
        super().__init__(out, run_id, started_at)
        self._machine = machine

    def open(self) -> None:
        self._machine.check()
        super().open()

    def _replace(self, path: Path, frame: Any) -> None:
        self._machine.check()
        super()._replace(path, frame)

    def _write(self, path: Path, content: bytes) -> None:
        self._machine.check()
        if self._machine.store_is_unwritable():
            raise StoreUnwritable(path, "No space left on device")
        super_write = super()._write
        self._machine.through_door(lambda: super_write(path, content))


def open_ledger(machine: Machine, kind: type[SimulatedLedger], path: Path) -> SimulatedLedger:
    machine.check()
    ledger = kind.open(path)
    ledger.machine = machine
    ledger.run_id = path.parent.name
    return ledger
