"""What comes over the wire is one whole medium of the kind that the manifest says, or it is refused."""

from __future__ import annotations

from importlib.resources import files

import pytest
from PIL import Image

from pipeline.errors import MediaMistaken
from pipeline.media.judging import judged_mime
from pipeline.media.kinds import modality_of_url
from pipeline.records import MediaModality
from tests.media.contents import (
    PAGE,
    PAGE_LIKE_A_GIF,
    SCRIPT_LIKE_A_GIF,
    archive,
    bomb,
    picture,
    sound,
)

EXAMPLES = [
    path
    for path in (files("data") / "media").iterdir()
    if modality_of_url(path.name) and "broken" not in path.name
]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_what_it_says(path):
    modality = modality_of_url(path.name)
    assert modality is not None
    mime = judged_mime(path.read_bytes(), modality)
    assert mime.partition("/")[0] == (modality if modality != "document" else mime.partition("/")[0])


@pytest.mark.parametrize(
    ("format", "mime"),
    [
        *(("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")),
        *(("BMP", "image/bmp"), ("TIFF", "image/tiff")),
    ],
)
def test_the_content_says_the_mime_type(format: str, mime: str):
    assert judged_mime(picture(format), "image") == mime


def test_sound_goes_as_sound_and_a_container_of_both_as_its_column_says():
    assert judged_mime(sound(), "audio") == "audio/wav"
    film = next(path for path in EXAMPLES if path.name.endswith(".mp4")).read_bytes()
    assert judged_mime(film, "video") == "video/mp4"
    assert judged_mime(film, "audio") == "audio/mp4"


def test_a_heic_picture_goes_although_nothing_here_opens_it():
    assert judged_mime(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "image") == "image/heic"


def test_documents_are_pdf_or_text():
    assert judged_mime(b"%PDF-1.7\n1 0 obj\n%%EOF\n", "document") == "application/pdf"
    assert judged_mime("第一章".encode(), "document") == "text/plain"


REFUSED: dict[str, tuple[bytes, MediaModality, str]] = {
    "a page": (PAGE, "image", "it is a web page, not an image"),
    "a page for a film": (PAGE, "video", "it is a web page, not a video"),
    "json": (b'{"error": "expired"}', "image", "it is a JSON document"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "audio", "an XML document"),
    "a zip": (archive(), "image", "it is a zip archive"),
    "a program": (b"\x7fELF\2\1\1" + bytes(64), "document", "it is a program"),
    "text": (b"hello", "image", "no image that is known"),
    "bytes": (bytes(range(256)) * 8, "audio", "cannot be read"),
    "a picture for sound": (picture(), "audio", "it is an image, not audio"),
    "sound for a picture": (sound(), "image", "no image that is known"),
    "a script like a GIF": (SCRIPT_LIKE_A_GIF, "image", "."),
    "a page like a GIF": (PAGE_LIKE_A_GIF, "image", "."),
    "a real GIF with a script behind it": (
        picture("GIF") + b"*/=1;alert(1)",
        "image",
        "GIF image with 13 bytes of something else behind it",
    ),
    "a PNG with a zip behind it": (picture("PNG") + archive(), "image", "something else behind it"),
    "a JPEG with a zip behind it": (picture("JPEG") + archive(), "image", "a zip archive at once"),
    "sound with a zip behind it": (sound() + archive(), "audio", "a zip archive at once"),
    "a bomb": (bomb(), "image", "too many pixels"),
    "a wide bomb": (bomb(9_000, 9_999), "image", "."),
    "a PNG cut off": (picture("PNG", noise=True)[:-200], "image", "truncated"),
    "a PNG without its end": (picture("PNG", noise=True)[:-12], "image", "cut off"),
    "a JPEG cut off": (picture("JPEG", noise=True)[:-200], "image", "cut off"),
    "a GIF cut off": (picture("GIF", noise=True)[:-200], "image", "."),
    "a WEBP cut off": (picture("WEBP", noise=True)[:-200], "image", "."),
    "a PDF cut off": (b"%PDF-1.7\n1 0 obj\n" + bytes(5000), "document", "cut off"),
    "a document of bytes": (b"\xff\xfe\0\1" * 9, "document", "neither a PDF nor text"),
}


@pytest.mark.parametrize(("content", "modality", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_something_else_is_refused_with_a_reason(content: bytes, modality: MediaModality, told: str):
    with pytest.raises(MediaMistaken, match=told):
        judged_mime(content, modality)


@pytest.mark.parametrize("format", ["PNG", "GIF", "WEBP", "JPEG"])
def test_padding_behind_a_picture_is_nothing(format: str):
    assert judged_mime(picture(format) + b"\0\0\r\n", "image") == f"image/{format.lower()}"


def test_a_film_behind_a_jpeg_is_what_cameras_make():
    assert judged_mime(picture("JPEG") + b"\0\0\0\x18ftypmp42" + bytes(64), "image") == "image/jpeg"


def test_a_preview_inside_a_jpeg_does_not_end_it():
    exif = Image.Exif()
    exif[0x010E] = "a preview " + picture("JPEG").decode("latin-1")
    whole = picture("JPEG", noise=True, exif=exif)
    assert judged_mime(whole, "image") == "image/jpeg"
    with pytest.raises(MediaMistaken, match="cut off"):
        judged_mime(whole[:-100], "image")
