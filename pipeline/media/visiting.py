"""What answers at an address, at the end of its redirects, over one pool of connections.

Owns redirects and headers, and what a connection's failure is called here. `guarding` says what may be
contacted at all; how much is read, and for how long, is said by whoever visits.
"""

from __future__ import annotations

import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote

import httpcore
import httpx

from pipeline.errors import FetchFailed, MediaMissing, MediaMistaken
from pipeline.media.guarding import Window

MOST_REDIRECTS: Final = 5
RECEIVE_BUFFER_BYTES: Final = 256 * 1024
"""Else what has arrived is read at once, however much that is: megabytes a connection (measured)."""
IDLE_S: Final = 15.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Found:
    """``url``: where it was found in the end; ``told``: headers, names in lower case; ``chunks``: the body as
    it comes."""

    url: str
    status: int
    told: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Visitor:
    """Asks hosts for as long as it is entered. ``silence_s``: so long a host may take to connect, and to send
    the next bytes."""

    def __init__(
        self, window: Window, *, most_connections: int, silence_s: float, ca_file: Path | None = None
    ) -> None:
        trusted = ssl.create_default_context()
        if ca_file is not None:
            trusted.load_verify_locations(ca_file)
        self._silence_s = silence_s
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trusted,
            max_connections=most_connections,
            keepalive_expiry=IDLE_S,
            network_backend=window,
            socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)],
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._pool)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def visit(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Found]:
        """
        Raises:
            MediaMistaken: it leads to what is no address.
            MediaMissing: it leads from one address to the next.
            AddressRefused: it may not be asked.
            FetchFailed: nobody answers, or not to the end.
        """
        try:
            async with self._followed(url, headers) as found:
                yield found
        except httpcore.TimeoutException:
            raise FetchFailed(f"its host was silent for {self._silence_s:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise FetchFailed(str(error) or type(error).__name__) from None

    @asynccontextmanager
    async def _followed(self, url: str, more: Mapping[str, str]) -> AsyncIterator[Found]:
        here = _address(url)
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "mediabatch", **more}
        if here.userinfo:
            user = unquote(here.userinfo.decode("ascii"))
            headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        silence = self._silence_s
        extensions = {"timeout": {"connect": silence, "read": silence, "write": silence, "pool": None}}
        for _ in range(MOST_REDIRECTS + 1):
            target = httpcore.URL(
                scheme=here.raw_scheme, host=here.raw_host, port=here.port, target=here.raw_path
            )
            headers["Host"] = here.netloc.decode("ascii")
            request = self._pool.stream("GET", target, headers=list(headers.items()), extensions=extensions)
            async with request as response:
                told = {
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in response.headers
                }
                if response.status not in _REDIRECTS or "location" not in told:
                    yield Found(str(here), response.status, told, response.aiter_stream())
                    return
                there = _address(told["location"], here)
                if there.host != here.host:
                    headers.pop("Authorization", None)
                here = there
        raise MediaMissing(response.status)


def _address(url: str, base: httpx.URL | None = None) -> httpx.URL:
    """Normalised as a browser would; relative to ``base``."""
    try:
        found = httpx.URL(url) if base is None else base.join(url)
    except (httpx.InvalidURL, ValueError):
        found = None
    if found is None or found.scheme not in ("http", "https") or not found.host:
        raise MediaMistaken("it leads to something that is no http(s) address")
    return found
