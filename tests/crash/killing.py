"""Sessions of the real command, each killed with ``kill -9`` at a moment drawn from the seed.

What a kill left on record is read from a copy of the ledger, before anything touches it again.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import polars as pl

from pipeline.store.schemas import ATTEMPTS, RESULTS
from tests.crash.endpoint import CountingEndpoint
from tests.end_to_end.nights import COMMAND, clean_environment, write_manifest

ITEM_ID, STATUS, REMOTE_ID = (
    list(RESULTS).index("item_id"),
    list(RESULTS).index("status"),
    list(ATTEMPTS).index("remote_id"),
)
Moment = Literal["starting", "under way", "stopping"]


@dataclass(frozen=True)
class Kill:
    """What was on record right after it, and how many requests the endpoint had got by then."""

    moment: Moment
    asked: int
    in_flight: frozenset[tuple[str, str, int]]  # run, item, attempt
    ended: dict[str, str]  # item id → status
    replies: frozenset[str]  # reply ids


@dataclass
class Crashing:
    """A night that is killed again and again. ``commands``: what starts a session, by its number; ``items``:
    how many are to end before the last session does."""

    endpoint: CountingEndpoint
    out: Path
    commands: Callable[[int], Sequence[str | Path]]
    items: int
    seed: int
    kills: list[Kill] = field(default_factory=list)
    sessions: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._starting_s = 0.6  # what a session takes to its first requests, roughly; measured as it goes

    def kill(self, times: int) -> None:
        """Start sessions and kill them, until so many were killed."""
        while len(self.kills) < times:
            moment = self._random.choices(["starting", "under way", "stopping"], [0.25, 0.55, 0.2])[0]
            left = self.items - len(self.kills[-1].ended if self.kills else ())
            # Two kills' worth is kept back, so that the last kill too finds it at work.
            per_kill = left / (times - len(self.kills) + 2)
            if self._session(moment, self._random.uniform(0, 1.5 * per_kill)):
                self.kills.append(on_record(self.out, moment, len(self.endpoint.asked)))
                if len(self.kills) % 10 == 0:
                    print(f"  {len(self.kills)} kills, {len(self.kills[-1].ended)} ended", flush=True)
            elif is_done(self.out):
                raise AssertionError(f"the run was done after {len(self.kills)} kills: lower --kills")

    def finish(self) -> None:
        """One more session, to the end."""
        code = self._start().wait(timeout=300)
        assert code == 0, f"the last session ended with {code}: {self._said()}"

    def _session(self, moment: Moment, served: float) -> bool:
        """Whether the kill found the session alive."""
        before = len(self.endpoint.asked)
        began_s = time.monotonic()
        until_s = began_s + (self._random.uniform(0, 1.1 * self._starting_s) if moment == "starting" else 60)
        process = self._start()
        while process.poll() is None and time.monotonic() < until_s:
            if len(self.endpoint.asked) - before > served:
                self._starting_s = 0.8 * self._starting_s + 0.2 * (time.monotonic() - began_s)
                self._pause(process, self._random.uniform(0, 0.05))
                break
            time.sleep(0.002)
        if moment == "stopping" and process.poll() is None:
            process.send_signal(signal.SIGINT)
            self._pause(process, self._random.uniform(0, 0.45))
        process.send_signal(signal.SIGKILL)
        code = process.wait(timeout=60)
        assert code in (-signal.SIGKILL, 130, 0), f"a session ended with {code}: {self._said()}"
        return code == -signal.SIGKILL

    def _start(self) -> subprocess.Popen[bytes]:
        command = [*COMMAND, *map(str, self.commands(self.sessions))]
        self.sessions += 1
        with self._log.open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment())

    @staticmethod
    def _pause(process: subprocess.Popen[bytes], seconds: float) -> None:
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return

    @property
    def _log(self) -> Path:
        return self.out.with_name("session.log")

    def _said(self) -> str:
        return self._log.read_text("utf-8", "replace")[-3000:]


def on_record(out: Path, moment: Moment, asked: int) -> Kill:
    """What the ledgers and parts of a store hold."""
    ended, replies = in_parts(out)
    in_flight = set()
    for path in sorted((out / "runs").glob("*/ledger.sqlite")):
        here, more, answered = in_ledger(path)
        in_flight |= {(path.parent.name, *one) for one in here}
        ended.update(more)
        replies |= answered
    return Kill(moment, asked, frozenset(in_flight), ended, frozenset(replies))


def in_ledger(path: Path) -> tuple[set[tuple[str, int]], dict[str, str], set[str]]:
    """(item and number of attempts in flight, item id → status of what ended, reply ids), read from a copy:
    the ledger is not touched."""
    with TemporaryDirectory() as scratch:
        for file in path.parent.glob("ledger.sqlite*"):
            shutil.copy(file, scratch)
        connection = sqlite3.connect(Path(scratch) / path.name)
        try:
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                return set(), {}, set()  # killed before it was made
            in_flight = set(connection.execute("SELECT item_id, number FROM in_flight"))
            entries = [json.loads(body) for (body,) in connection.execute("SELECT body FROM done")]
        finally:
            connection.close()
    ended = {result[ITEM_ID]: result[STATUS] for _, _, result in entries if result}
    replies = {attempt[REMOTE_ID] for attempts, _, _ in entries for attempt in attempts if attempt[REMOTE_ID]}
    return in_flight, ended, replies


def in_parts(out: Path) -> tuple[dict[str, str], set[str]]:
    """(item id → status, reply ids) in the store's parts; an answer that held stays."""
    results = _read(out, "results", ["item_id", "status"])
    attempts = _read(out, "attempts", ["remote_id"])
    ended = dict(results.sort(pl.col("status") == "ok").iter_rows())
    return ended, set(attempts["remote_id"].drop_nulls())


def is_done(out: Path) -> bool:
    facts = [json.loads(path.read_text("utf-8")) for path in (out / "runs").glob("*/run.json")]
    return any(one["state"] == "done" for one in facts)


def manifest_of(path: Path, items: int) -> Path:
    """Different media, one a row; one row in 200 is bad, one in 100 asks what an earlier one asked."""
    rows = []
    for number in range(1, items + 1):
        kind = ("image", "audio", "video")[number % 3]
        media = {f"{kind}_url": f"https://media.example/{number}.bin"}
        name = f"item-{number:05d}"
        if number % 200 == 0:
            rows.append({"id": name, "prompt": name, "image_url": "no url"})
        elif number % 100 == 50:
            rows.append({**rows[number - 8], "id": name})
        else:
            rows.append({"id": name, "prompt": name, **media})
    return write_manifest(path, rows)


def _read(out: Path, dataset: str, columns: list[str]) -> pl.DataFrame:
    parts = sorted((out / dataset).glob("date=*/run=*/*.parquet"))
    if not parts:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    return pl.read_parquet(parts, columns=columns, hive_partitioning=False)
