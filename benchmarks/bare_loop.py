"""The practical limit: a bare aiohttp loop on uvloop, nothing kept but texts and usage, in memory.

``python -m benchmarks.bare_loop BASE_URL ITEMS CONCURRENCY``. No retries, no prices, no records, no disk.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import orjson
import uvloop

from benchmarks import work

Answers = list[tuple[int, str, dict[str, Any]]]


async def ask_all(base_url: str, items: int, concurrency: int) -> tuple[Answers, float]:
    """The answers, and the seconds from the first request to the last answer."""
    answers: Answers = []
    numbers = iter(range(items))
    headers = {"Authorization": f"Bearer {work.API_KEY}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        began = time.perf_counter()
        url = base_url + "/chat/completions"
        await asyncio.gather(*(_work(session, url, numbers, answers) for _ in range(concurrency)))
        return answers, time.perf_counter() - began


async def _work(session: aiohttp.ClientSession, url: str, numbers: Iterator[int], answers: Answers) -> None:
    for number in numbers:
        async with session.post(url, data=work.request_body(number)) as response:
            response.raise_for_status()
            reply = orjson.loads(await response.read())
        answers.append((number, reply["choices"][0]["message"]["content"], reply["usage"]))


def main() -> None:
    base_url, items, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    answers, asking_s = uvloop.run(ask_all(base_url, items, concurrency))
    assert len({number for number, _, _ in answers}) == items
    print(orjson.dumps({"items": len(answers), "asking_s": asking_s}).decode())


if __name__ == "__main__":
    main()
