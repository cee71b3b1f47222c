"""File extensions, MIME types and modalities: which is which, and what gateways take.

Owns the table and the size limit of inline media; refuses to look into files (a wrong extension is believed).
The manifest infers modalities with it; inline delivery takes its MIME types from it.
"""

from __future__ import annotations

import posixpath
from typing import Final, get_args
from urllib.parse import unquote

from pipeline.records import MediaModality

MAX_INLINE_BYTES: Final = 20 * 1000 * 1000
"""Largest local file, or decoded ``data:`` URL, that goes inline: what older new-api builds take at most."""

# What new-api passes to Gemini models, by the server's Content-Type (its source, relay/channel/gemini, 2025);
# newer builds add webp, heic and heif. Its names for video are not IANA's: video/mov, avi, wmv and flv.
GATEWAY_MIME_TYPES: Final = frozenset(
    (
        *("application/pdf", "text/plain", "audio/mpeg", "audio/mp3", "audio/wav"),
        *("image/png", "image/jpeg", "image/jpg", "image/webp", "image/heic", "image/heif"),
        *(
            "video/mov",
            "video/mpeg",
            "video/mp4",
            "video/mpg",
            "video/avi",
            "video/wmv",
            "video/mpegps",
            "video/flv",
        ),
    )
)

# Extension → MIME type, spelled as the gateway above spells it where it knows the type, else as the vendors'
# media guides do (Gemini API: image, audio and video understanding, 2025–26), else as IANA does.
MIME_BY_EXTENSION: Final[dict[str, str]] = {
    # image
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "jpe": "image/jpeg",
    "jfif": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "svg": "image/svg+xml",
    "ico": "image/x-icon",
    "jp2": "image/jp2",
    "jxl": "image/jxl",
    # audio
    "mp3": "audio/mpeg",
    "mpga": "audio/mpeg",
    "wav": "audio/wav",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "aif": "audio/aiff",
    "aiff": "audio/aiff",
    "amr": "audio/amr",
    "wma": "audio/x-ms-wma",
    "weba": "audio/webm",
    "mka": "audio/x-matroska",
    # video
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "mov": "video/mov",
    "qt": "video/mov",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "avi": "video/avi",
    "wmv": "video/wmv",
    "flv": "video/flv",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "3gp": "video/3gpp",
    "3g2": "video/3gpp2",
    "ogv": "video/ogg",
    "ts": "video/mp2t",
    "mts": "video/mp2t",
    "m2ts": "video/mp2t",
    # document
    "pdf": "application/pdf",
    "txt": "text/plain",
}

# One container, two modalities: the column's word decides.
_MIME_BY_EXTENSION_AND_MODALITY: Final[dict[tuple[str, str], str]] = {
    ("mp4", "audio"): "audio/mp4",
    ("webm", "audio"): "audio/webm",
    ("mkv", "audio"): "audio/x-matroska",
    ("3gp", "audio"): "audio/3gpp",
    ("ogg", "video"): "video/ogg",
}

# A file whose ending says nothing of its modality is sent as the commonest type of that modality.
_USUAL_MIME: Final[dict[MediaModality, str]] = {
    "image": "image/jpeg",
    "audio": "audio/mpeg",
    "video": "video/mp4",
    "document": "application/pdf",
}

_MODALITY_BY_MIME: Final[dict[str, MediaModality]] = {
    "application/pdf": "document",
    "application/x-pdf": "document",
    "application/ogg": "audio",
    "application/mp4": "video",
}


def modality_of_mime(mime: str) -> MediaModality | None:
    """The modality of a MIME type; parameters and case do not matter. None where the type is no media."""
    essence = mime.partition(";")[0].strip().lower()
    if essence in _MODALITY_BY_MIME:
        return _MODALITY_BY_MIME[essence]
    major = essence.partition("/")[0]
    for modality in get_args(MediaModality):
        if major == modality:
            return modality  # type: ignore[no-any-return]  # get_args is untyped
    return "document" if major == "text" else None


_MODALITY_BY_EXTENSION: Final[dict[str, MediaModality | None]] = {
    extension: modality_of_mime(mime) for extension, mime in MIME_BY_EXTENSION.items()
}


def modality_of_url(url: str) -> MediaModality | None:
    """The modality a URL or local path speaks of, without fetching anything.

    ``data:`` by its MIME type; anything else by the extension of its path, query and fragment ignored, in any
    case. None where that says nothing.
    """
    if url[:5].lower() == "data:":
        return modality_of_mime(url[5 : url.index(",")] if "," in url else url[5:])
    return _MODALITY_BY_EXTENSION.get(_extension(url))


def mime_of_path(path: str, modality: MediaModality | None = None) -> str | None:
    """The MIME type under which gateways take a local file, by its extension.

    With a ``modality`` there is always an answer: the container's type in that modality, or the modality's
    commonest. Without one, None where the extension is unknown.
    """
    extension = _extension(path)
    mime = MIME_BY_EXTENSION.get(extension)
    if modality is None or (mime is not None and modality_of_mime(mime) == modality):
        return mime
    return _MIME_BY_EXTENSION_AND_MODALITY.get((extension, modality), _USUAL_MIME[modality])


def _extension(url: str) -> str:
    if "://" in url:
        url = url.partition("#")[0].partition("?")[0]
        host_and_path = url.partition("://")[2]
        name = unquote(host_and_path.rpartition("/")[2]) if "/" in host_and_path else ""
    else:
        name = url.replace("\\", "/").rpartition("/")[2]
    return posixpath.splitext(name)[1][1:].lower()
