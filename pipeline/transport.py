"""The wire to one endpoint: posts bodies through any httpx transport and maps foreign errors once.

Owns the secrets (key and extra headers live here and nowhere else, and are masked where an endpoint says
them back), the time-outs and the cap on a reply's size. Refuses to interpret answers: that is the dialect's.
Whatever goes wrong on the wire leaves here as one of our transient errors, and an attempt counts as *not
billed* only where the cause proves that connecting failed: the types of the libraries beneath do not tell (a
reset after the whole body was read comes as ``ConnectError``, a read time-out as ``ConnectTimeout``).
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

import httpx
from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from pipeline.errors import (
    AttemptTimedOut,
    BrokenReply,
    ConnectFailed,
    ConnectionLost,
    TooLarge,
    TransientError,
    UsageError,
)
from pipeline.wire import Post, RustWire, Streamed, WholeResponse

MAX_REPLY_BYTES = 64 * 1024 * 1024
MASK = b"***"
_NAMED_KEY = re.compile(r"(?i)auth|key|token|secret|cookie|password")
SHORTEST_SECRET = 8  # characters; anything shorter also stands in texts by chance


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect; between two reads, the wait for the first byte included; for the whole attempt."""

    connect_s: float = 10.0
    read_s: float = 300.0
    total_s: float = 300.0


