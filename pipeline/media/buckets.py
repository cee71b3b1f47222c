"""Media in buckets, through obstore: signed for an endpoint to fetch, or downloaded to go inline.

`pipeline.buckets` says how a bucket is reached. obstore comes with an extra, and is imported for the first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import anyio

from pipeline.buckets import open_store
from pipeline.errors import (
    FetchFailed,
    MediaGone,
    MediaMissing,
    MediaOversized,
    MediaUnreachable,
    UsageError,
)
from pipeline.media.downloading import OnSize, Patience, write_chunks

SIGNED_FOR: Final = timedelta(hours=1)
_READ_AT_ONCE_BYTES: Final = 256 * 1024


class Buckets:
    """The stores of one run."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._stores: dict[tuple[str, str], Any] = {}

    async def signed(self, url: str) -> str:
        """An address at which anybody can read the object for an hour.

        Raises:
            MediaGone: it cannot be signed.
        """
        try:
            store, key = self._found(url)
            import obstore

            signed: str = await obstore.sign_async(store, "GET", key, SIGNED_FOR)
        except MediaUnreachable as error:
            raise MediaGone(f"{url}: {error}") from None
        except Exception as error:  # noqa: BLE001 # obstore raises its own, and ValueError for settings
            raise MediaGone(f"{url}: cannot be signed ({_told(error)})") from None
        return signed

    async def download(self, url: str, into: Path, most_bytes: int, on_size: OnSize) -> int:
        """As `Downloader.download` does."""
        store, key = self._found(url)
        import obstore

        try:
            with anyio.fail_after(self._patience.total_s):
                found = await obstore.get_async(store, key)
                size_bytes = int(found.meta["size"])
                if size_bytes > most_bytes:
                    raise MediaOversized(most_bytes)
                on_size(size_bytes)
                return await write_chunks(_chunks(found), into, most_bytes)
        except MediaUnreachable:
            raise
        except TimeoutError:
            raise FetchFailed(f"it did not arrive within {self._patience.total_s:g} s") from None
        except FileNotFoundError:
            raise MediaMissing(404) from None
        except obstore.exceptions.PermissionDeniedError:
            raise MediaMissing(403) from None
        except obstore.exceptions.UnauthenticatedError:
            raise MediaMissing(401) from None
        except obstore.exceptions.BaseError as error:
            raise FetchFailed(_told(error)) from None

    def _found(self, url: str) -> tuple[Any, str]:
        scheme, _, rest = url.partition("://")
        bucket, _, key = rest.partition("/")
        if (scheme, bucket) not in self._stores:
            timeout = timedelta(seconds=self._patience.total_s)
            try:
                # What fails in passing is tried again by the run's own policy.
                self._stores[scheme, bucket] = open_store(scheme.lower(), bucket, 1, timeout)
            except UsageError as error:
                raise MediaUnreachable(str(error)) from None
        return self._stores[scheme, bucket], key


async def _chunks(found: Any) -> AsyncIterator[memoryview]:
    async for chunk in found.stream(min_chunk_size=_READ_AT_ONCE_BYTES):
        yield memoryview(chunk)


def _told(error: Exception) -> str:
    """The first line; obstore's go on for many, with addresses in them."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
