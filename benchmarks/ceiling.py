"""How much the server itself can answer: a client that costs nearly nothing, in its own process.

``python -m benchmarks.ceiling PORT REQUESTS [--connections N] [--depth N] [--body-bytes N] [--tls]``: raw
sockets and epoll, bytes built beforehand, ``depth`` requests in flight on each of N keep-alive connections
(1: no pipelining), bodies filled up with blanks. Handshakes are over before the clock starts. Nothing is
parsed; what is checked is that every response is as long as the first one, and begins as one.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import ssl
import time
from dataclasses import dataclass

import orjson

from benchmarks import work

_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Press:
    """What the command line asks for."""

    port: int
    requests: int
    connections: int
    depth: int
    body_bytes: int
    tls: bool


def raw_request(body_bytes: int) -> bytes:
    """One request, whole."""
    body = work.request_body(0).ljust(body_bytes)
    head = (
        f"POST {work.PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {work.API_KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def ask_raw(press: Press) -> float:
    """Seconds for so many requests.

    Raises:
        RuntimeError: a response is not like the others.
    """
    request = raw_request(press.body_bytes)
    tls = ssl.create_default_context(cafile=work.AUTHORITY) if press.tls else None
    sockets = [_connected(press.port, tls) for _ in range(press.connections)]
    reply_bytes = _reply_bytes(sockets[0], request)
    ready = selectors.DefaultSelector()
    unread: dict[int, int] = {}  # bytes that are to come, by file descriptor
    began = time.perf_counter()
    to_send = press.requests
    to_come = press.requests
    for one in sockets:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = min(press.depth, to_send)
        to_send -= first
        unread[one.fileno()] = first * reply_bytes
        ready.register(one, selectors.EVENT_READ, one)
        if first:
            one.sendall(request * first)
    while to_come > 0:
        for key, _ in ready.select():
            one = key.data
            received = one.recv(_READ_BYTES)
            if not received:
                raise RuntimeError("the server closed a connection")
            left = unread[key.fd] - len(received)
            before = -(-unread[key.fd] // reply_bytes)
            done = before - -(-left // reply_bytes)
            if left < 0:
                raise RuntimeError("the server sent more than was asked for")
            if done:
                to_come -= done
                again = min(done, to_send)
                if again:
                    to_send -= again
                    left += again * reply_bytes
                    one.sendall(request * again)
            unread[key.fd] = left
    took_s = time.perf_counter() - began
    for one in sockets:
        one.close()
    return took_s


def _connected(port: int, tls: ssl.SSLContext | None) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port))
    return tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain


def _reply_bytes(one: socket.socket, request: bytes) -> int:
    """How long a response is, head and all; they are all alike."""
    one.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += one.recv(_READ_BYTES)
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the server answered {head[:80]!r}")
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line[:15].lower() == b"content-length:"
    )
    while len(body) < length:
        body += one.recv(_READ_BYTES)
    return len(head) + 4 + length


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("port", type=int)
    options.add_argument("requests", type=int)
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--depth", type=int, default=1)
    options.add_argument("--body-bytes", type=int, default=0)
    options.add_argument("--tls", action="store_true")
    press = Press(**vars(options.parse_args()))
    print(orjson.dumps({"items": press.requests, "asking_s": ask_raw(press)}).decode())


if __name__ == "__main__":
    main()
