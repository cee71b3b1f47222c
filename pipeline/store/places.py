"""Where a store is: a folder on this machine, or a bucket. `Place` is the one seam between the two.

A place in a bucket has as much of `pathlib.Path` as the store needs, so that whoever reads and writes the
store need not know which it is. Three things differ, and stand here: how a file is written whole
(`write_whole`), how it is brought to where polars can read it (`on_disk`), and where what must stay on this
machine, ledgers and locks, is kept (`state_folder`).

What is read from a bucket is kept as a copy under its version, so that parts, which never change, come once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Final

from pipeline.buckets import Bucket, Stored, is_in_a_bucket, matcher, open_bucket, split
from pipeline.errors import BucketFailed, StoreError, StoreUnreachable, StoreUnwritable

_AT_ONCE: Final = 16  # copies that are fetched at the same time


class InBucket:
    """A place in a bucket: an object, or all objects below it.

    Whatever the bucket refuses before it has answered once is a person's mistake, `StoreError`; later it is
    `StoreUnreachable`, and a run halts. What is not there is `FileNotFoundError`, as with files.
    """

    __slots__ = ("_known", "_store", "key")

    def __init__(self, store: _Reached, key: str, known: Stored | None = None) -> None:
        self._store = store
        self.key = key
        self._known = known

    def __str__(self) -> str:
        return f"{self._store.bucket}/{self.key}".rstrip("/")

    def __repr__(self) -> str:
        return f"InBucket({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InBucket) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str | PurePosixPath) -> InBucket:
        return InBucket(self._store, f"{self.key}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> InBucket:
        return InBucket(self._store, self.key.rpartition("/")[0])

    def is_dir(self) -> bool:
        with self._store.asked(self) as bucket:
            return bucket.is_there(self.key)

    def is_file(self) -> bool:
        with self._store.asked(self) as bucket:
            return bucket.head(self.key) is not None

    def glob(self, pattern: str) -> Iterator[InBucket]:
        """Objects whose path below this one matches, by key; ``*`` stays within a name."""
        matches = matcher(pattern)
        with self._store.asked(self) as bucket:
            listed = bucket.list(self.key)
        for one in listed:
            if matches(one.key.removeprefix(f"{self.key}/")):
                yield InBucket(self._store, one.key, one)

    def read_bytes(self) -> bytes:
        """What the bucket gives now, whatever copy there is; it becomes the copy."""
        return self._fetched().read_bytes()

    def write_bytes(self, content: bytes) -> None:
        """Whole or not at all."""
        with self._store.asked(self, "cannot be written") as bucket:
            self._store.check_it_is_ours()
            bucket.put(self.key, content)

    def unlink(self, missing_ok: bool = True) -> None:
        with self._store.asked(self, "cannot be removed") as bucket:
            self._store.check_it_is_ours()
            bucket.delete(self.key)

    def copied(self) -> Path:
        """A copy on this machine, as the object is now; of a listed object, as it was listed.

        Raises:
            FileNotFoundError: there is no such object.
        """
        known = self._known
        if known is None:
            with self._store.asked(self) as bucket:
                known = bucket.head(self.key)
        if known is None:
            raise FileNotFoundError(2, "there is no such object", str(self))
        copy = self._copy_of(known)
        with suppress(OSError):
            if copy.stat().st_size == known.size_bytes:
                return copy
        return self._fetched()

    def reached(self) -> AbstractContextManager[Bucket]:
        """The bucket itself, its failures told as those of the store."""
        return self._store.asked(self)

    def taken_by(self, somebody: str) -> None:
        """From now on nothing of this store is written: somebody else does."""
        self._store.taken_by = somebody

    def _fetched(self) -> Path:
        with self._store.asked(self) as bucket:
            known, content = bucket.get(self.key)
        copy = self._copy_of(known)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            aside = copy.with_name(f"{copy.name}.{os.getpid()}-{id(content):x}.aside")
            aside.write_bytes(content)
            aside.replace(copy)
        except OSError as error:
            raise StoreUnwritable(copy, error.strerror or str(error)) from None
        return copy

    def _copy_of(self, known: Stored) -> Path:
        """Where the copy of a version is; its folders are the store's own, for they hold its path keys."""
        told = f"{known.e_tag} {known.version} {known.size_bytes}"
        if known.e_tag is None and known.version is None:
            told += f" {known.modified_at}"
        folder, _, name = f"{self._store.bucket.scheme}/{self._store.bucket.name}/{self.key}".rpartition("/")
        stem, dot, ending = name.rpartition(".")
        version = blake2b(told.encode(), digest_size=8).hexdigest()
        return _cache_folder() / folder / f"{stem or ending}~{version}{dot}{ending if stem else ''}"


