"""One run at a time per store and job: a lock that the operating system gives back when its holder dies; and
the ledger's folder, which must be on this machine."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.store.leasing import leased, machine_of
from pipeline.store.places import InBucket, Place, state_folder

# File systems on other machines, by the names the Linux kernel gives them: SQLite's locks and flushes do not
# hold there (sqlite.org/howtocorrupt.html, "Filesystems with broken or missing lock implementations").
_REMOTE = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "glusterfs",
    "fuse.sshfs",
    "fuse.s3",
    "fuse.gcs",
    "fuse.rclone",
    "fuse.blobfuse",
)


def make_local_folder(folder: Path, mounts: str = "/proc/mounts") -> None:
    """Make the ledger's folder; refuse one on another machine, where SQLite would corrupt what it keeps.

    Raises:
        StoreError: it cannot be made, or is remote as far as the system tells.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"--state-dir {folder}: cannot be made ({error.strerror})") from None
    kind = _file_system(folder.resolve(), mounts)
    if kind is not None and kind.startswith(_REMOTE):
        raise StoreError(
            f"{folder} is on a network file system ({kind}), where the ledger is not safe: "
            "give --state-dir a folder on a local disk"
        )


def _file_system(folder: Path, mounts: str) -> str | None:
    """The type of the file system a folder is on; None where the system does not tell."""
    try:
        lines = Path(mounts).read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:
        _, point, of_kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if folder.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), of_kind
    return kind


def holder_of(out: Place, job: str) -> tuple[str, int] | None:
    """(run, process) that held the job's lock last on this machine, and may hold it still. The lock itself is
    left alone: whoever tries it would be in the way of a run that begins just then."""
    folder = state_folder(out) if isinstance(out, InBucket) else out / "runs"
    with suppress(OSError):
        told = (folder / f".lock-{job}").read_text("utf-8", "replace")
        holder = re.fullmatch(r"run (\S+), process (\d+)", told.strip())
        if holder:
            return holder[1], int(holder[2])
    return None


@contextmanager
def job_lock(out: Place, job: str, run_id: str) -> Iterator[None]:
    """Hold the job's lock for the length of a run; of a store in a bucket, among machines as well.

    Raises:
        StoreError: another process runs this job on this store, or the folder takes no lock.
    """
    if isinstance(out, InBucket):
        folder = state_folder(out)
        with _locked(folder, out, job, run_id), leased(out, job, run_id, machine_of(folder)):
            yield
    else:
        with _locked(out / "runs", out, job, run_id):
            yield


@contextmanager
def _locked(folder: Path, out: Place, job: str, run_id: str) -> Iterator[None]:
    path = folder / f".lock-{job}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(
            f"--out {out}: cannot write {'there' if isinstance(out, Path) else path} ({error.strerror}); "
            "choose another folder"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = ""
            with suppress(OSError):
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            raise StoreError(
                f"--out {out}: job {job!r} is running already ({holder or 'by another process'}); "
                "wait for it, or give this one another --job or --out"
            ) from None
        except OSError as error:
            raise StoreError(f"--out {out}: cannot be locked ({error.strerror}); use a local disk") from None
        with suppress(OSError):  # on a full disk the lock still holds; only its holder's name is missing
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"run {run_id}, process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)  # which gives the lock back; the file stays, for removing it would race
