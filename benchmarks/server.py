"""The endpoint under the benchmarks: answers every request with the recorded reply, as fast as Python can.

``python -m benchmarks.server [--port N] [--latency-s S]`` prints the port it listens on. It reads of a
request what it must, the end of its head and its length, and writes bytes built beforehand; a body is
counted, never kept. ``GET /stats`` tells how many were answered and what that took of CPU. TLS and limits
have no switch yet.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from functools import partial
from typing import cast

import orjson
import uvloop

from benchmarks import work

LONGEST_HEAD_BYTES = 64 * 1024
_POST = f"POST {work.PATH} ".encode()
_LENGTH = b"\r\ncontent-length:"


class Counts:
    """What the server has answered so far."""

    answered = 0
    first_at: float | None = None  # seconds since 1970


class Answering(asyncio.Protocol):
    """One connection, kept alive; requests may be pipelined."""

    def __init__(self, reply: bytes, latency_s: float, counts: Counts) -> None:
        self._reply = reply
        self._latency_s = latency_s
        self._counts = counts
        self._head = b""  # of a request whose head has not wholly come
        self._owed_bytes = 0  # of a body whose head has

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no subclass, only alike.
        self._transport = cast(asyncio.Transport, transport)

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
            length_bytes = _content_length(data[:end])
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
        self._counts.answered += 1
        if self._counts.first_at is None:
            self._counts.first_at = time.time()
        if self._latency_s:
            asyncio.get_running_loop().call_later(self._latency_s, self._transport.write, self._reply)
        else:
            self._transport.write(self._reply)

    def _other(self, data: bytes) -> None:
        if data.startswith(b"GET /stats "):
            stats = {
                "answered": self._counts.answered,
                "first_at": self._counts.first_at,
                "cpu_s": time.process_time(),
            }
            self._transport.write(response("200 OK", orjson.dumps(stats)))
        else:
            self._refuse("404 Not Found")

    def _refuse(self, status: str) -> None:
        self._transport.write(response(status, b"{}"))
        self._transport.close()


def response(status: str, body: bytes) -> bytes:
    """One whole HTTP response."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "X-Oneapi-Request-Id: 20260305115737676032340t6X05q67\r\n\r\n"
    )
    return head.encode() + body


def _content_length(head: bytes) -> int | None:
    head = head.lower()
    start = head.find(_LENGTH)
    if start < 0:
        return None
    start += len(_LENGTH)
    end = head.find(b"\r", start)
    return int(head[start : end if end >= 0 else None])


async def serve(port: int, latency_s: float) -> None:
    reply = response("200 OK", work.reply_body())
    make = partial(Answering, reply, latency_s, Counts())
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Whoever started it closes its stdin, also by dying.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--latency-s", type=float, default=0.0, help="between a request and its answer")
    chosen = options.parse_args()
    uvloop.run(serve(chosen.port, chosen.latency_s))


if __name__ == "__main__":
    main()
