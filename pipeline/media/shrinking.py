"""Images made smaller before they are sent, upright, in their own format where that is sensible.

Blocking, and it decodes: it runs in a worker thread. Refuses moving images, which it leaves as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Final

from PIL import Image, ImageOps

from pipeline.media.probing import open_image

_QUALITY: Final = 90
_SAME_FORMAT: Final = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "WEBP": "WEBP"}
_MODES: Final = {"JPEG": ("L", "RGB"), "PNG": ("L", "LA", "RGB", "RGBA"), "WEBP": ("RGB", "RGBA")}


@dataclass(frozen=True, slots=True)
class Shrunk:
    """An image made smaller; sizes are (width, height) in pixels, as it is seen."""

    content: bytes
    mime: str
    before_px: tuple[int, int]
    after_px: tuple[int, int]


def shrunk(content: bytes, max_px: int) -> Shrunk | None:
    """The image with its longer side at ``max_px``; None where it is no longer than that, moves, or is of a
    format that is not opened here.

    Raises:
        UnreadableMedia: it is broken.
    """
    if content[4:8] == b"ftyp" and content[8:12] not in (b"avif", b"avis"):
        return None  # HEIC
    with open_image(content) as image:
        is_moving = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
        if max(image.size) <= max_px or is_moving:
            return None
        width_px, height_px = image.size
        name = _SAME_FORMAT.get(image.format or "")
        profile = image.info.get("icc_profile")
        # A JPEG decodes at a half, a quarter or an eighth of its size; others ignore it.
        image.draft(None, (max_px, max_px))
        upright = ImageOps.exif_transpose(image)
        is_turned = (upright.width > upright.height) != (width_px > height_px)
        name = name or ("PNG" if upright.has_transparency_data else "JPEG")
        if upright.mode not in _MODES[name]:
            if upright.mode != "P":
                profile = None  # of other channels than those it becomes
            with_alpha = upright.has_transparency_data and name != "JPEG"
            upright = upright.convert("RGBA" if with_alpha else "RGB")
        upright.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
        made = BytesIO()
        more = {} if name == "PNG" else {"quality": _QUALITY}
        upright.save(made, name, icc_profile=profile, **more)
        return Shrunk(
            made.getvalue(),
            f"image/{name.lower()}",
            (height_px, width_px) if is_turned else (width_px, height_px),
            upright.size,
        )
