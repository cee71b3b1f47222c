"""The work all contenders do: the example's request, one image, one audio and one video an item.

Owns what is asked, what is answered and what it must cost; media hosts are never contacted.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson

ROOT: Final = Path(__file__).resolve().parent.parent
MODEL: Final = "gemini-3.1-flash-lite-preview"
PROMPT: Final = "请分析下面图片、音频、视频的内容"
MAX_TOKENS: Final = 2000
PATH: Final = "/v1/chat/completions"
API_KEY: Final = "sk-bench"

COST_OF_ONE: Final = Decimal("0.00096075")
"""USD, at list price: 9 text, 399 audio and 1,656 image and video tokens in, 230 out."""
COUNTS_OF_ONE: Final = 4
"""Rows in `costs` an item: text, audio and image+video in, text out."""
TOKENS_OF_ONE: Final = 2294
"""What a limit of tokens a minute counts for a request."""
CERTIFICATES: Final = ROOT / "tests/serving/certificates"
AUTHORITY: Final = CERTIFICATES / "root.pem"
"""Who trusts it trusts the server on 127.0.0.1; server.pem and server.key beside it are the server's."""


def media_urls(number: int) -> tuple[str, str, str]:
    """Image, audio and video of one item; no two items share one."""
    return (
        f"https://media.example/2024/02/{number:07d}/QSWVdw9bX56gj7O.jpg",
        f"https://media.example/API/docs/{number:07d}/alloy.wav",
        f"https://media.example/agent-demos/{number:07d}/113123.mov",
    )


def request_body(number: int) -> bytes:
    """The body of one request, for contenders that have no manifest."""
    return rendered(*media_urls(number))


def rendered(image: str, audio: str, video: str) -> bytes:
    return orjson.dumps({**request(image, audio, video), "stream": False})


def request(image: str, audio: str, video: str) -> dict[str, Any]:
    """What a chat completion takes, as the SDKs spell it."""
    return {
        "model": MODEL,
        "max_tokens": MAX_TOKENS,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": PROMPT},
                    {"type": "image_url", "image_url": {"url": image}},
                    {"type": "audio_url", "audio_url": {"url": audio}},
                    {"type": "video_url", "video_url": {"url": video}},
                ],
            }
        ],
    }


def reply_body() -> bytes:
    """The recorded reply of the example's gateway."""
    return (ROOT / "data/replies/newapi_example.json").read_bytes()


def write_manifest(path: Path, items: int, image_of: Callable[[int], str] | None = None) -> Path:
    """A manifest of that many rows; CSV or Parquet, by the ending. Images may be others than the usual."""
    import polars as pl

    rows = [media_urls(number) for number in range(items)]
    if image_of is not None:
        rows = [(image_of(number), audio, video) for number, (_, audio, video) in enumerate(rows)]
    frame = pl.DataFrame(
        {"id": [f"item-{number:07d}" for number in range(items)]}
        | {
            name: [urls[place] for urls in rows]
            for place, name in enumerate(("image_url", "audio_url", "video_url"))
        }
    )
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return path
