"""pyreqwest (Rust) as an httpx transport that reads every answer whole.

Owns what crosses into the library and back: a request's headers and body as they are, an answer's status,
headers and body, its errors as httpx's with their cause. Keeps to httpx's interface, so that any httpx
transport can stand in its place; refuses streaming, which pyreqwest's own `HttpxTransport` pays for with
several times the CPU. Next: `transport` posts through it and reads its errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from functools import cached_property
from time import monotonic, sleep
from typing import Protocol

import anyio
import anyio.lowlevel
import httpx
from pyreqwest.client import Client
from pyreqwest.exceptions import DecodeError, PyreqwestError, RequestTimeoutError
from pyreqwest.http import HeaderMap

PAUSED_EVERY_S, PAUSE_S = 0.002, 0.001
SLICE_S = 0.004

Pairs = list[tuple[str, str]]
"""Headers as names and values; a name may come again."""


class Streamed(AsyncIterable[bytes], Protocol):
    """A body that is made while it is sent, of a length that is known before."""

    def __len__(self) -> int: ...


class Post(httpx.Request):
    """A POST whose parts stay as they are. What httpx makes of headers is made only for whom asks for it."""

    def __init__(self, url: httpx.URL, pairs: Pairs, body: bytes | Streamed) -> None:
        self.method = "POST"
        self.url = url
        self.pairs = pairs
        self.extensions = {}
        self.stream = httpx.ByteStream(body) if isinstance(body, bytes) else _Stream(body)
        self.body = body

    @cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override] # httpx sets it, this is set when read
        return httpx.Headers(self.pairs)

    @property
    def content(self) -> bytes:
        if not isinstance(self.body, bytes):
            raise httpx.RequestNotRead
        return self.body


class _Stream(httpx.AsyncByteStream):
    def __init__(self, body: Streamed) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._body)


class WholeResponse(httpx.Response):
    """A response whose body has come: ``content`` needs no reading, and ``pairs`` are its headers as read."""

    def __init__(self, status: int, pairs: Pairs, body: bytes) -> None:
        super().__init__(status, stream=httpx.ByteStream(body))
        del self.headers  # none; those that came are below
        self.pairs = pairs
        self._body = body

    @cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override] # as in `Post`
        return httpx.Headers(self.pairs)

    @property
    def content(self) -> bytes:
        return self._body


class RustWire(httpx.AsyncBaseTransport):
    """Sends requests through a pyreqwest client, and closes it in the end."""

    def __init__(self, client: Client, longest_body_bytes: int) -> None:
        self._client = client
        self._read_bytes = longest_body_bytes + 1
        self._paused_s = 0.0
        self._slice_began_s = 0.0
        self._is_slice_over = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, unpacked; of a body that is too long, one byte more than ``longest_body_bytes``.

        Raises:
            httpx.RequestError: with pyreqwest's error as its cause; the type tells time-outs and answers
                that cannot be decoded, and nothing about whether the request went out.
        """
        pairs = request.pairs if isinstance(request, Post) else request.headers.multi_items()
        builder = self._client.request(request.method, str(request.url)).headers(pairs)
        body = request.body if isinstance(request, Post) else request.content
        builder = builder.body_bytes(body) if isinstance(body, bytes) else builder.body_stream(body)
        try:
            async with builder.build_streamed() as response:
                reply = await response.body_reader.read(self._read_bytes)
                self._let_others_in()
                await self._in_turn()
                return WholeResponse(
                    response.status, _pairs(response.headers), b"" if reply is None else bytes(reply)
                )
        except PyreqwestError as error:
            raise _as_httpx(error, request) from error
        except anyio.get_cancelled_exc_class():
            # pyreqwest raises one of its own making; only anyio's tells which scope was cancelled.
            await anyio.lowlevel.checkpoint_if_cancelled()
            raise

    def _let_others_in(self) -> None:
        """Give up the interpreter lock for a moment, now and then.

        pyreqwest's thread needs it for each answer it hands over. Under load it would get it one answer at a
        time, and each time both threads wait for each other; in a moment of quiet it hands over all it has.
        (Measured with 256 at a time and no latency: a fifth less time, a quarter less CPU.)
        """
        if monotonic() - self._paused_s > PAUSED_EVERY_S:
            sleep(PAUSE_S)
            self._paused_s = monotonic()

    async def _in_turn(self) -> None:
        """Let a few answers through at a time, and the event loop go round in between.

        Hundreds that come at once would else all be read before the first makes room for the next request;
        sent together, those come back together, and waves grow while slots lie idle. (Measured with 1,000 at
        a time and half a second of latency: 1.07 to 1.10 of the ideal time instead of 1.2.)
        """
        with suppress(asyncio.CancelledError):  # the answer is here: the next checkpoint cancels as well
            # Whoever comes while others wait goes behind them. An event would wake all of them at once.
            while self._is_slice_over:  # noqa: ASYNC110
                await asyncio.sleep(0)
            if monotonic() - self._slice_began_s > SLICE_S:
                self._is_slice_over = True
                try:
                    await asyncio.sleep(0)
                finally:
                    self._is_slice_over = False
                    self._slice_began_s = monotonic()

    async def aclose(self) -> None:
        await self._client.close()


def _pairs(headers: HeaderMap) -> Pairs:
    """Names and values; a name as often as it came."""
    try:
        return list(headers.items())
    except ValueError:  # one value is no ASCII; the others can still be read
        pairs = []
        for name in dict.fromkeys(headers.keys()):
            with suppress(ValueError):
                pairs += [(name, value) for value in headers.getall(name)]
        return pairs


def _as_httpx(error: PyreqwestError, request: httpx.Request) -> httpx.RequestError:
    kind: type[httpx.RequestError] = httpx.NetworkError
    if isinstance(error, RequestTimeoutError):
        kind = httpx.TimeoutException
    elif isinstance(error, DecodeError):
        kind = httpx.DecodingError
    return kind(error.message, request=request)
