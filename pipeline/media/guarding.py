"""Which addresses media may be fetched from: public ones, unless private ones are allowed.

A name is resolved here, every address it has is judged, and the connection goes to one that was: a name that
answers public first and private next gets nowhere. Redirects connect through here again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio
import httpcore

from pipeline.errors import AddressRefused, MediaUnreachable

__all__ = ["AddressRefused", "MediaUnreachable", "Resolve", "Window", "is_public", "resolve"]

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port → the addresses of that name."""


async def resolve(host: str, port: int) -> list[str]:
    """By the system. Raises OSError where there is no such name."""
    found = await anyio.getaddrinfo(host, port, type=1)  # 1: SOCK_STREAM, so that each comes once
    return [str(told[4][0]) for told in found]


class Window(httpcore.AsyncNetworkBackend):
    """What httpcore connects through. ``inner`` makes the connection: to an address, never to a name."""

    def __init__(
        self,
        *,
        allow_private: bool,
        resolve: Resolve = resolve,
        inner: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._allow_private = allow_private
        self.resolve = resolve
        self._inner = inner or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """
        Raises:
            AddressRefused: one of its addresses is of this network.
            httpcore.ConnectError, httpcore.ConnectTimeout: nobody answers at any of them.
        """
        try:
            addresses = await self.resolve(host, port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError(f"there is no host {host}") from None
        for address in addresses:
            if not self._allow_private and not is_public(address):
                raise AddressRefused(host, address)
        problem: Exception = httpcore.ConnectError(f"there is no host {host}")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no sockets of this machine")

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


def is_public(address: str) -> bool:
    """Whether the whole internet can reach it. An IPv4 address in IPv6's clothes is that IPv4 address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None and not _is_global(inner):
            return False
        if int(found) < 1 << 32:  # an IPv4 address in the oldest of those clothes
            return False
    return _is_global(found) or (isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None)


def _is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
