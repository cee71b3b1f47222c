"""What an endpoint is given to read."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import anyio
import pytest

from pipeline.errors import MediaGone, TerminalError
from pipeline.media.delivery import Delivery
from pipeline.media.kinds import MAX_INLINE_BYTES
from pipeline.media.splicing import spliced
from pipeline.records import Media, MediaModality, Request


def delivered(*media: Media) -> list[str]:
    """The URLs as they are sent, files in their places."""

    async def send() -> list[str]:
        urls, files = await Delivery().deliver(Request("m", "p", media, {}), {})
        body = await spliced("\n".join(urls).encode(), files)
        whole = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
        return whole.decode().split("\n") if whole else []

    return anyio.run(send)


def test_addresses_are_passed_on_as_they_are_signature_included():
    urls = ["https://h.example/a.jpg?X-Amz-Signature=s", "http://h.example/b", "data:image/png;base64,AA=="]
    assert delivered(*(Media("image", url) for url in urls)) == urls


def test_a_local_file_goes_inline(tmp_path: Path):
    picture = tmp_path / "图片.png"
    picture.write_bytes(bytes(range(256)))
    (url,) = delivered(Media("image", str(picture)))
    header, _, payload = url.partition(",")
    assert header == "data:image/png;base64"
    assert b64decode(payload) == bytes(range(256))


@pytest.mark.parametrize(
    ("name", "modality", "mime"),
    [
        ("a.JPG", "image", "image/jpeg"),
        ("a.mp4", "video", "video/mp4"),
        ("a.mp4", "audio", "audio/mp4"),
        ("a.ogg", "audio", "audio/ogg"),
        ("a.ogg", "video", "video/ogg"),
        ("without-ending", "image", "image/jpeg"),
        ("frame.bin", "video", "video/mp4"),
        ("a.pdf", "document", "application/pdf"),
    ],
)
def test_the_mime_type_is_one_of_the_medias_modality(
    tmp_path: Path, name: str, modality: MediaModality, mime: str
):
    (tmp_path / name).write_bytes(b"x")
    (url,) = delivered(Media(modality, str(tmp_path / name)))
    assert url == f"data:{mime};base64,eA=="


def test_the_order_is_kept(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"x")
    urls = delivered(
        Media("image", "https://h.example/1"),
        Media("image", str(tmp_path / "a.png")),
        Media("audio", "https://h.example/3"),
    )
    assert [url.partition(":")[0] for url in urls] == ["https", "data", "https"]


def test_no_media_is_nothing_to_deliver():
    assert delivered() == []


def test_a_file_that_went_away_is_the_items_own_failure(tmp_path: Path):
    gone = tmp_path / "gone.png"
    with pytest.raises(MediaGone, match="cannot be read any more") as caught:
        delivered(Media("image", str(gone)))
    assert str(gone) in str(caught.value)
    assert isinstance(caught.value, TerminalError)
    assert caught.value.state == "not_billed"


def test_a_file_that_grew_past_the_limit_is_not_sent(tmp_path: Path):
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(MAX_INLINE_BYTES + 1)
    with pytest.raises(MediaGone, match=f"the limit for inline media is {MAX_INLINE_BYTES}"):
        delivered(Media("image", str(large)))


def test_a_file_at_the_limit_is_sent(tmp_path: Path):
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(MAX_INLINE_BYTES)
    (url,) = delivered(Media("image", str(large)))
    assert url.startswith("data:image/png;base64,AAAA")
