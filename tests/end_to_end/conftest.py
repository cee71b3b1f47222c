"""Servers that end with the test, and an environment that steers nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.end_to_end.nights import clean_environment
from tests.serving.server import Script, Server


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = clean_environment()
    for name in os.environ:
        if name not in kept and not name.startswith("PYTHON"):
            monkeypatch.delenv(name)


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(script, …)`` starts a `Server`."""
    with ExitStack() as servers:

        def start(script: Script, **settings: object) -> Server:
            return servers.enter_context(Server(script, **settings))

        yield start
