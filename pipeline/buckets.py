"""Objects in buckets: `s3://`, `gs://` and `az://`, through obstore, which the extra `cloud` brings.

Owns how a bucket is reached, how patiently, and what its errors mean to a person; refuses to know what is in
it. Credentials come from the environment or from the machine's role; nothing an error says repeats them.
Synchronous: callers bring the thread. A manifest and the store's places come next.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, TypeVar

from pipeline.errors import BucketFailed, UsageError

T = TypeVar("T")

SCHEMES: Final = ("s3", "gs", "az")
_ADDRESS: Final = re.compile(r"(s3|gs|az)://([^/?#]*)/?([^?#]*)", re.IGNORECASE)
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")

# With waits that grow by chance from 0.3 s to 10 s: ten to forty seconds, which outlive a bucket's hiccups.
_PATIENT: Final = 9
_WAITS: Final = {"init_backoff": timedelta(seconds=0.3), "max_backoff": timedelta(seconds=10), "base": 3}
# Once it was waited for in vain, everything else that is to be written asks only twice.
_QUICK: Final = 1
_TIMEOUT: Final = timedelta(minutes=2)  # of one request; a part is some megabytes

_CREDENTIALS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the bucket tells of it. ``e_tag`` and ``version`` change when its content does."""

    key: str
    size_bytes: int
    modified_at: datetime
    e_tag: str | None
    version: str | None


def is_in_a_bucket(address: str) -> bool:
    return address.partition("://")[0].lower() in SCHEMES and "://" in address


def split(address: str) -> tuple[str, str, str]:
    """(scheme, bucket, key) of `s3://bucket/key`.

    Raises:
        UsageError: it names no bucket, or a key that no tool writes.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not found[2]:
        raise UsageError(f"{address.partition('?')[0]}: an address in a bucket is like s3://bucket/folder")
    key = found[3].strip("/")
    if any(name in ("", ".", "..") for name in key.split("/")) and key:
        raise UsageError(f"{address}: leave '//', '.' and '..' out of it")
    return found[1].lower(), found[2], key


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a key matches, name by name: ``*`` stays within a name."""
    names = [re.compile(fnmatch.translate(name)).match for name in pattern.split("/")]

    def matches(key: str) -> bool:
        parts = key.split("/")
        return len(parts) == len(names) and all(name(part) for name, part in zip(names, parts, strict=True))

    return matches


