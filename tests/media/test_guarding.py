"""What may be contacted for media."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import httpcore
import pytest

from pipeline.media.guarding import AddressRefused, MediaUnreachable, Window, is_public


@pytest.mark.parametrize(
    "address",
    [
        "93.184.215.14",
        "8.8.8.8",
        "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_addresses_of_the_whole_internet_are_public(address: str):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
        *("169.254.169.254", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
    ],
)
def test_addresses_of_this_machine_network_or_cloud_are_not(address: str):
    assert not is_public(address)


class Wires(httpcore.AsyncNetworkBackend):
    """Remembers where it was told to connect, and gets through to all but the dead."""

    def __init__(self, *dead: str) -> None:
        self.connected: list[str] = []
        self._dead = dead

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **kwargs: Any
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append(host)
        if host in self._dead:
            raise httpcore.ConnectError(f"{host} refuses")
        return httpcore.AsyncMockStream([])


def telling(*answers: Sequence[str]) -> Any:
    """A resolver with one answer after the other."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return left.pop(0)

    return resolve


def connect(window: Window, host: str = "media.example") -> None:
    async def once() -> None:
        await window.connect_tcp(host, 443)

    anyio.run(once)


def test_the_connection_goes_to_the_address_that_was_judged():
    wires = Wires()
    connect(Window(allow_private=False, resolve=telling(["93.184.215.14"], ["127.0.0.1"]), inner=wires))
    assert wires.connected == ["93.184.215.14"]


def test_a_name_that_answers_public_first_and_private_next_is_refused():
    wires = Wires()
    window = Window(allow_private=False, resolve=telling(["93.184.215.14"], ["169.254.169.254"]), inner=wires)
    connect(window)
    with pytest.raises(AddressRefused, match=r"media.example \(169\.254\.169\.254\).*--allow-private"):
        connect(window)
    assert wires.connected == ["93.184.215.14"]


def test_one_private_address_among_public_ones_is_enough_to_refuse():
    wires = Wires()
    with pytest.raises(AddressRefused):
        connect(Window(allow_private=False, resolve=telling(["93.184.215.14", "10.0.0.1"]), inner=wires))
    assert wires.connected == []


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "localhost"])
def test_every_spelling_of_loopback_is_refused(host: str):
    with pytest.raises(MediaUnreachable):
        connect(Window(allow_private=False), host)


def test_private_ones_may_be_asked_where_that_is_allowed():
    wires = Wires()
    connect(Window(allow_private=True, resolve=telling(["10.0.0.1"]), inner=wires))
    assert wires.connected == ["10.0.0.1"]


def test_the_next_address_is_tried_where_one_does_not_answer():
    wires = Wires("93.184.215.14")
    connect(Window(allow_private=False, resolve=telling(["93.184.215.14", "93.184.215.15"]), inner=wires))
    assert wires.connected == ["93.184.215.14", "93.184.215.15"]


def test_a_host_that_is_nobody_is_a_network_error():
    async def resolve(host: str, port: int) -> list[str]:
        raise OSError("no")

    with pytest.raises(httpcore.ConnectError, match="no host"):
        connect(Window(allow_private=False, resolve=resolve))
