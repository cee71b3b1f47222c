"""Whether fetched bytes are one whole medium of the kind that the manifest says, and of which MIME type.

The content decides, never a header or a name. Owns what is refused: pages, archives, broken and cut-off
media, pictures with absurd sizes, files that are two things at once. Nothing is decoded here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Final

from PIL import Image

from pipeline.errors import MediaMistaken
from pipeline.media.kinds import MIME_BY_EXTENSION, mime_of_path
from pipeline.media.probing import (
    ImageFacts,
    UnreadableMedia,
    looks_like_image,
    probe_image,
    probe_sound_or_video,
)
from pipeline.records import MediaModality

MOST_PIXELS: Final = 89_000_000
"""Pillow's own alarm for decompression bombs begins here."""

# Else Pillow prints it, and goes on.
warnings.simplefilter("error", Image.DecompressionBombWarning)

# First bytes of what hosts send instead of media, as a person would say it.
_NO_MEDIA: Final[tuple[tuple[bytes, str], ...]] = (
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<script", "a web page"),
    (b"<?xml", "an XML document"),
    (b"<svg", "an SVG drawing"),
    (b"<error", "an XML document"),
    (b"{", "a JSON document"),
    (b"[", "a JSON document"),
    (b"pk\x03\x04", "a zip archive"),
    (b"pk\x05\x06", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x7felf", "a program"),
    (b"mz", "a program"),
    (b"#!/", "a script"),
)
_STILL_CONTAINER: Final = (b"heic", b"heix", b"heif", b"mif1", b"msf1")  # which Pillow does not open
_EXTENSION_OF_CONTAINER: Final = {"asf": "wmv", "mpegts": "ts", "matroska": "mkv"}
_ZIP_END: Final = b"PK\x05\x06"
_ZIP_END_BYTES: Final = 22
_LONGEST_ZIP_COMMENT: Final = 65_535
_PADDING: Final = b"\0\t\n\r \xff"


def judged_mime(content: bytes, modality: MediaModality) -> str:
    """The MIME type of a medium, by its content.

    Raises:
        MediaMistaken: it is none, or of another modality, or broken.
    """
    try:
        mime = _mime(content, modality)
    except UnreadableMedia as error:
        raise MediaMistaken(f"its content cannot be read: {error.reason}") from None
    if _is_zip(content):
        raise MediaMistaken(f"it is {_a(modality)} and a zip archive at once")
    return mime


def _mime(content: bytes, modality: MediaModality) -> str:
    if looks_like_image(content):
        _expect(modality, "an image", "image")
        return _image_mime(content)
    if content.startswith(b"%PDF-"):
        _expect(modality, "a PDF", "document")
        if b"%%EOF" not in content[-2048:]:
            raise MediaMistaken("it is a PDF that is cut off")
        return "application/pdf"
    told = _told_by_first_bytes(content)
    if modality == "document":
        if told is None or told.endswith(("document", "page")):
            return _text_mime(content)
        raise MediaMistaken(f"it is {told}, no document")
    if told is not None:
        raise MediaMistaken(f"it is {told}, not {_a(modality)}")
    if modality == "image":
        raise MediaMistaken("it is no image that is known here")
    facts = probe_sound_or_video(content)
    container = facts.container
    extension = _EXTENSION_OF_CONTAINER.get(container, container)
    if container == "matroska" and b"webm" in content[:64]:
        extension = "webm"
    mime = mime_of_path(f"medium.{extension}", modality)
    assert mime is not None  # there is one for every modality
    return mime


def _expect(modality: MediaModality, what: str, expected: MediaModality) -> None:
    if modality != expected:
        raise MediaMistaken(f"it is {what}, not {_a(modality)}")


def _a(modality: MediaModality) -> str:
    return {"image": "an image", "audio": "audio"}.get(modality, f"a {modality}")


def _told_by_first_bytes(content: bytes) -> str | None:
    start = content[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((what for magic, what in _NO_MEDIA if start.startswith(magic)), None)


def _text_mime(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise MediaMistaken("it is neither a PDF nor text")
    return "text/html" if _told_by_first_bytes(content) == "a web page" else "text/plain"


def _image_mime(content: bytes) -> str:
    if content[4:8] == b"ftyp" and content[8:12] in _STILL_CONTAINER:
        return "image/heic" if content[8:10] == b"he" else "image/heif"
    facts = probe_image(content)
    _check_size(facts)
    end_of = _ENDS.get(facts.format)
    if end_of is not None:
        end = end_of(content)
        if end is None or end > len(content):
            raise MediaMistaken(f"it is a {facts.format} image that is cut off")
        # Cameras put a second picture or a film behind a JPEG; nothing belongs behind the others.
        behind = b"" if facts.format in ("JPEG", "MPO") else content[end:].strip(_PADDING)
        if behind:
            raise MediaMistaken(
                f"it is a {facts.format} image with {len(behind):,} bytes of something else behind it"
            )
    return "image/jpeg" if facts.format == "MPO" else MIME_BY_EXTENSION[facts.format.lower()]


def _check_size(facts: ImageFacts) -> None:
    if facts.width_px * facts.height_px > MOST_PIXELS:
        raise MediaMistaken(
            f"it is an image of {facts.width_px:,} x {facts.height_px:,} pixels; at most "
            f"{MOST_PIXELS / 1e6:.0f} megapixels are taken"
        )


def _png_end(content: bytes) -> int | None:
    at = 8
    while at + 12 <= len(content):
        kind = content[at + 4 : at + 8]
        at += 12 + int.from_bytes(content[at : at + 4])
        if kind == b"IEND":
            return at
    return None


def _gif_end(content: bytes) -> int | None:
    at = 13 + _gif_palette(content[10:11])
    while at < len(content):
        block = content[at]
        if block == 0x3B:
            return at + 1
        if block == 0x2C:  # a picture: its place, perhaps a palette, the size of its codes
            at += 11 + _gif_palette(content[at + 9 : at + 10])
        elif block == 0x21:  # an extension: its kind
            at += 2
        else:
            return None
        while at < len(content) and content[at]:
            at += 1 + content[at]
        at += 1
    return None


def _gif_palette(flags: bytes) -> int:
    return 3 * 2 ** ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _webp_end(content: bytes) -> int | None:
    length = int.from_bytes(content[4:8], "little")
    return 8 + length + (length & 1)


def _jpeg_end(content: bytes) -> int | None:
    """Behind the end marker that follows the first scan: one inside a preview does not count."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        kind = content[at + 1]
        if kind == 0xFF:  # padding
            at += 1
            continue
        if kind == 0xDA:
            end = content.find(b"\xff\xd9", at)
            return None if end < 0 else end + 2
        at += 2 + (0 if kind == 0x01 or 0xD0 <= kind <= 0xD8 else int.from_bytes(content[at + 2 : at + 4]))
    return None


_ENDS: Final[dict[str, Callable[[bytes], int | None]]] = {
    "PNG": _png_end,
    "GIF": _gif_end,
    "WEBP": _webp_end,
    "JPEG": _jpeg_end,
    "MPO": _jpeg_end,
}


def _is_zip(content: bytes) -> bool:
    """A zip is found by its end, so that anything may stand before it."""
    at = content.rfind(_ZIP_END, max(0, len(content) - _ZIP_END_BYTES - _LONGEST_ZIP_COMMENT))
    if at < 0 or at + _ZIP_END_BYTES > len(content):
        return False
    directory_bytes = int.from_bytes(content[at + 12 : at + 16], "little")
    comment_bytes = int.from_bytes(content[at + 20 : at + 22], "little")
    if at + _ZIP_END_BYTES + comment_bytes > len(content) or directory_bytes > at:
        return False
    return not directory_bytes or content[at - directory_bytes : at].startswith(b"PK\x01\x02")
