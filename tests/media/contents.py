"""Media made on the spot, and what is made to look like them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

from PIL import Image


def picture(
    format: str = "PNG", size: tuple[int, int] = (64, 48), mode: str = "RGB", noise: bool = False, **more: Any
) -> bytes:
    image = Image.effect_noise(size, 80).convert(mode) if noise else Image.new(mode, size, 80)
    made = io.BytesIO()
    image.save(made, format, **more)
    return made.getvalue()


def sound(seconds: float = 0.2) -> bytes:
    """A WAV of silence, 8 kHz, 16 bit."""
    samples = bytes(2 * int(8000 * seconds))
    form = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    body = (
        b"WAVEfmt "
        + struct.pack("<I", len(form))
        + form
        + b"data"
        + struct.pack("<I", len(samples))
        + samples
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def archive() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("run.sh", "echo gotcha")
    return made.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width_px: int = 60_000, height_px: int = 60_000) -> bytes:
    """A PNG that claims so many pixels, in a few kilobytes."""
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(bytes(1_000_000), 9)),
            chunk(b"IEND", b""),
        ]
    )


SCRIPT_LIKE_A_GIF = b"GIF89a/*\x00\x00\x00\x00*/=1;alert(document.cookie)//<script src=x></script>"
PAGE_LIKE_A_GIF = b"GIF89a<html><body><script>alert(1)</script></body></html>"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Please log in</title></head></html>"


def large_jpeg(size_bytes: int) -> bytes:
    """A JPEG of exactly so many bytes: comments fill it up."""
    small = picture("JPEG")
    missing = size_bytes - len(small)
    filling = b""
    while missing:
        length = min(missing, 65_537)
        if 0 < missing - length < 4:  # room for one more marker
            length -= 4
        filling += b"\xff\xfe" + struct.pack(">H", length - 2) + bytes(length - 4)
        missing -= length
    return small[:2] + filling + small[2:]
