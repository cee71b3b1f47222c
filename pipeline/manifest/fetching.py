"""A manifest at `https://`, `s3://`, `gs://` or `az://` → files on this disk, which are read like any other.

Owns how it is fetched, how much and how long at most, and what a person hears when that fails; refuses to
look into it. An address may be signed: it is repeated without its signature. In a bucket, ``*`` stands for
any part of a name.
"""

from __future__ import annotations

import re
import shutil
import ssl
import time
import weakref
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import mkdtemp
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, unquote_to_bytes, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, Request, build_opener

from pipeline.buckets import is_in_a_bucket, matcher, open_bucket, split
from pipeline.errors import BucketFailed, ManifestError
from pipeline.media.urls import without_signature

_HTTP: Final = re.compile(r"https?://", re.IGNORECASE)
_PIECE_BYTES: Final = 1 << 20
_TRIES: Final = 4  # with waits of 0.5, 1 and 2 s between them
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Patience:
    """How much is fetched, and how long that may take, at most."""

    size_bytes: int = 16 << 30
    silence_s: float = 60
    total_s: float = 3600


class Fetched:
    """The files of one manifest, in a folder of their own that goes when nobody needs them."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="mediabatch-manifest-"))
        self.paths: list[Path] = []
        self._end = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def is_address(manifest: str) -> bool:
    """Whether a manifest has to be fetched."""
    return _HTTP.match(manifest) is not None or is_in_a_bucket(manifest)


def fetch(address: str, *, ca_file: Path | None = None, patience: Patience = Patience()) -> Fetched:
    """Copy what is at an address; of several objects, in the order of their names.

    Raises:
        ManifestError: it cannot be had; the sentence says why.
    """
    shown = without_signature(address)
    fetched = Fetched()
    room = patience.size_bytes
    try:
        for name, pieces in _sources(address, shown, ca_file, patience):
            # Its own name, for the ending tells the format; a folder each, for names may be the same.
            path = fetched.folder / str(len(fetched.paths)) / name
            path.parent.mkdir()
            with path.open("wb") as file:
                for piece in pieces:
                    room -= len(piece)
                    if room < 0:
                        raise ManifestError(shown, f"is larger than {patience.size_bytes >> 20:,} MB")
                    file.write(piece)
            fetched.paths.append(path)
    except BucketFailed as error:
        raise ManifestError(shown, error.reason) from None
    except FileNotFoundError:
        raise ManifestError(shown, "there is no such object") from None
    except OSError as error:
        raise ManifestError(
            shown, f"cannot be copied to {fetched.folder} ({error.strerror or error})"
        ) from None
    return fetched


def _sources(
    address: str, shown: str, ca_file: Path | None, patience: Patience
) -> Iterator[tuple[str, Iterable[bytes]]]:
    """(file name, its bytes) of each file."""
    if not is_in_a_bucket(address):
        name = unquote(urlsplit(address).path.rpartition("/")[2]).replace("/", "_")
        yield name or "manifest", _over_http(address, shown, ca_file, patience)
        return
    scheme, bucket_name, key = split(address.partition("?")[0])
    bucket = open_bucket(scheme, bucket_name)
    keys = [key]
    if "*" in key:
        folder = key[: key.index("*")].rpartition("/")[0]
        keys = [one.key for one in bucket.list(folder) if matcher(key)(one.key)]
        if not keys:
            raise ManifestError(shown, "no object matches")
    for one in keys:
        yield one.rpartition("/")[2], bucket.stream(one)


def _over_http(address: str, shown: str, ca_file: Path | None, patience: Patience) -> Iterator[bytes]:
    """The body, tried anew only until its first byte came."""
    until = time.monotonic() + patience.total_s
    for nth in range(1, _TRIES + 1):
        try:
            response = _opened(address, ca_file, patience.silence_s)
            break
        except HTTPError as error:
            with closing(error):
                if error.code not in _AGAIN or nth == _TRIES:
                    raise ManifestError(shown, _refusal(error.code)) from None
        except (OSError, HTTPException) as error:
            if nth == _TRIES or _is_hopeless(error):
                raise ManifestError(shown, _no_answer(error, patience)) from None
        time.sleep(0.5 * 2 ** (nth - 1))
    with closing(response):
        length = response.headers.get("Content-Length", "")
        got = 0
        while True:
            try:
                piece = response.read1(_PIECE_BYTES)
            except (OSError, HTTPException) as error:
                raise ManifestError(shown, _no_answer(error, patience)) from None
            if not piece:
                break
            got += len(piece)
            if time.monotonic() > until:
                raise ManifestError(shown, f"did not come whole within {patience.total_s:g} s")
            yield piece
        if length.isdecimal() and got < int(length):
            raise ManifestError(shown, f"broke off after {got:,} of {int(length):,} bytes; start again")


def _opened(address: str, ca_file: Path | None, silence_s: float):  # type: ignore[no-untyped-def]
    # urllib, because it writes no log: httpx logs addresses, signatures included.
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    request = Request(
        urlunsplit(parts._replace(netloc=host, fragment="")), headers={"User-Agent": "mediabatch"}
    )
    if at:
        name, _, password = user.partition(":")
        words = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
        request.add_unredirected_header("Authorization", f"Basic {b64encode(words).decode()}")
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return build_opener(HTTPSHandler(context=context)).open(request, timeout=silence_s)


def _refusal(status: int) -> str:
    match status:
        case 404 | 410:
            return f"there is nothing at this address ({status})"
        case 401 | 403:
            return (
                f"access is refused ({status}); if it was signed, it may have expired: give it again, whole"
            )
        case _:
            return f"the server answers with {status}"


def _no_answer(error: Exception, patience: Patience) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"nothing came for {patience.silence_s:g} s"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({cause.verify_message}); --ca-file names one to trust as well"
        )
    if isinstance(cause, OSError):
        return f"cannot be reached ({cause.strerror or type(cause).__name__})"
    return f"broke off ({type(cause).__name__})"


def _is_hopeless(error: Exception) -> bool:
    cause = error.reason if isinstance(error, URLError) else error
    return isinstance(cause, ssl.SSLCertVerificationError)
