"""One run at a time per job among machines: an object in the bucket that its holder renews every minute.

Written only where nobody else has written since (`If-None-Match`, `If-Match`): of two that want it, one gets
it. A holder that was not heard of for five minutes has lost it; on the holder's own machine a lock of the
operating system tells at once that it died. A run whose lease was taken writes nothing any more.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import orjson

from pipeline.buckets import Bucket, Stored
from pipeline.errors import MediabatchError, StoreError, StoreUnreachable
from pipeline.store.places import InBucket

RENEWED_EVERY_S: Final = 60.0
LAPSES_AFTER_S: Final = 300.0


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Lease:
    """The job's object, held. ``machine`` is the same for all who share the operating system's lock."""

    place: InBucket
    job: str
    told: dict[str, Any]
    now: Callable[[], datetime] = utc_now
    held: Stored | None = None

    def take(self) -> None:
        """
        Raises:
            StoreError: somebody else holds it.
        """
        for _ in range(3):
            with self.place.reached() as bucket:
                try:
                    self.held = bucket.put_if(self.place.key, self._content(), None)
                    if self.held is None:
                        self._take_over(bucket)
                except NotImplementedError:
                    return  # a bucket without conditions: the lock holds on this machine alone
                except FileNotFoundError:
                    continue  # given back this very moment
            if self.held is not None:
                return
        raise self._busy({}, 0)

    def renew(self) -> None:
        """Say that we are here; or learn that somebody else is, and keep it from writing beside them."""
        if self.held is None:
            return
        with suppress(MediabatchError, FileNotFoundError), self.place.reached() as bucket:
            renewed = bucket.put_if(self.place.key, self._content(), self.held)
            if renewed is not None:
                self.held = renewed
                return
            there, content = bucket.get(self.place.key)
            other = _told(content)
            if other.get("nonce") == self.told["nonce"]:
                self.held = there  # our own writing, whose answer was lost
            else:
                self.held = None
                self.place.taken_by(f"run {other.get('run')} on {other.get('host')}")

    def give_back(self) -> None:
        if self.held is not None:
            with suppress(MediabatchError, FileNotFoundError), self.place.reached() as bucket:
                bucket.delete(self.place.key)

    def _take_over(self, bucket: Bucket) -> None:
        there, content = bucket.get(self.place.key)
        holder = _told(content)
        silent_s = (self.now() - there.modified_at).total_seconds()
        if holder.get("nonce") == self.told["nonce"]:
            self.held = there
        elif holder.get("machine") == self.told["machine"] or silent_s > LAPSES_AFTER_S:
            self.held = bucket.put_if(self.place.key, self._content(), there)
        else:
            raise self._busy(holder, silent_s)

    def _content(self) -> bytes:
        return orjson.dumps(self.told)

    def _busy(self, holder: dict[str, Any], silent_s: float) -> StoreError:
        who = "by another process"
        if holder:
            who = (
                f"run {holder.get('run')} on {holder.get('host')}, last heard of {max(0, silent_s):.0f} s ago"
            )
        return StoreError(
            f"--out {self.place.parent.parent}: job {self.job!r} is running already ({who}); wait for it, or "
            "give this one another --job or --out (the lock of one that died lapses after five minutes)"
        )


def lease_of(
    out: InBucket, job: str, run_id: str, machine: str, now: Callable[[], datetime] = utc_now
) -> Lease:
    """The job's lease as this run would hold it; not taken yet."""
    told = {
        "run": run_id,
        "host": platform.node(),
        "process": os.getpid(),
        "machine": machine,
        "nonce": uuid4().hex,
    }
    return Lease(out / "runs" / f".lock-{quote(job)}", job, told, now)


@contextmanager
def leased(out: InBucket, job: str, run_id: str, machine: str) -> Iterator[None]:
    """Hold the job's lease for the length of a run.

    Raises:
        StoreError: a run on another machine holds it.
    """
    lease = lease_of(out, job, run_id, machine)
    try:
        lease.take()
    except StoreUnreachable as error:  # nothing was sent yet: who may read and not write has made a mistake
        raise StoreError(f"--out {out}: cannot be locked, {error}") from None
    is_over = threading.Event()

    def keep() -> None:
        while not is_over.wait(RENEWED_EVERY_S):
            lease.renew()

    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        is_over.set()
        keeper.join()
        lease.give_back()


def machine_of(folder: Path) -> str:
    """A name for all processes that share this folder, and so the locks in it."""
    path = folder / ".machine"
    with suppress(OSError):
        with suppress(FileExistsError), path.open("x") as file:
            file.write(uuid4().hex)
        return path.read_text("utf-8")
    return uuid4().hex


def _told(content: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(content)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
