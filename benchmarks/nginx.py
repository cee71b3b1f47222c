"""The same answer from nginx: a second opinion on the server's ceiling, where the machine has nginx."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import work

_CONFIG = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k; client_max_body_size 64m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = {path} {{
      default_type application/json;
      add_header X-Oneapi-Request-Id 20260305115737676032340t6X05q67;
      return 200 '{reply}';
    }}
  }}
}}
"""


class NotHere(Exception):
    """nginx is missing, or does not start."""


def _found() -> str | None:
    # It often lies where only root's PATH leads.
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


@contextmanager
def serving() -> Iterator[str]:
    """nginx with one worker on a free loopback port, as base URL.

    Raises:
        NotHere: it did not start.
    """
    program = _found()
    if program is None:
        raise NotHere("nginx is not on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    reply = work.reply_body().decode().replace("\\", "\\\\").replace("'", "\\'")
    with tempfile.TemporaryDirectory(prefix="mediabatch-nginx-") as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(_CONFIG.format(folder=folder, port=port, path=work.PATH, reply=reply), "utf-8")
        command = [program, "-p", folder, "-c", str(config), "-e", f"{folder}/error.log"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                _wait_until_open(port, process)
                yield f"http://127.0.0.1:{port}/v1"
            finally:
                process.terminate()


def _wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise NotHere("nginx did not start")
