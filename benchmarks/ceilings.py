"""The server's ceiling: what it answers a second to a client that costs nearly nothing (`ceiling`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import nginx
from benchmarks.measuring import measure_client, port_of, server_stats

PYTHON, NGINX = "Python, uvloop", "nginx"


@dataclass(frozen=True, slots=True)
class Pressing:
    """How the client presses: connections, requests in flight on each, bytes of a body (0: the example's)."""

    requests: int
    connections: int = 64
    depth: int = 1
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Ceiling:
    """``server_cpu_us`` is what one answer costs the server, where it can tell: on a core of its own it could
    answer 1,000,000 / that.
    """

    server: str
    is_tls: bool
    connections: int
    depth: int
    body_bytes: int
    rate: float
    client_cpu_us: float
    server_cpu_us: float | None

    def line(self) -> str:
        cost = f", {self.server_cpu_us:.1f} µs of its CPU each" if self.server_cpu_us else ""
        tls = " over TLS, handshakes in the CPU" if self.is_tls else ""
        body = f", bodies of {self.body_bytes / 1e6:g} MB" if self.body_bytes else ""
        return (
            f"server's ceiling ({self.server}{tls}): {self.rate:,.0f} answers/s{cost}; raw sockets, "
            f"{self.connections:,} connections, {self.depth} in flight on each{body}"
        )

    def kept(self) -> dict[str, Any]:
        return asdict(self)


def measure_ceiling(server: str, base_url: str, pressing: Pressing) -> Ceiling:
    """Printed as it comes.

    Raises:
        Broken: the client failed.
    """
    is_tls = base_url.startswith("https:")
    command = [sys.executable, "-m", "benchmarks.ceiling", str(port_of(base_url)), str(pressing.requests)]
    command += ["--depth", str(pressing.depth), "--connections", str(pressing.connections)]
    command += ["--body-bytes", str(pressing.body_bytes), *(["--tls"] if is_tls else [])]
    tells = server == PYTHON
    before_s = server_stats(base_url)["cpu_s"] if tells else 0.0
    asked = measure_client(command)
    cpu_us = (server_stats(base_url)["cpu_s"] - before_s) / pressing.requests * 1e6 if tells else None
    ceiling = Ceiling(
        server,
        is_tls,
        pressing.connections,
        pressing.depth,
        pressing.body_bytes,
        asked.asking_rate,
        asked.cpu_us_per_item,
        cpu_us,
    )
    print(ceiling.line(), flush=True)
    return ceiling


def with_second_opinion(base_url: str, pressings: list[Pressing]) -> Iterator[Ceiling]:
    """The Python server's, then nginx's where the machine has it."""
    for pressing in pressings:
        yield measure_ceiling(PYTHON, base_url, pressing)
    try:
        with nginx.serving() as url:
            for pressing in pressings:
                yield measure_ceiling(NGINX, url, pressing)
    except nginx.NotHere as reason:
        print(f"no second opinion on the ceiling: {reason}")