@dataclass(frozen=True, slots=True)
class WireSettings:
    """How one endpoint is reached. ``headers`` may hold secrets and is therefore left out of ``repr``."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    timeouts: Timeouts = Timeouts()
    ca_file: Path | None = None
    max_reply_bytes: int = MAX_REPLY_BYTES


class Answer(NamedTuple):
    """An HTTP answer: header names in lower case, the body whole and decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Posts bodies to one URL."""

    def __init__(self, settings: WireSettings, wire: httpx.AsyncBaseTransport) -> None:
        self._url = httpx.URL(settings.url)
        self._host = self._url.netloc.decode()
        headers = httpx.Headers({"Host": self._host, "Content-Type": "application/json"})
        headers.update(settings.headers)
        self._headers = headers.multi_items()
        self._max_reply_bytes = settings.max_reply_bytes
        self._in_errors, self._in_answers = _echoes(settings.headers)
        self._wire = wire

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wire.aclose()

    async def post(self, body: bytes | Streamed, idempotency_key: str) -> Answer:
        """Send one body and read the whole answer, whatever its status.

        ``idempotency_key`` is the same for all attempts of a request, so that an endpoint that knows the
        header can refuse to bill twice.

        Raises:
            TransientError: the wire failed; ``state`` says whether the attempt may have been billed.
            TooLarge: the reply went past the cap.
        """
        headers = [
            *self._headers,
            ("Content-Length", str(len(body))),
            ("Idempotency-Key", idempotency_key),
        ]
        request = Post(self._url, headers, body)
        try:
            response = await self._wire.handle_async_request(request)
            received = await self._read(response)
        except (httpx.HTTPError, PyreqwestError) as error:
            raise wire_error(error, self._host) from None
        return self._without_echoes(response, received)

    async def _read(self, response: httpx.Response) -> bytes:
        try:
            body = response.content
        except httpx.ResponseNotRead:
            try:
                body = await self._read_on(response)
            finally:
                await response.aclose()
        if len(body) > self._max_reply_bytes:
            raise TooLarge(
                f"{self._host} sent a reply of more than {self._max_reply_bytes} bytes; it was dropped",
                http_status=response.status_code,
                state="possibly_billed",
            )
        return body

    async def _read_on(self, response: httpx.Response) -> bytes:
        """The body, or as much of it as shows that it is too large."""
        chunks = []
        size_bytes = 0
        async for chunk in response.aiter_bytes():
            chunks.append(chunk)
            size_bytes += len(chunk)
            if size_bytes > self._max_reply_bytes:
                break
        return b"".join(chunks)

    def _without_echoes(self, response: httpx.Response, body: bytes) -> Answer:
        """Careless endpoints say the key and the headers back, and what they say is stored and shown."""
        status = response.status_code
        # A real answer keeps its words: a header such as `X-Title` may well stand in one.
        is_answer = status == 200 and b'"choices"' in body
        body = _masked(body, self._in_answers if is_answer else self._in_errors)
        headers = _headers_of(response)
        told = "\n".join(headers.values()).encode()
        if any(echo in told for echo in self._in_errors):
            headers = {
                name: _masked(value.encode(), self._in_errors).decode() for name, value in headers.items()
            }
        return Answer(status, headers, body)


@asynccontextmanager
async def open_transport(settings: WireSettings) -> AsyncIterator[Transport]:
    """A transport over pyreqwest (Rust), the fastest of those measured.

    Proxy variables are honoured; ``ca_file`` adds a certificate authority. Redirects are not followed: a POST
    that is redirected loses its body. The pool has no limit of its own, because the gate is the throttle.

    Raises:
        UsageError: the CA file cannot be read.
    """
    timeouts = settings.timeouts
    builder = (
        ClientBuilder()
        .connect_timeout(timedelta(seconds=timeouts.connect_s))
        .read_timeout(timedelta(seconds=timeouts.read_s))
        .timeout(timedelta(seconds=timeouts.total_s))
        .follow_redirects(False)
        .referer(False)
        .user_agent("mediabatch")
    )
    if settings.ca_file is not None:
        builder = _trust(builder, settings.ca_file)
    async with Transport(settings, RustWire(builder.build(), settings.max_reply_bytes)) as transport:
        yield transport


def _trust(builder: ClientBuilder, ca_file: Path) -> ClientBuilder:
    """Raises UsageError where the file holds no certificate."""
    try:
        pem = ca_file.read_bytes()
    except OSError as error:
        raise UsageError(f"--ca-file {ca_file}: cannot be read ({error.strerror})") from None
    try:
        # Only building tells a certificate from nonsense, and nothing tells that there is none at all.
        if b"-----BEGIN CERTIFICATE-----" not in pem:
            raise UsageError(f"--ca-file {ca_file}: holds no certificate in PEM form")
        ClientBuilder().add_root_certificate_pem(pem).build()
        return builder.add_root_certificate_pem(pem)
    except (PyreqwestError, ValueError):
        raise UsageError(f"--ca-file {ca_file}: holds a certificate that cannot be read") from None


def _headers_of(response: httpx.Response) -> dict[str, str]:
    """Lower-case names; the values of a name that came again are joined with commas."""
    if isinstance(response, WholeResponse):
        headers = dict(response.pairs)
        if len(headers) == len(response.pairs):
            return headers
    return dict(response.headers.items())


def _echoes(headers: Mapping[str, str]) -> tuple[list[bytes], list[bytes]]:
    """What is masked in error answers, and in good ones: there only what is called a key, and no short one,
    such as the `any` of a rehearsal, which is also a word."""
    in_errors, in_answers = set[bytes](), set[bytes]()
    for name, value in headers.items():
        secret = value.removeprefix("Bearer ")
        if len(secret) >= SHORTEST_SECRET:
            in_errors |= _spellings(secret)
            if _NAMED_KEY.search(name):
                in_answers |= _spellings(secret)
    return sorted(in_errors, key=len, reverse=True), sorted(in_answers, key=len, reverse=True)


def _spellings(secret: str) -> set[bytes]:
    """As it is, and as JSON (of Go and PHP too), HTML and URLs write it."""
    in_json = json.dumps(secret)[1:-1]
    in_go = "".join(f"\\u{ord(char):04x}" if char in "<>&" else char for char in in_json)
    texts = {in_json, in_go, in_json.replace("/", r"\/"), html.escape(secret), quote(secret)}
    return {text.encode() for text in texts | {secret, quote(secret, safe="")}}


def _masked(value: bytes, echoes: list[bytes]) -> bytes:
    for echo in echoes:
        value = value.replace(echo, MASK)
    return value


def wire_error(error: Exception, host: str) -> TransientError:
    """Map what a library beneath raised to our tree."""
    causes = _causes(error)
    told = causes[-1] if causes else str(error) or type(error).__name__
    if any("(Connect)" in cause for cause in causes):
        return ConnectFailed(f"could not connect to {host}: {told}")
    if isinstance(error, httpx.TimeoutException):
        return AttemptTimedOut(f"{host} sent no whole reply in time ({told})")
    if isinstance(error, httpx.DecodingError) and "end of file" not in told:
        return BrokenReply(f"{host} sent a reply that cannot be decoded ({told})")
    return ConnectionLost(f"the connection to {host} broke ({told})")


def _causes(error: Exception) -> list[str]:
    source = error if isinstance(error, PyreqwestError) else error.__cause__
    details = getattr(source, "details", None)
    if not isinstance(details, dict):
        return []
    return [str(cause.get("message", "")) for cause in details.get("causes") or []]
