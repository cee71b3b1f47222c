"""The wire to one endpoint: posts bodies through any httpx transport and maps foreign errors once.

Owns the secrets (key and extra headers live here and nowhere else), the time-outs and the cap on a reply's
size. Refuses to interpret answers: that is the dialect's. Whatever goes wrong on the wire leaves here as one
of our transient errors, and an attempt counts as *not billed* only where the cause proves that connecting
failed: the types of the libraries beneath do not tell (a reset after the whole body was read comes as
``ConnectError``, a read time-out as ``ConnectTimeout``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import httpx
from pyreqwest.client import ClientBuilder
from pyreqwest.compatibility.httpx import HttpxTransport
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

MAX_REPLY_BYTES = 64 * 1024 * 1024


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
        self._headers = httpx.Headers({"Content-Type": "application/json", **settings.headers})
        self._max_reply_bytes = settings.max_reply_bytes
        self._wire = wire

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wire.aclose()

    async def post(self, body: bytes) -> Answer:
        """Send one body and read the whole answer, whatever its status.

        Raises:
            TransientError: the wire failed; ``state`` says whether the attempt may have been billed.
            TooLarge: the reply went past the cap.
        """
        request = httpx.Request("POST", self._url, headers=self._headers, content=body)
        try:
            response = await self._wire.handle_async_request(request)
            try:
                received = await self._read(response)
            finally:
                await response.aclose()
        except (httpx.HTTPError, PyreqwestError) as error:
            raise wire_error(error, self._host) from None
        return Answer(response.status_code, response.headers, received)

    async def _read(self, response: httpx.Response) -> bytes:
        chunks = []
        size_bytes = 0
        async for chunk in response.aiter_bytes():
            size_bytes += len(chunk)
            if size_bytes > self._max_reply_bytes:
                raise TooLarge(
                    f"{self._host} sent a reply of more than {self._max_reply_bytes} bytes; it was dropped",
                    http_status=response.status_code,
                    state="possibly_billed",
                )
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@asynccontextmanager
async def open_transport(settings: WireSettings) -> AsyncIterator[Transport]:
    """A transport over pyreqwest (Rust), the fastest of those measured that speaks httpx's interface.

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
        try:
            pem = settings.ca_file.read_bytes()
            builder = builder.add_root_certificate_pem(pem)
        except (OSError, PyreqwestError, ValueError) as error:
            raise UsageError(f"{settings.ca_file}: cannot be read as a PEM certificate ({error})") from None
    async with Transport(settings, HttpxTransport(builder.build())) as transport:
        yield transport


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