class Bucket:
    """One bucket. What goes wrong is `BucketFailed`; an object that is not there is `FileNotFoundError`."""

    def __init__(self, scheme: str, name: str) -> None:
        self.scheme = scheme
        self.name = name
        self._stores = {tries: open_store(scheme, name, tries) for tries in (_PATIENT, _QUICK)}
        self._tries = _PATIENT

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}"

    def head(self, key: str) -> Stored | None:
        """What is known of an object; None where there is none."""
        import obstore

        try:
            return _stored(self._asked(lambda store: obstore.head(store, key)))
        except FileNotFoundError:
            return None

    def get(self, key: str) -> tuple[Stored, bytes]:
        import obstore

        def whole(store: Any) -> tuple[Stored, bytes]:
            got = obstore.get(store, key)
            return _stored(got.meta), bytes(got.bytes())

        return self._asked(whole)

    def stream(self, key: str) -> Iterator[bytes]:
        """An object of any size, in pieces of some megabytes."""
        import obstore

        # The patience of a request is for all of its answer: none is set on one that may take an hour.
        store = open_store(self.scheme, self.name, _PATIENT, timeout=None)
        pieces = self._asked(lambda _: iter(obstore.get(store, key).stream(min_chunk_size=4 << 20)))
        while (piece := self._asked(lambda _: next(pieces, None))) is not None:
            yield bytes(piece)

    def list(self, prefix: str) -> list[Stored]:
        """All objects below a folder, at any depth, by key."""
        import obstore

        def all_of(store: Any) -> list[Stored]:
            chunks = obstore.list(store, prefix or None, chunk_size=1000)
            return sorted((_stored(one) for chunk in chunks for one in chunk), key=lambda one: one.key)

        return self._asked(all_of)

    def is_there(self, prefix: str) -> bool:
        """Whether anything is below a folder."""
        import obstore

        return self._asked(
            lambda store: any(chunk for chunk in obstore.list(store, prefix or None, chunk_size=1))
        )

    def put(self, key: str, content: bytes) -> None:
        """Write an object in one request: it is there as a whole, or as it was before."""
        import obstore

        self._asked(lambda store: obstore.put(store, key, content, use_multipart=False))

    def put_if(self, key: str, content: bytes, before: Stored | None) -> Stored | None:
        """Write it where it is still as it was ``before`` (None: not there at all); else return None.

        Raises:
            NotImplementedError: this bucket knows no such condition.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create"
        if before is not None:
            told = {"e_tag": before.e_tag, "version": before.version}
            mode = {name: value for name, value in told.items() if value is not None}
        try:
            put = self._asked(lambda store: obstore.put(store, key, content, mode=mode, use_multipart=False))
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return None
        return Stored(key, len(content), datetime.now().astimezone(), put["e_tag"], put["version"])

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        import obstore

        try:
            self._asked(lambda store: obstore.delete(store, key))
        except FileNotFoundError:
            return

    def _asked(self, ask: Callable[[Any], T]) -> T:
        from obstore import exceptions

        passed_on = (exceptions.AlreadyExistsError, exceptions.PreconditionError)
        try:
            answer = ask(self._stores[self._tries])
        except passed_on:
            raise
        except (exceptions.BaseError, OSError) as error:
            raise self._told(error) from None
        self._tries = _PATIENT
        return answer

    def _told(self, error: Exception) -> Exception:
        """obstore's error, whose text repeats addresses and whole answers, as one of ours."""
        text = str(error)
        code = (_CODE.search(text) or [""])[0]
        status = (_STATUS.search(text) or [""])[0]
        if _NO_BUCKET.search(text):
            return BucketFailed(str(self), "there is no such bucket")
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(2, "there is no such object")
        if status == "501" or code == "NotImplemented":
            return NotImplementedError(str(self))
        how = ", ".join(part for part in (status, code) if part)
        if status in ("401", "403") or type(error).__name__ in (
            "PermissionDeniedError",
            "UnauthenticatedError",
        ):
            return BucketFailed(
                str(self), f"access is refused ({how or '403'}); check {_CREDENTIALS[self.scheme]}"
            )
        self._tries = _QUICK
        if how:
            return BucketFailed(str(self), f"it answers with an error ({how})")
        return BucketFailed(str(self), "it does not answer")


_CODE: Final = re.compile(r"(?<=<Code>)\w{1,60}(?=</Code>)")
_STATUS: Final = re.compile(r"(?<=status )[345]\d\d\b|(?<=status code: )[345]\d\d\b|(?<=\()[345]\d\d(?= \w)")
_NO_BUCKET: Final = re.compile(r"NoSuchBucket|ContainerNotFound|specified bucket does not exist")


@cache
def open_bucket(scheme: str, name: str) -> Bucket:
    """
    Raises:
        UsageError: what speaks to buckets is not installed, or not set up.
    """
    return Bucket(scheme, name)


def open_store(scheme: str, name: str, tries: int, timeout: timedelta | None = _TIMEOUT) -> Any:
    """obstore's own store of a bucket; ``tries`` are those after the first.

    Raises:
        UsageError: what speaks to buckets is not installed, or not set up.
    """
    try:
        from obstore import exceptions, store
    except ModuleNotFoundError:
        raise UsageError(
            f"{scheme}://{name}: buckets need one more package: pip install 'mediabatch[cloud]'"
        ) from None
    is_plain = any(os.environ.get(variable, "").startswith("http://") for variable in _ENDPOINTS)
    kind = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[scheme]
    try:
        return kind(
            name,
            client_options={
                "allow_http": is_plain,  # an endpoint that somebody named so, in a house of their own
                "connect_timeout": timedelta(seconds=10),
                "timeout": timeout or timedelta(hours=2),
                "read_timeout": timedelta(minutes=1),
            },
            retry_config={"max_retries": tries, "retry_timeout": timedelta(minutes=3), "backoff": _WAITS},
        )
    except (exceptions.BaseError, ValueError):
        raise UsageError(
            f"{scheme}://{name}: cannot be used as it is set up; check {_CREDENTIALS[scheme]}"
        ) from None


def _stored(meta: Any) -> Stored:
    return Stored(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"], meta["version"])
