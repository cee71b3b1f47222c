"""Which addresses may be asked for media."""

from __future__ import annotations

import anyio
import httpcore
import pytest

from pipeline.media.guarding import AddressRefused, Window, is_public


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
def test_addresses_of_this_network_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


def connect(window: Window) -> None:
    anyio.run(window.connect_tcp, "media.example", 80, 1.0)


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    with pytest.raises(AddressRefused, match=r"media.example \(10.0.0.1\)"):
        connect(Window(allow_private=False, resolve=resolve))


def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    """The name is resolved once: what it would answer the next time is nobody's concern."""
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async def served() -> str:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, _hang_up)
            stream = await Window(allow_private=True, resolve=resolve).connect_tcp("media.example", port, 5.0)
            address: str = stream.get_extra_info("server_addr")[0]
            await stream.aclose()
            tasks.cancel_scope.cancel()
        return address

    assert anyio.run(served) == "127.0.0.1"
    assert asked == ["media.example"]


async def _hang_up(stream: anyio.abc.SocketStream) -> None:
    await stream.aclose()


def test_a_host_that_is_nobody_is_a_network_error() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise OSError("no")

    with pytest.raises(httpcore.ConnectError, match="no host"):
        connect(Window(allow_private=False, resolve=resolve))
