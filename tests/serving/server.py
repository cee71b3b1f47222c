"""A real HTTP server on loopback that plays scripted answers, and remembers what it was asked.

    with Server(lambda received: completion("hello")) as server:
        …  # server.base_url, server.received, server.wait_for(3)

A script is a function of the request (its text, its model, how many times this item has come) and returns
a `Play`: something that writes to the connection, or breaks it. Ready-made ones stand in `answers`. It
runs in a thread with an event loop of its own, over raw streams: no framework resets a connection on demand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self

STREAM_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Received:
    """One request as it arrived, with header names in lower case.

    ``nth``: how many times this item has come, from 1; ``connection``: on which one, from 1.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    nth: int
    connection: int

    @cached_property
    def json(self) -> Any:
        """The body; None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def model(self) -> str | None:
        return self.json.get("model") if isinstance(self.json, dict) else None

    @cached_property
    def text(self) -> str | None:
        """The prompt: the first text part. Tests that give every row its own prompt know the row by it."""
        if not isinstance(self.json, dict) or not self.json.get("messages"):
            return None
        content = self.json["messages"][0]["content"]
        if isinstance(content, str):
            return content
        return next((part["text"] for part in content if part["type"] == "text"), None)


@dataclass
class Connection:
    """What a play may do to one connection."""

    number: int  # from 1
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    def reset(self) -> None:
        """Break it with RST instead of FIN: the peer loses what it has not read yet."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """End it with FIN."""
        self.writer.close()

    @property
    def is_open(self) -> bool:
        return not self.writer.is_closing()

    @property
    def _socket(self) -> socket.socket:
        return self.writer.get_extra_info("socket")


class Play(Protocol):
    """What the server does with one request. The connection is kept alive if it is still open afterwards."""

    async def __call__(self, received: Received, connection: Connection) -> None: ...


Script = Callable[[Received], Play]


@dataclass
class Server:
    """Plays ``script`` for every request, until the block ends.

    ``on_connection`` may give a play for a connection before anything is read from it, ``on_head`` one for a
    request whose body is not read yet; None goes on as usual. A script's error is raised at the block's end.
    """

    script: Script
    on_connection: Callable[[int], Play | None] = lambda number: None
    on_head: Callable[[Received], Play | None] = lambda received: None
    tls: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._listening = threading.Event()
        self._came: Counter[object] = Counter()
        self._at_once = 0
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="test server")

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._errors and error is None:
            raise self._errors[0]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}/v1"

    def texts(self) -> list[str | None]:
        """The prompts, in the order in which they came."""
        return [received.text for received in self.received]

    def times(self, text: str) -> int:
        """How often the item with this prompt came."""
        return self.texts().count(text)

    def wait_for(self, count: int, timeout_s: float = 20.0) -> None:
        """Until so many requests have come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.received) >= count, timeout_s):
                raise TimeoutError(f"{len(self.received)} of {count} requests came within {timeout_s} s")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = asyncio.create_task(self._attend(Connection(self.connections, reader, writer)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(
            accept, "127.0.0.1", 0, ssl=self.tls, limit=STREAM_LIMIT_BYTES, backlog=2048
        )
        self.port: int = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    async def _attend(self, connection: Connection) -> None:
        try:
            early = self.on_connection(connection.number)
            if early:
                await early(Received("", "", {}, b"", 0, connection.number), connection)
            while connection.is_open and await self._attend_once(connection):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer went away: that is its business
        except Exception as error:  # noqa: BLE001 - a script's failed assertion belongs to the test's thread
            self._errors.append(error)
            connection.reset()
        finally:
            connection.close()
            with contextlib.suppress(OSError):
                await connection.writer.wait_closed()

    async def _attend_once(self, connection: Connection) -> bool:
        """One request and its play; False where the peer has no more."""
        try:
            head = await connection.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        received = Received(method, target, headers, b"", 0, connection.number)
        play = self.on_head(received)
        if play is None:
            body = await connection.reader.readexactly(int(headers.get("content-length", "0")))
            received = replace(received, body=body)
        received = self._counted(received)
        self._remember(received)
        try:
            await (play or self.script(received))(received, connection)
        finally:
            self._at_once -= 1
        return True

    def _counted(self, received: Received) -> Received:
        item = (received.model, received.text)
        self._came[item] += 1
        return replace(received, nth=self._came[item])

    def _remember(self, received: Received) -> None:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
