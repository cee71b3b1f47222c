"""The practical limit: a bare aiohttp loop on uvloop, nothing kept but texts and usage, in memory.

``python -m benchmarks.bare_loop BASE_URL ITEMS CONCURRENCY [--ca-file F] [--images FOLDER]``. No retries, no
prices, no records, no disk. With a folder, item n carries its n-th image inline (`images`), read and encoded
when it is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

from benchmarks import work
from benchmarks.images import Images

Answers = list[tuple[int, str, dict[str, Any]]]


class Loop:
    """``body`` makes the body of item n."""

    def __init__(self, base_url: str, tls: ssl.SSLContext | None, body: Callable[[int], bytes]) -> None:
        self._url = base_url + "/chat/completions"
        self._tls = tls
        self._body = body
        self._answers: Answers = []

    async def ask_all(self, items: int, concurrency: int) -> tuple[Answers, float]:
        """The answers, and the seconds from the first request to the last answer."""
        numbers = iter(range(items))
        headers = {"Authorization": f"Bearer {work.API_KEY}", "Content-Type": "application/json"}
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls or True)
        # Its own limit is five minutes for everything, the wait for a connection included.
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            began = time.perf_counter()
            await asyncio.gather(*(self._work(session, numbers) for _ in range(concurrency)))
            return self._answers, time.perf_counter() - began

    async def _work(self, session: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
        for number in numbers:
            async with session.post(self._url, data=self._body(number)) as response:
                response.raise_for_status()
                reply = orjson.loads(await response.read())
            self._answers.append((number, reply["choices"][0]["message"]["content"], reply["usage"]))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("base_url")
    options.add_argument("items", type=int)
    options.add_argument("concurrency", type=int)
    options.add_argument("--ca-file", type=Path)
    options.add_argument("--images", type=Path)
    chosen = options.parse_args()
    tls = ssl.create_default_context(cafile=chosen.ca_file) if chosen.ca_file else None
    images = Images(chosen.images) if chosen.images else None
    body = work.request_body if images is None else images.request_body
    answers, asking_s = uvloop.run(Loop(chosen.base_url, tls, body).ask_all(chosen.items, chosen.concurrency))
    assert len({number for number, _, _ in answers}) == chosen.items
    print(orjson.dumps({"items": len(answers), "asking_s": asking_s}).decode())


if __name__ == "__main__":
    main()
