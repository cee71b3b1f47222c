"""The openai SDK with a semaphore and tenacity: what people write.

``python -m benchmarks.peers.sdk BASE_URL ITEMS CONCURRENCY``. The SDK's own retries are off, tenacity's on;
results stay in memory.
"""

from __future__ import annotations

import asyncio
import sys
import time

from openai import APIError, AsyncOpenAI
from openai.types.chat import ChatCompletion
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from benchmarks import work
from benchmarks.peers.telling import tell


async def ask_all(base_url: str, items: int, concurrency: int) -> tuple[list[ChatCompletion], float]:
    client = AsyncOpenAI(base_url=base_url, api_key=work.API_KEY, max_retries=0)
    slots = asyncio.Semaphore(concurrency)

    @retry(
        retry=retry_if_exception_type(APIError),
        wait=wait_random_exponential(max=60),
        stop=stop_after_attempt(5),
        reraise=True,
    )
    async def ask(number: int) -> ChatCompletion:
        async with slots:
            return await client.chat.completions.create(**work.request(*work.media_urls(number)))

    began = time.perf_counter()
    replies = await asyncio.gather(*(ask(number) for number in range(items)))
    return replies, time.perf_counter() - began


def main() -> None:
    base_url, items, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    replies, asking_s = asyncio.run(ask_all(base_url, items, concurrency))
    texts = [reply.choices[0].message.content or "" for reply in replies]
    tell(items, texts, sum(reply.usage.total_tokens for reply in replies if reply.usage), asking_s)


if __name__ == "__main__":
    main()
