"""One browser a module; and a host for media, which answers 403 where a signature is missing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.pages.browsing import CHROMIUM, WHY_NOT, chromium

MEDIA = Path(__file__).parents[2] / "data" / "media"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(WHY_NOT)
    with chromium() as started:
        yield started


class _Host(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:  # the base class's name
        if self.path.startswith("/signed/"):
            self.send_error(403)
        else:
            super().do_GET()

    def log_message(self, *told: Any) -> None:
        pass


@pytest.fixture(scope="module")
def media_host() -> Iterator[str]:
    """The address under which the example's media are served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Host, directory=str(MEDIA)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
