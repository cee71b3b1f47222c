"""A command run as a child, and what it took: wall seconds, CPU seconds of all its threads, peak memory."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks import work
from benchmarks.conduct import Conduct
from benchmarks.timeline import Timeline

LONGEST_S = 3600.0
PLAIN = Conduct()


class Broken(Exception):
    """Something does not work: no matter of speed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one child took. CPU is user and system time of the whole process, threads included."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    stdout: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking so many items took, as one contender did it.

    ``wall_s`` is the whole process, from its start to its end; ``asking_s`` what it needed from the first
    request sent to the last answer had.
    """

    items: int
    wall_s: float
    asking_s: float
    cpu_s: float
    peak_bytes: int

    @property
    def rate(self) -> float:
        return self.items / self.wall_s

    @property
    def asking_rate(self) -> float:
        return self.items / self.asking_s

    @property
    def cpu_us_per_item(self) -> float:
        return self.cpu_s / self.items * 1e6


def measure(
    command: Sequence[str], *, extra_env: Mapping[str, str] | None = None, codes: Container[int] = (0,)
) -> Measured:
    """Run a command to its end.

    Raises:
        Broken: it ended with none of the codes, or took longer than an hour.
    """
    with tempfile.NamedTemporaryFile("r", prefix="mediabatch-took-") as report:
        stopwatch = [sys.executable, "-I", "-S", str(Path(__file__).with_name("stopwatch.py")), report.name]
        process = subprocess.Popen(
            [*stopwatch, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**plain_env(), **(extra_env or {})},
            cwd=work.ROOT,  # `-m` looks there first: this checkout is measured, from wherever it was asked
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=LONGEST_S)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Broken(f"{' '.join(command)}\ndid not end within {LONGEST_S:g} s") from None
            raise
        if process.returncode not in codes:
            told = "\n".join((stdout + stderr).splitlines()[-15:])
            raise Broken(f"{' '.join(command)}\nended with {process.returncode}:\n{told}")
        wall_s, cpu_s, peak_bytes = report.read().split()
    return Measured(float(wall_s), float(cpu_s), int(peak_bytes), stdout)


def measure_client(command: Sequence[str]) -> Asked:
    """A client that prints ``{"items": …, "asking_s": …}``.

    Raises:
        Broken: it failed.
    """
    took = measure(command)
    told = orjson.loads(took.stdout)
    return Asked(told["items"], took.wall_s, told["asking_s"], took.cpu_s, took.peak_bytes)


def plain_env() -> dict[str, str]:
    """This environment without what would change a run: our own variables, and proxies."""
    changing = ("mediabatch_", "http_proxy", "https_proxy", "all_proxy")
    kept = {name: value for name, value in os.environ.items() if not name.lower().startswith(changing)}
    return {**kept, "PYTHONPATH": str(work.ROOT)}


@contextmanager
def python_server(conduct: Conduct = PLAIN) -> Iterator[str]:
    """`benchmarks.server` in its own process, as base URL."""
    command = [sys.executable, "-m", "benchmarks.server", *conduct.arguments()]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain_env(), cwd=work.ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise Broken("the server did not start")
        try:
            yield f"{'https' if conduct.tls else 'http'}://127.0.0.1:{port}/v1"
        finally:
            process.stdin.close()


def server_stats(base_url: str) -> dict[str, Any]:
    """What the Python server says of itself: ``answered``, ``first_at`` and ``cpu_s``."""
    return _asked_server(base_url, "/stats")


def server_timeline(base_url: str) -> Timeline:
    """When it accepted, refused and answered; only where its conduct is not plain."""
    return Timeline(**_asked_server(base_url, "/timeline"))


def _asked_server(base_url: str, path: str) -> dict[str, Any]:
    if base_url.startswith("https:"):
        context = ssl.create_default_context(cafile=work.AUTHORITY)
        connection: HTTPConnection = HTTPSConnection(
            "127.0.0.1", port_of(base_url), timeout=10, context=context
        )
    else:
        connection = HTTPConnection("127.0.0.1", port_of(base_url), timeout=10)
    with closing(connection):
        connection.request("GET", path)
        told: dict[str, Any] = orjson.loads(connection.getresponse().read())
    return told


def port_of(base_url: str) -> int:
    port = urlsplit(base_url).port
    assert port is not None
    return port
