"""A real S3 server in a process of its own (moto), and what stands between it and us when a night goes wrong.

def test_…(s3_server):
    bucket = s3_server.bucket("night")      # made; `bucket.keys()`, `bucket.read(key)`, `bucket.write(…)`
    s3_server.environment(tmp_path)         # what a process needs to reach it
    with s3_server.behind(script) as proxy: # the same through a `Server` that may fail or stall
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from tests.serving.server import Connection, Play, Received, Server

KEY_ID, SECRET = "AKIAnight0EXAMPLE", "s3-Hq7secret0fTheNight"


@dataclass(frozen=True)
class TestBucket:
    """A bucket, seen without the project's own eyes."""

    __test__ = False
    name: str
    store: S3Store

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(one["path"] for chunk in obstore.list(self.store, prefix or None) for one in chunk)

    def read(self, key: str) -> bytes:
        return bytes(obstore.get(self.store, key).bytes())

    def write(self, key: str, content: bytes) -> None:
        obstore.put(self.store, key, content)

    def download(self, prefix: str, folder: Path) -> Path:
        """All objects below a prefix as files, for readers that know only files."""
        for key in self.keys(prefix):
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(key))
        return folder / prefix


@dataclass(frozen=True)
class S3Server:
    """``url`` is that of the server, or of what stands before it."""

    url: str

    def bucket(self, name: str) -> TestBucket:
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=20).close()
        store = S3Store(
            name,
            config={
                "endpoint": self.url,
                "access_key_id": KEY_ID,
                "secret_access_key": SECRET,
                "region": "us-east-1",
            },
            client_options={"allow_http": True},
        )
        return TestBucket(name, store)

    def environment(self, home: Path) -> dict[str, str]:
        """How a process reaches it, and where it keeps its state and copies."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": str(home / "cache"),
        }

    @contextlib.contextmanager
    def behind(
        self,
        script: Callable[[Received], Play | None] = lambda received: None,
        on_head: Callable[[Received], Play | None] = lambda received: None,
    ) -> Iterator[tuple[S3Server, Server]]:
        """A proxy before it: requests for which neither gives a play are passed on."""
        with Server(lambda received: script(received) or self.pass_on, on_head=on_head) as proxy:
            yield S3Server(f"http://{proxy.address}"), proxy

    async def pass_on(self, received: Received, connection: Connection) -> None:
        """Ask the server, and give its answer."""
        reader, writer = await self._upstream(received, received.body)
        with contextlib.closing(writer):
            connection.writer.write(await reader.read())
            await connection.writer.drain()
        connection.close()

    async def stall(self, received: Received, connection: Connection) -> None:
        """For `on_head`: half of the upload goes through, then nothing, until the peer goes away."""
        length = int(received.headers["content-length"])
        half = await connection.reader.readexactly(length // 2)
        _, writer = await self._upstream(received, half)
        with contextlib.closing(writer):
            await writer.drain()
            while await connection.reader.read(65536):
                pass
        connection.close()

    async def _upstream(
        self, received: Received, body: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = [f"{received.method} {received.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in {**received.headers, "connection": "close"}.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return reader, writer


@contextlib.contextmanager
def a_server(**env: str) -> Iterator[S3Server]:
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
    ) as process:
        try:
            assert process.stderr is not None
            url = None
            while url is None:
                line = process.stderr.readline()
                assert line, "the S3 server did not start"
                url = re.search(r"http://127\.0\.0\.1:\d+", line)
            # It goes on logging: what nobody reads fills the pipe, and stops it.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield S3Server(url[0])
        finally:
            process.kill()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with a_server() as server:
        yield server
