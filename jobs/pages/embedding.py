"""A local file → a ``data:`` URL that a page carries with it, where it is small enough.

Pictures are carried as small copies; sound and video as they are, or not at all. All of a page together has
a bound too.
"""

from __future__ import annotations

import io
from base64 import b64encode
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from pipeline.media.kinds import mime_of_path
from pipeline.records import MediaModality

_PICTURE_PX: Final = 640
_AS_IT_IS_BYTES: Final = 60_000
MOST_BYTES: Final = 2_000_000
"""Of one sound or video."""
PAGE_BYTES: Final = 48_000_000
_SHOWN_BY_BROWSERS: Final = {"image/png", "image/jpeg", "image/webp", "image/gif"}
_SPELT_FOR_BROWSERS: Final = {"video/mov": "video/mp4"}  # QuickTime's box is the same; browsers play it so


class Embedding:
    """What one page may still carry."""

    def __init__(self, page_bytes: int = PAGE_BYTES) -> None:
        self._left_bytes = page_bytes

    def data_url(self, path: str, modality: MediaModality) -> tuple[str | None, str]:
        """(the URL, or None; why there is none)"""
        if modality == "document":
            return None, "a document"
        try:
            size_bytes = Path(path).stat().st_size
            if modality == "image":
                mime, content = _picture(path, size_bytes)
            elif size_bytes > MOST_BYTES:
                return None, f"too large for this page ({size_bytes / 1e6:,.1f} MB)"
            else:
                mime, content = _mime(path, modality), Path(path).read_bytes()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                return None, f"it is not here any more ({error.strerror})"
            return None, "no picture that can be opened"  # what Pillow makes of damage
        if len(content) > self._left_bytes:
            return None, "the page is full"
        self._left_bytes -= len(content)
        return f"data:{mime};base64,{b64encode(content).decode()}", ""


def _mime(path: str, modality: MediaModality) -> str:
    mime = mime_of_path(path, modality) or ""
    return _SPELT_FOR_BROWSERS.get(mime, mime)


def _picture(path: str, size_bytes: int) -> tuple[str, bytes]:
    with Image.open(path) as image:
        mime = Image.MIME.get(image.format or "", "")
        if size_bytes <= _AS_IT_IS_BYTES and mime in _SHOWN_BY_BROWSERS:
            image.load()  # a picture that is cut off is none
            return mime, Path(path).read_bytes()
        image.draft("RGB", (_PICTURE_PX, _PICTURE_PX))
        upright = ImageOps.exif_transpose(image)
        has_alpha = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
        small = upright.convert("RGBA" if has_alpha else "RGB")
        small.thumbnail((_PICTURE_PX, _PICTURE_PX))
        file = io.BytesIO()
        small.save(file, "WEBP", quality=72)
    return "image/webp", file.getvalue()
