"""Ready-made plays for `Server`: what endpoints answer when all is well, when it is not, and a broken wire.

Whole answers are `Answer` records, to be varied with `with_headers`, `after`, `gzipped` or `replace`. Plays
that break the connection stand in capitals, or are made by functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from tests.serving.server import Connection, Play, Received

REQUEST_ID = "202603051157376760323405X05q67"


@dataclass(frozen=True)
class Answer:
    """One whole HTTP answer, with the right Content-Length; the connection stays alive."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0

    async def __call__(self, received: Received, connection: Connection) -> None:
        if self.after_s:
            await asyncio.sleep(self.after_s)
        await connection.send(self.head() + self.body)

    def head(self, **more: str) -> bytes:
        headers = {"Content-Length": str(len(self.body)), **self.headers, **more}
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}", *map(": ".join, headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def with_headers(self, **headers: str) -> Answer:
        """``retry_after="0"`` adds ``Retry-After: 0``."""
        added = {name.replace("_", "-").title(): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **added})

    def after(self, seconds: float) -> Answer:
        return replace(self, after_s=seconds)

    def gzipped(self) -> Answer:
        return replace(self, body=gzip.compress(self.body)).with_headers(content_encoding="gzip")


def json_answer(status: int, value: object) -> Answer:
    body = json.dumps(value, ensure_ascii=False).encode()
    return Answer(status, body, {"Content-Type": "application/json", "X-Oneapi-Request-Id": REQUEST_ID})


EXAMPLE_REPLY = Answer(
    200,
    (files("data") / "replies" / "newapi_example.json").read_bytes(),
    {"Content-Type": "application/json", "X-Oneapi-Request-Id": REQUEST_ID},
)
"""The recorded example, byte for byte: USD 0.00096075."""

USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 0, "text_tokens": 1000, "audio_tokens": 0, "image_tokens": 0},
    "completion_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0},
}
"""1,000 in, 100 out: USD 0.0004 with the default model (1,000 x 0.25/M + 100 x 1.50/M)."""


def completion(
    text: str | None = "a picture of a cat",
    *,
    usage: object = USAGE,
    finish_reason: str | None = "stop",
    model: str = "gemini-3.1-flash-lite-preview",
    **fields: Any,
) -> Answer:
    """A chat completion; ``usage=None`` leaves the usage out, ``fields`` come on top."""
    reply: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1772683079,
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        ],
        **({} if usage is None else {"usage": usage}),
        **fields,
    }
    return json_answer(200, reply)


def gateway_error(
    status: int,
    code: str | int | None = None,
    message: str = "something is wrong",
    type: str = "new_api_error",
) -> Answer:
    """An error in the gateway's shape, the request id at the end of its message."""
    told = f"{message} (request id: {REQUEST_ID})"
    return json_answer(status, {"error": {"message": told, "type": type, "param": "", "code": code}})


def empty(status: int) -> Answer:
    return Answer(status, b"")


def page(status: int, title: str = "") -> Answer:
    """What a proxy in front answers: HTML."""
    title = title or f"{status} {_phrase(status)}"
    body = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n"
    return Answer(status, body.encode(), {"Content-Type": "text/html"})


def event_stream(text: str = "a picture of a cat") -> Answer:
    """Chunks, although none were asked for."""
    chunk = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": text}}]}
    body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
    return Answer(200, body.encode(), {"Content-Type": "text/event-stream"})


def redirect(to: str, status: int = 302) -> Answer:
    return Answer(status, b"", {"Location": to})


def gzip_bomb(size_bytes: int) -> Answer:
    """A completion whose text unpacks to so many bytes, and is a thousandth of that on the wire."""
    start, end = completion("\N{BOMB}").body.split("\N{BOMB}".encode())
    packer = zlib.compressobj(9, wbits=31)
    block = b" " * 1_000_000
    blocks = (packer.compress(block) for _ in range(size_bytes // len(block) + 1))
    body = b"".join([packer.compress(start), *blocks, packer.compress(end), packer.flush()])
    return Answer(200, body, {"Content-Type": "application/json", "Content-Encoding": "gzip"})


def in_turn(received: Received, first: Sequence[Play], then: Play) -> Play:
    """The n-th play for the n-th time that this item comes, ``then`` when they are used up."""
    return [*first, then][min(received.nth - 1, len(first))]


# --- the wire breaks ---


async def RESET(received: Received, connection: Connection) -> None:  # noqa: N802 - a play to be named
    """RST, with whatever was read so far."""
    connection.reset()


async def HANG_UP(received: Received, connection: Connection) -> None:  # noqa: N802
    """FIN without an answer."""
    connection.close()


async def HANG(received: Received, connection: Connection) -> None:  # noqa: N802
    """Nothing, until the peer goes away."""
    await connection.reader.read()
    connection.close()


def after_reading(count: int, play: Play) -> Play:
    """For `on_connection`: read so many bytes, the head included, then play."""

    async def read_some(received: Received, connection: Connection) -> None:
        await connection.reader.readexactly(count)
        await play(received, connection)

    return read_some


def cut_off(answer: Answer, keep_bytes: int) -> Play:
    """The Content-Length of the whole body, but only so many bytes of it; then FIN."""

    async def send_some(received: Received, connection: Connection) -> None:
        await connection.send(answer.head() + answer.body[:keep_bytes])
        connection.close()

    return send_some


def stalled(answer: Answer, keep_bytes: int) -> Play:
    """So many bytes of the body, then nothing."""

    async def send_some(received: Received, connection: Connection) -> None:
        await connection.send(answer.head() + answer.body[:keep_bytes])
        await HANG(received, connection)

    return send_some


def dripping(every_s: float, chunk: bytes = b" ") -> Play:
    """A body without end, a chunk at a time: each read is in time, the whole never comes."""

    async def drip(received: Received, connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in itertools.count():
            await connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await asyncio.sleep(every_s)

    return drip


def raw(content: bytes) -> Play:
    """These bytes, whatever they are, then FIN."""

    async def send_it(received: Received, connection: Connection) -> None:
        await connection.send(content)
        connection.close()

    return send_it


# --- a proxy ---


async def FORWARD(received: Received, connection: Connection) -> None:  # noqa: N802
    """What a forward proxy does: CONNECT opens a tunnel, an absolute URL is asked in the client's stead."""
    if received.method == "CONNECT":
        host, _, port = received.target.partition(":")
        greeting, to_client = b"", b"HTTP/1.1 200 Connection established\r\n\r\n"
    else:
        url = urlsplit(received.target)
        host, port = url.hostname or "", str(url.port or 80)
        kept = {name: value for name, value in received.headers.items() if not name.startswith("proxy-")}
        lines = [f"{received.method} {url.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in {**kept, "connection": "close"}.items()]
        greeting, to_client = "\r\n".join([*lines, "", ""]).encode("latin-1") + received.body, b""
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(greeting)
        await connection.send(to_client)
        upwards = asyncio.create_task(_pump(connection.reader, writer))
        await _pump(reader, connection.writer)
        upwards.cancel()
        await asyncio.gather(upwards, return_exceptions=True)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    connection.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unheard Of"
