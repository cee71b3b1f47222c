"""Media that go inline take disk, and next to no memory."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.nights import clean_environment, write_manifest

MEDIA, SIZE_BYTES, AT_ONCE = 500, 5_000_000, 64
MOST_MB = 600

ENDPOINT = """
import asyncio, json, sys

REPLY = json.dumps({
    "id": "c", "model": "m", "choices": [{"message": {"content": "a scene"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 310, "completion_tokens": 5, "total_tokens": 315,
              "prompt_tokens_details": {"text_tokens": 10, "image_tokens": 300}},
}).encode()
state = {"now": 0, "most": 0, "bytes": 0}

async def answer(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).lower()
            if head.startswith(b"get"):
                body = json.dumps(state).encode()
                writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
                await writer.drain()
                continue
            left = int(head.split(b"content-length:")[1].split()[0])
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
            while left:
                chunk = await reader.read(min(left, 1 << 20))
                if not chunk:
                    return
                left -= len(chunk)
                state["bytes"] += len(chunk)
            await asyncio.sleep(1.0)
            state["now"] -= 1
            head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
            writer.write(head % len(REPLY) + REPLY)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()

async def serve():
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(serve())
"""


RUN = """
import atexit, runpy, sys
peak = sys.argv.pop(1)
atexit.register(lambda: open(peak, "w").write(open("/proc/self/status").read()))
runpy.run_module("jobs", run_name="__main__")
"""


@contextmanager
def process(*arguments: str) -> Iterator[int]:
    """A server in a process of its own; its port."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        try:
            yield int(running.stdout.readline())
        finally:
            running.kill()


async def told(port: int) -> dict[str, int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    state = json.loads(await reader.read(1000))
    writer.close()
    return state


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells no peak of memory")
def test_500_media_of_5_mb_at_64_at_a_time_stay_under_600_mb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with (
        process("-m", "tests.media.serving_large", str(SIZE_BYTES)) as media,
        process("-c", ENDPOINT) as endpoint,
    ):
        rows = [{"image_url": f"http://127.0.0.1:{media}/{number}.jpg"} for number in range(MEDIA)]
        manifest = write_manifest(tmp_path / "m.csv", rows)
        command = [
            sys.executable,
            "-c",
            RUN,
            str(tmp_path / "peak"),
            "run",
            str(manifest),
            "--base-url",
            f"http://127.0.0.1:{endpoint}/v1",
            "--json",
        ]
        command += ["--media", "inline", "--allow-private", "--concurrency", str(AT_ONCE), "--out", "out"]
        with (tmp_path / "stdout").open("w") as stdout, (tmp_path / "stderr").open("w") as stderr:
            run = subprocess.run(
                command,
                cwd=tmp_path,
                env={**clean_environment(), "PYTHONPATH": os.getcwd()},
                stdout=stdout,
                stderr=stderr,
                check=False,
            )
        state = asyncio.run(told(endpoint))
    assert run.returncode == 0, (tmp_path / "stderr").read_text()
    summary = json.loads((tmp_path / "stdout").read_text())
    # Not getrusage's ru_maxrss: a child begins with its parent's, and a test run is large.
    status = (tmp_path / "peak").read_text().splitlines()
    (peak_mb,) = [int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")]
    with capsys.disabled():
        print(
            f"\n{MEDIA} media of {SIZE_BYTES / 1e6:g} MB, {state['most']} requests at once, "
            f"{state['bytes'] / 1e9:.2f} GB sent in {summary['elapsed_s']:.1f} s: peak {peak_mb:.0f} MB"
        )
    assert summary["ok"] == MEDIA
    assert state["bytes"] > MEDIA * SIZE_BYTES * 4 / 3
    assert state["most"] == AT_ONCE
    assert peak_mb < MOST_MB
