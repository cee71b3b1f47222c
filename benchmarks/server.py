"""The endpoint under the benchmarks: answers every request with the recorded reply, as fast as Python can.

``python -m benchmarks.server [--port N] [--latency-s S] …`` prints the port it listens on; `conduct` names
the switches. It reads of a request what it must, the end of its head and its length, and writes bytes built
beforehand; a body is counted, never kept. ``GET /stats`` tells how many were answered, when the first came
and what that took of CPU; ``GET /timeline`` when each was accepted, refused and answered (`desk`), in seconds
since the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import sys
import time
from typing import cast

import orjson
import uvloop

from benchmarks import work
from benchmarks.conduct import Conduct, parsed
from benchmarks.desk import Desk
from benchmarks.responses import content_length, response

LONGEST_HEAD_BYTES = 64 * 1024
MANY_FILES = 65_536
_POST = f"POST {work.PATH} ".encode()


class Endpoint:
    """What all connections share."""

    def __init__(self, conduct: Conduct) -> None:
        self.loop = asyncio.get_running_loop()
        self.reply = response("200 OK", work.reply_body())
        self.conduct = conduct
        self.desk = None if conduct.is_plain else Desk(conduct, self.reply)
        self.connections: set[asyncio.Transport] = set()
        self.first = asyncio.Event()
        self.first_at: float | None = None  # seconds since 1970
        self.received = 0
        self._first_s = 0.0

    @property
    def at_s(self) -> float:
        """Seconds since the first request."""
        return self.loop.time() - self._first_s

    def begin(self) -> None:
        self.first_at = time.time()
        self._first_s = self.loop.time()
        if self.desk:
            self.desk.started_at = self.first_at
        self.first.set()

    def stats(self) -> dict[str, object]:
        return {
            "answered": self.received if self.desk is None else len(self.desk.accepted),
            "first_at": self.first_at,
            "cpu_s": time.process_time(),
        }

    def timeline(self) -> dict[str, object]:
        if self.desk is None:
            return {}
        of = self.desk
        times = {"accepted": of.accepted, "throttled": of.throttled, "down": of.down, "answered": of.answered}
        return {name: one.tolist() for name, one in times.items()} | {"first_at": self.first_at}


class Answering(asyncio.Protocol):
    """One connection, kept alive; requests may be pipelined where all are answered alike."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._reply = endpoint.reply
        self._latency_s = endpoint.conduct.latency_s
        self._head = b""  # of a request whose head has not wholly come
        self._owed_bytes = 0  # of a body whose head has

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no subclass, only alike.
        self._transport = cast(asyncio.Transport, transport)
        self._endpoint.connections.add(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._endpoint.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        if self._owed_bytes:
            if len(data) < self._owed_bytes:
                self._owed_bytes -= len(data)
                return
            data = data[self._owed_bytes :]
            self._owed_bytes = 0
            self._answer()
        if self._head:
            data = self._head + data
            self._head = b""
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                if len(data) > LONGEST_HEAD_BYTES:
                    self._refuse("431 Request Header Fields Too Large")
                return
            if not data.startswith(_POST):
                self._other(data)
                return
            length_bytes = content_length(data[:end])
            if length_bytes is None:
                self._refuse("411 Length Required")
                return
            request_bytes = end + 4 + length_bytes
            if len(data) < request_bytes:
                self._owed_bytes = request_bytes - len(data)
                return
            self._answer()
            data = data[request_bytes:]

    def _answer(self) -> None:
        endpoint = self._endpoint
        endpoint.received += 1
        if endpoint.first_at is None:
            endpoint.begin()
        if endpoint.desk is not None:
            decision = endpoint.desk.receive(endpoint.at_s)
            if decision.is_accepted:
                endpoint.loop.call_later(decision.after_s, self._deliver, decision.response)
            else:
                self._transport.write(decision.response)
        elif self._latency_s:
            endpoint.loop.call_later(self._latency_s, self._transport.write, self._reply)
        else:
            self._transport.write(self._reply)

    def _deliver(self, answer: bytes) -> None:
        endpoint = self._endpoint
        assert endpoint.desk is not None
        endpoint.desk.answer(endpoint.at_s)
        if not self._transport.is_closing():
            self._transport.write(answer)

    def _other(self, data: bytes) -> None:
        if data.startswith(b"GET /stats "):
            self._transport.write(response("200 OK", orjson.dumps(self._endpoint.stats())))
        elif data.startswith(b"GET /timeline "):
            self._transport.write(response("200 OK", orjson.dumps(self._endpoint.timeline())))
        else:
            self._refuse("404 Not Found")

    def _refuse(self, status: str) -> None:
        self._transport.write(response(status, b"{}"))
        self._transport.close()


async def serve(conduct: Conduct, port: int) -> None:
    endpoint = Endpoint(conduct)
    context = _tls() if conduct.tls else None

    async def listen(port: int) -> asyncio.Server:
        return await endpoint.loop.create_server(
            lambda: Answering(endpoint), "127.0.0.1", port, backlog=4096, ssl=context
        )

    server = await listen(port)
    port = server.sockets[0].getsockname()[1]
    print(port, flush=True)

    async def shut_and_open() -> None:
        await endpoint.first.wait()
        await asyncio.sleep(conduct.outage_from_s - endpoint.at_s)
        server.close()
        for transport in list(endpoint.connections):
            transport.abort()
        with await _reserved(port):
            await asyncio.sleep(conduct.outage_to_s - endpoint.at_s)
        await listen(port)

    outage = asyncio.create_task(shut_and_open()) if _refuses(conduct) else None
    # Whoever started it closes its stdin, also by dying.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    if outage:
        outage.cancel()


def _refuses(conduct: Conduct) -> bool:
    return bool(conduct.outage_to_s) and conduct.outage_kind == "refuse"


async def _reserved(port: int) -> socket.socket:
    """The port, bound and not listened on: connecting is refused, and nobody else gets it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    while True:
        with contextlib.suppress(OSError):  # the closed server lets go of it a moment later
            held.bind(("127.0.0.1", port))
            return held
        await asyncio.sleep(0.005)


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(work.CERTIFICATES / "server.pem", work.CERTIFICATES / "server.key")
    return context


def main() -> None:
    conduct, port = parsed(None, __doc__)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if 0 < most < MANY_FILES else MANY_FILES, most))
    uvloop.run(serve(conduct, port))


if __name__ == "__main__":
    main()
