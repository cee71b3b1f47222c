"""Requests and bodies for the tests of the dialects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from pipeline.records import Media, MediaModality, Request, Usage

REPLIES = Path(__file__).parents[2] / "data" / "replies"

EXAMPLE_URLS = (
    "https://s2.loli.net/2024/02/01/QSWVdw9bX56gj7O.jpg",
    "https://cdn.openai.com/API/docs/audio/alloy.wav",
    "https://cdn.bigmodel.cn/agent-demos/lark/113123.mov",
)
EXAMPLE = Request(
    model="gemini-3.1-flash-lite-preview",
    prompt="请分析下面图片、音频、视频的内容",
    media=(
        Media("image", EXAMPLE_URLS[0]),
        Media("audio", EXAMPLE_URLS[1]),
        Media("video", EXAMPLE_URLS[2]),
    ),
    parameters={"max_tokens": 2000},
)


def request_of(*modalities: MediaModality) -> Request:
    media = tuple(Media(modality, f"https://example.com/{modality}") for modality in modalities)
    return Request(model="a-model", prompt="What is it?", media=media, parameters={})


def recorded(name: str) -> bytes:
    return (REPLIES / f"{name}.json").read_bytes()


def answer(usage: Any = None, **more: Any) -> bytes:
    message = {"role": "assistant", "content": "yes"}
    body = {
        "id": "c-1",
        "model": "a-model",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
        **more,
    }
    return orjson.dumps(body)


def leaves(usage: Usage | None) -> list[str]:
    """One line a count: ``9 text input reported``, and the kind where it is not fresh."""
    assert usage is not None
    return [
        " ".join(
            (str(c.tokens), c.modality, c.direction, *([c.kind] if c.kind != "fresh" else []), c.provenance)
        )
        for c in usage.counts
    ]