Place = Path | InBucket
"""A store, or something in one."""


class _Reached:
    """The bucket of a store, and whether it has answered."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self.bucket = bucket
        self._prefix = prefix
        self._has_answered = False
        self.taken_by: str | None = None  # whoever took the job's lock from us: nothing may be written then

    @contextmanager
    def asked(self, place: InBucket, problem: str = "") -> Iterator[Bucket]:
        try:
            if not self._has_answered:
                # A look at one object cannot tell a bucket that is not there from an object that is not.
                self.bucket.is_there(self._prefix)
                self._has_answered = True
            yield self.bucket
        except BucketFailed as error:
            if not self._has_answered:
                raise StoreError(f"--out {self.bucket}/{self._prefix}: {error.reason}") from None
            reason = f"{problem}, {error.reason}" if problem else error.reason
            raise StoreUnreachable(place, reason) from None

    def check_it_is_ours(self) -> None:
        if self.taken_by is not None:
            raise BucketFailed(str(self.bucket), f"the job was taken over by {self.taken_by}")


def place_of(address: str) -> Place:
    """A folder, or `s3://bucket/prefix`, `gs://…`, `az://container/prefix`.

    Raises:
        UsageError: it is no such address, or what speaks to buckets is not installed.
    """
    if not is_in_a_bucket(address):
        return Path(address)
    scheme, name, prefix = split(address)
    return InBucket(_Reached(open_bucket(scheme, name), prefix), prefix)


def write_whole(place: Place, content: bytes) -> None:
    """Write a file so that whoever looks sees all of it, or what was there before.

    Raises:
        StoreUnwritable: nothing was written.
    """
    if isinstance(place, InBucket):
        place.write_bytes(content)
        return
    aside = place.with_name(place.name + ".aside")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(place)
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself must survive a power cut
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)  # on a full disk, half a part is in the way
        raise StoreUnwritable(place, error.strerror or str(error)) from None


def found(folder: Place, pattern: str) -> list[Place]:
    """What is below a folder and matches, by name."""
    if isinstance(folder, InBucket):
        return list(folder.glob(pattern))
    here: list[Place] = [*sorted(folder.glob(pattern))]
    return here


def below(place: Place, store: Place) -> str:
    """Its path below the store."""
    if isinstance(place, InBucket):
        return str(place).removeprefix(f"{store}/")
    assert isinstance(store, Path)
    return place.relative_to(store).as_posix()


def rename(place: Place, name: str) -> None:
    """Give it another name in its folder."""
    if isinstance(place, InBucket):
        (place.parent / name).write_bytes(place.read_bytes())
        place.unlink()
    else:
        place.replace(place.with_name(name))


def on_disk(place: Place) -> Path:
    """The file itself, or a copy of the object as it is now.

    Raises:
        FileNotFoundError: there is no such object.
    """
    return place.copied() if isinstance(place, InBucket) else place


def all_on_disk(places: Sequence[Place]) -> list[Path]:
    """The same for many, in their order; what has to come comes several at a time."""
    if not any(isinstance(place, InBucket) for place in places):
        return [on_disk(place) for place in places]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(on_disk, places))


def state_folder(place: Place) -> Path:
    """Where the ledgers and locks of a store in a bucket are kept: beside the process, for SQLite and file
    locks need a local disk."""
    assert isinstance(place, InBucket)
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    bucket = place._store.bucket
    return Path(base) / "mediabatch" / bucket.scheme / bucket.name / place.key


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "mediabatch"
