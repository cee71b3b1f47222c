"""Bodies that hold media without holding them in memory."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path

import anyio
import pytest

from pipeline.errors import MediaGone
from pipeline.media.splicing import READ_AT_ONCE_BYTES, WHOLE_BYTES, Inlined, SplicedBody, inlined, spliced


async def sent(body: bytes | SplicedBody) -> bytes:
    return body if isinstance(body, bytes) else b"".join([piece async for piece in body])


def rendered(*media: Inlined) -> bytes:
    return json.dumps({"prompt": "看", "urls": [one.url for one in media]}).encode()


@pytest.mark.parametrize(
    "size_bytes", [0, 1, 2, 3, 1000, READ_AT_ONCE_BYTES - 1, READ_AT_ONCE_BYTES, 3 * READ_AT_ONCE_BYTES + 1]
)
def test_what_is_sent_is_the_body_with_the_media_in_their_places(tmp_path: Path, size_bytes: int):
    (tmp_path / "one").write_bytes(bytes(i % 251 for i in range(size_bytes)))
    (tmp_path / "two").write_bytes(b"second")
    one, two = inlined(tmp_path / "one", size_bytes, "image/png"), inlined(tmp_path / "two", 6, "audio/wav")

    async def send() -> None:
        body = await spliced(rendered(one, two, one), [one, two])
        whole = await sent(body)
        assert len(body) == len(whole)
        assert isinstance(body, bytes) == (len(whole) <= WHOLE_BYTES)
        urls = json.loads(whole)["urls"]
        assert [url.partition(",")[0] for url in urls] == [
            *("data:image/png;base64", "data:audio/wav;base64", "data:image/png;base64")
        ]
        content = (tmp_path / "one").read_bytes()
        assert [b64decode(url.partition(",")[2]) for url in urls] == [content, b"second", content]
        assert await sent(body) == whole  # it can be sent again

    anyio.run(send)


def test_a_body_without_media_is_left_as_it_is():
    body = b'{"prompt": "hello"}'
    assert anyio.run(spliced, body, []) is body


@pytest.mark.parametrize("size_bytes", [100, 2 * WHOLE_BYTES])
def test_a_file_that_became_shorter_is_not_sent_as_something_else(tmp_path: Path, size_bytes: int):
    path = tmp_path / "a"
    path.write_bytes(bytes(size_bytes))
    one = inlined(path, size_bytes, "image/png")

    async def send() -> None:
        body = await spliced(rendered(one), [one])
        path.write_bytes(b"")
        await sent(body)

    if size_bytes < WHOLE_BYTES:
        path.write_bytes(b"")
    with pytest.raises(MediaGone, match="shorter"):
        anyio.run(send)


def test_a_prompt_cannot_stand_in_for_a_medium(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    one = inlined(tmp_path / "a", 3, "image/png")
    other = inlined(tmp_path / "a", 3, "image/png")
    assert one.mark != other.mark
    body = json.dumps({"prompt": other.url, "url": one.url}).encode()
    told = json.loads(anyio.run(spliced, body, [one]))
    assert told == {"prompt": other.url, "url": f"data:image/png;base64,{b64encode(b'abc').decode()}"}
