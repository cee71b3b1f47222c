"""Media hosts for tests: what is at which path, and public addresses that lead to this machine."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import httpcore

from pipeline.media.delivery import open_delivery
from pipeline.media.guarding import Window
from pipeline.surroundings import THE_REAL_ONES, Surroundings
from tests.serving.answers import Answer, completion
from tests.serving.server import Play, Received

PUBLIC = "93.184.215.14"


def serving(paths: Mapping[str, Play | bytes]) -> Any:
    """A script for `Server`: what is at each path; 404 elsewhere."""

    def play(received: Received) -> Play:
        found = paths.get(received.target.partition("?")[0])
        if found is None:
            return Answer(404, b"no such picture", {"Content-Type": "text/plain"})
        return Answer(200, found, {"Content-Type": "image/png"}) if isinstance(found, bytes) else found

    return play


def parts_of(received: Received) -> list[str]:
    """What a request brought: a URL as it stands, or a ``data:`` URL as its MIME type and size."""
    content = json.loads(received.body)["messages"][0]["content"]
    urls = [part[part["type"]] for part in content if part["type"] != "text"]
    return [shown(url if isinstance(url, str) else url["url"]) for url in urls]


def shown(url: str) -> str:
    if not url.startswith("data:"):
        return url
    header, _, payload = url.partition(",")
    return f"{header} {len(b64decode(payload))}"


def seeing(received: Received) -> Answer:
    """An endpoint that sees images, and whatever is inlined."""
    content = json.loads(received.body)["messages"][0]["content"]
    details = {"text_tokens": 10}
    for part in content:
        if part["type"] != "text":
            url = part[part["type"]] if isinstance(part[part["type"]], str) else part[part["type"]]["url"]
            if url.startswith("data:") or part["type"] == "image_url":
                details[part["type"].replace("_url", "_tokens")] = 300
    prompt = sum(details.values())
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": 5,
        "total_tokens": prompt + 5,
        "prompt_tokens_details": details,
    }
    return completion("a scene", usage=usage)


class Rerouted(httpcore.AsyncNetworkBackend):
    """The one public address is this machine's port; what else is connected to is remembered."""

    def __init__(self, port: int) -> None:
        self.connected: list[str] = []
        self._port = port
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **kwargs: Any
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append(host)
        assert host == PUBLIC, f"connected to {host}"
        return await self._inner.connect_tcp("127.0.0.1", self._port, *args, **kwargs)


class Names:
    """A resolver: each name's answers, one after the other, the last for ever."""

    def __init__(self, answers: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._answers = {name: list(addresses) for name, addresses in answers.items()}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        left = self._answers.get(host)
        if left is None:
            return [host]  # an address
        return left.pop(0) if len(left) > 1 else left[0]


def world(window: Window) -> Surroundings:
    """The real one, with media fetched through this window."""
    return replace(THE_REAL_ONES, deliver=partial(open_delivery, window=window))
