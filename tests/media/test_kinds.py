"""Extensions, MIME types, modalities."""

from __future__ import annotations

import pytest

from pipeline.media.kinds import (
    GATEWAY_MIME_TYPES,
    MAX_INLINE_BYTES,
    MIME_BY_EXTENSION,
    mime_of_path,
    modality_of_mime,
    modality_of_url,
)


@pytest.mark.parametrize(
    ("url", "modality"),
    [
        ("https://x.example/a.jpg", "image"),
        ("https://x.example/a.JPG?w=1#f.mp3", "image"),
        ("https://x.example/dir.mp4/a.wav", "audio"),
        ("https://x.example/%E7%8C%AB.webm", "video"),
        ("clips/a.MOV", "video"),
        ("a?.mp3", "audio"),
        ("/abs/paper.pdf", "document"),
        ("data:audio/wav;base64,UklGRg==", "audio"),
        ("DATA:Image/PNG;base64,AA==", "image"),
        ("https://x.example/a", None),
        ("https://x.example/?f=a.jpg", None),
        ("https://x.jpg", None),
        ("https://x.example/a.exe", None),
        (".jpg", None),
        ("data:application/octet-stream;base64,AA==", None),
    ],
)
def test_a_modality_comes_from_the_paths_extension_or_the_mime_type(url: str, modality: str | None) -> None:
    assert modality_of_url(url) == modality


def test_the_types_that_the_gateway_knows_are_spelled_its_way() -> None:
    for extension in (
        "pdf",
        "mp3",
        "wav",
        "png",
        "jpg",
        "webp",
        "heic",
        "mov",
        "mp4",
        "mpg",
        "avi",
        "wmv",
        "flv",
    ):
        assert MIME_BY_EXTENSION[extension] in GATEWAY_MIME_TYPES, extension


def test_every_extension_has_a_modality() -> None:
    assert all(modality_of_mime(mime) for mime in MIME_BY_EXTENSION.values())


def test_a_container_of_two_modalities_follows_the_column() -> None:
    assert mime_of_path("a.mp4") == "video/mp4"
    assert mime_of_path("a.mp4", "audio") == "audio/mp4"
    assert mime_of_path("a.ogg", "video") == "video/ogg"


def test_a_modality_always_has_a_mime_type() -> None:
    assert mime_of_path("noending") is None
    assert mime_of_path("noending", "image") == "image/jpeg"


def test_the_inline_limit_is_the_older_gateways() -> None:
    """20 MB, decimal."""
    assert MAX_INLINE_BYTES == 20_000_000
