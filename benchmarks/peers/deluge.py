"""lm-deluge, which keeps its results in memory.

``python -m benchmarks.peers.deluge BASE_URL ITEMS CONCURRENCY``. It has no part for the URL of an audio, and
fetches an image's URL itself when the answer comes, for its log: so all three URLs go as videos. Its limits a
minute are set so high that none is reached. It runs on uvloop, as it may.
"""

from __future__ import annotations

import os
import sys
import time

import uvloop
from lm_deluge import Conversation, LLMClient, Message
from lm_deluge.api_requests.response import APIResponse
from lm_deluge.models import register_model
from lm_deluge.prompt import Text, Video

from benchmarks import work
from benchmarks.peers.telling import tell

NO_LIMIT = 1_000_000_000


def conversation(number: int) -> Conversation:
    return Conversation(
        [Message("user", [Text(work.PROMPT), *(Video(url) for url in work.media_urls(number))])]
    )


async def ask_all(base_url: str, items: int, concurrency: int) -> tuple[list[APIResponse], float]:
    os.environ["BENCH_KEY"] = work.API_KEY
    register_model(
        id="bench", name=work.MODEL, api_base=base_url, api_key_env_var="BENCH_KEY", supports_images=True
    )
    client = LLMClient(
        "bench",
        max_concurrent_requests=concurrency,
        max_requests_per_minute=NO_LIMIT,
        max_tokens_per_minute=NO_LIMIT,
        max_new_tokens=work.MAX_TOKENS,
    )
    conversations = [conversation(number) for number in range(items)]
    began = time.perf_counter()
    replies = await client.process_prompts_async(conversations, show_progress=False)
    return replies, time.perf_counter() - began


def main() -> None:
    base_url, items, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    replies, asking_s = uvloop.run(ask_all(base_url, items, concurrency))
    texts = [reply.completion or "" for reply in replies]
    # It believes this gateway's `input_tokens` and `output_tokens`, which are 0, and so counts no tokens.
    tell(items, texts, None, asking_s)


if __name__ == "__main__":
    main()
