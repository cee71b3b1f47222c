"""curator (bespokelabs-curator): ``python -m benchmarks.peers.curating BASE_URL ITEMS CONCURRENCY``.

It has no part for audio or video, so all three URLs go as images. It writes every answer to its cache
folder, made anew each time; before the first item it asks the endpoint once for its rate limits. Telemetry is
off, and its token tables are those that litellm brings along, so that it asks nobody else.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {
    "TELEMETRY_ENABLED": "false",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
}

from benchmarks import work
from benchmarks.peers.telling import tell

NO_LIMIT = 1_000_000_000


def main() -> None:
    base_url, items, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory(prefix="mediabatch-curator-") as folder:
        os.environ["CURATOR_CACHE_DIR"] = folder
        os.environ["HF_DATASETS_CACHE"] = folder
        with contextlib.redirect_stdout(sys.stderr):
            texts, tokens, asking_s = ask_all(base_url, items, concurrency)
    tell(items, texts, tokens, asking_s)


def ask_all(base_url: str, items: int, concurrency: int) -> tuple[list[str], int, float]:
    import litellm

    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.__file__).parent / "litellm_core_utils/tokenizers")
    from bespokelabs import curator

    class Analyst(curator.LLM):
        def prompt(self, input: dict[str, Any]) -> list[dict[str, Any]]:
            parts: list[dict[str, Any]] = [{"type": "text", "text": work.PROMPT}]
            parts += [{"type": "image_url", "image_url": {"url": url}} for url in input["urls"]]
            return [{"role": "user", "content": parts}]

        def parse(self, input: dict[str, Any], response: str) -> dict[str, Any]:
            return {"text": response}

    analyst = Analyst(
        model_name=work.MODEL,
        backend="openai",
        generation_params={"max_tokens": work.MAX_TOKENS},
        backend_params={
            "base_url": base_url,
            "api_key": work.API_KEY,
            "max_concurrent_requests": concurrency,
            "max_requests_per_minute": NO_LIMIT,
            "max_tokens_per_minute": NO_LIMIT,
        },
    )
    rows = [{"urls": list(work.media_urls(number))} for number in range(items)]
    began = time.perf_counter()
    response = analyst(rows)
    asking_s = time.perf_counter() - began
    return list(response.dataset["text"]), response.token_usage.total, asking_s


if __name__ == "__main__":
    main()
