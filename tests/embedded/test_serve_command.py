"""``mediabatch serve`` as a process of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from jobs.serve import serve

COMMAND = [sys.executable, "-c", "from jobs.serve import serve; serve()", "--port", "0"]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_tells_its_address_answers_and_stops_without_a_traceback(stop: signal.Signals):
    with subprocess.Popen(
        COMMAND, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            first, second = server.stdout.readline(), server.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/v1", first)
            assert address
            assert httpx.get(f"{address[0]}/models", trust_env=False).status_code == 200
            server.send_signal(stop)
            _, complaints = server.communicate(timeout=20)
        finally:
            server.kill()
    assert "mediabatch run" in second
    assert f"--base-url {address[0]}" in second
    assert (server.returncode, complaints) == (0, "")


def test_a_taken_port_is_a_usage_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = CliRunner().invoke(serve, ["--port", str(taken.getsockname()[1])])
    assert result.exit_code == 2
    assert "cannot listen on 127.0.0.1:" in result.output


def test_an_empty_key_file_is_a_usage_error(tmp_path: Path):
    key_file = tmp_path / "key"
    key_file.write_text("\n")
    result = CliRunner().invoke(serve, ["--api-key-file", str(key_file)])
    assert result.exit_code == 2
    assert "is empty" in result.output


def test_every_option_is_explained():
    text = CliRunner().invoke(serve, ["--help"]).output
    assert all(option in text for option in ("--host", "--port", "--api-key-file", "Ctrl-C"))
