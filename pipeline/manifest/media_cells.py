"""One URL out of a cell → a checked address that an endpoint, or inline delivery, can read.

``http(s)://``, buckets (``s3://``, ``gs://``, ``az://``), ``data:``, ``file://`` and local paths are read;
nothing is fetched, local files are looked at with one ``stat``. What cannot be read is a ``CellProblem``.
"""

from __future__ import annotations

import os
import re
import stat
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Final
from urllib.parse import unquote

from pipeline.manifest.cells import CellProblem, shortened
from pipeline.media.kinds import MAX_INLINE_BYTES, modality_of_url
from pipeline.media.urls import storable, without_signature
from pipeline.records import MEDIA_MODALITIES, MediaModality

# Host: a name (of any script) or a bracketed IPv6 address, after optional user info, before an optional port.
_HTTP: Final = re.compile(
    r"https?://(?:[^\s/?#]*@)?(?:\[[0-9a-f:.]+(?:%[\w.~-]+)?\]|(?=[^/?#:]*\w)[^\s/?#@:\[\]\\<>\"|^`{}]+)(?::[0-9]{0,5})?"
    r"(?:[/?#][^\s\x00-\x1f\x7f]*)?",
    re.IGNORECASE,
)
# One letter would be a Windows drive.
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_DATA: Final = re.compile(
    r"data:([a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+)((?:;[^;,\s]+)*);base64,", re.IGNORECASE
)
_WEB_ADDRESS: Final = re.compile(r"(?:www\.|[\w-]+(?:\.[\w-]+)+/)")
_BUCKET: Final = re.compile(
    r"(?:s3|gs|az)://[A-Za-z0-9_.-]+/[^\x00-\x1f\x7f]*[^\x00-\x1f\x7f/]", re.IGNORECASE
)
_READ: Final = "http://, https://, s3://, gs://, az://, data:, file:// and local paths are read"


def checked_url(value: str, folder: str, column: str) -> str:
    """The address of a media: a URL as it stands, a local path made absolute.

    ``value`` is stripped; ``folder`` is the manifest's, "" of one that was fetched. Scheme letters come back
    in lower case.
    """
    if _HTTP.fullmatch(value):
        return value if value[:4] == "http" and value[4] in "s:" else _lower_scheme(value)
    scheme = _SCHEME.match(value)
    if scheme is None:
        return _local(value, value, folder, column)
    match scheme[0].lower():
        case "http:" | "https:":
            raise CellProblem(column, _http_problem(value))
        case "s3:" | "gs:" | "az:":
            if not _BUCKET.fullmatch(value):
                raise CellProblem(column, f"names no object; it looks like s3://bucket/key: {_shown(value)}")
            return _lower_scheme(value)
        case "data:":
            return _data(value, column)
        case "file:":
            return _local(value, _path_of_file_url(value, column), folder, column)
        case other if os.path.exists(os.path.join(folder, value)):
            return _local(value, value, folder, column)
        case other:
            raise CellProblem(column, f"has the scheme {other[:-1]!r}; {_READ}: {_shown(value)}")


def modality_of(value: str, word: str | None) -> MediaModality:
    """The modality of a long-form row's media: the word in its ``modality`` cell, else what its URL says."""
    if word is None:
        if (inferred := modality_of_url(value)) is None:
            problem = "does not tell whether it is image, audio, video or document; add a modality column"
            raise CellProblem("url", f"{problem}: {_shown(value)}")
        return inferred
    plain = word.strip().lower()
    for modality in MEDIA_MODALITIES:
        if plain == modality:
            return modality
    known = f"{', '.join(MEDIA_MODALITIES[:-1])} or {MEDIA_MODALITIES[-1]}"
    raise CellProblem("modality", f"is {shortened(word)!r}; it must be {known}")


def _lower_scheme(value: str) -> str:
    scheme, _, rest = value.partition(":")
    return f"{scheme.lower()}:{rest}"


def _http_problem(value: str) -> str:
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        return f"has a blank or control character in its URL; write it as %20: {_shown(value)}"
    return f"has no valid host in its URL: {_shown(value)}"


def _data(value: str, column: str) -> str:
    header = _DATA.match(value)
    if header is None:
        raise CellProblem(column, f"is no data URL of the form data:<type>;base64,…: {shortened(value)}")
    try:
        # Strict decoding finds foreign characters and missing padding, and is still half a gigabyte a second.
        size_bytes = len(a2b_base64(value[header.end() :].encode("ascii"), strict_mode=True))
    except (Base64Error, UnicodeEncodeError) as error:
        raise CellProblem(
            column, f"has a data URL whose base64 is broken ({error}): {shortened(value)}"
        ) from None
    if not size_bytes:
        raise CellProblem(column, f"has a data URL with nothing in it: {shortened(value)}")
    if size_bytes > MAX_INLINE_BYTES:
        raise CellProblem(column, _too_large("the data URL", size_bytes))
    return "data:" + value[5:]


def _path_of_file_url(value: str, column: str) -> str:
    host, slash, path = (
        value[5:].removeprefix("//").partition("/") if value[5:7] == "//" else ("", "", value[5:])
    )
    if host.lower() not in ("", "localhost") or (value[5:7] == "//" and not slash):
        raise CellProblem(column, f"names another machine in a file URL; {_READ}: {_shown(value)}")
    return unquote(slash + path)


def _local(value: str, path: str, folder: str, column: str) -> str:
    if not folder and not os.path.isabs(path):
        problem = "is no whole address, and the manifest was fetched, so that paths begin nowhere"
        raise CellProblem(column, f"{problem}: {_shown(value)}")
    full = os.path.join(folder, path)
    # Taking `..` out by text alone would be wrong behind a symbolic link.
    if ".." not in full:
        full = os.path.normpath(full)
    try:
        status = os.stat(full)
    except (FileNotFoundError, NotADirectoryError):
        hint = "; a web address begins with https://" if _WEB_ADDRESS.match(value) else ""
        raise CellProblem(column, f"no such file: {shortened(full)}{hint}") from None
    except (OSError, ValueError) as error:
        raise CellProblem(column, f"cannot be read as a file ({_reason(error)}): {shortened(full)}") from None
    if stat.S_ISDIR(status.st_mode):
        raise CellProblem(column, f"is a folder, not a file: {shortened(full)}")
    if not stat.S_ISREG(status.st_mode):
        raise CellProblem(column, f"is no regular file: {shortened(full)}")
    if not os.access(full, os.R_OK):
        raise CellProblem(column, f"may not be read (permissions): {shortened(full)}")
    if not status.st_size:
        raise CellProblem(column, f"is an empty file: {shortened(full)}")
    if status.st_size > MAX_INLINE_BYTES:
        raise CellProblem(column, _too_large(shortened(full), status.st_size))
    return full


def _too_large(what: str, size_bytes: int) -> str:
    return (
        f"{what} has {size_bytes / 1e6:.1f} MB; at most {MAX_INLINE_BYTES / 1e6:.0f} MB go inline: "
        "put it on a web server, or make it smaller"
    )


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _shown(value: str) -> str:
    return shortened(storable(value) if value[:5].lower() == "data:" else without_signature(value))
