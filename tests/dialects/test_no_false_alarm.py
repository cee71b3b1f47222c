"""10,000 replies of endpoints that saw every medium, in every layout of usage: none is called unseen.

And of endpoints that dropped some: `no` is said only of what was dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import orjson
import pytest

from pipeline.dialects import DIALECTS, media_seen
from pipeline.records import MediaModality
from tests.dialects.made import request_of

MODALITIES: tuple[MediaModality, ...] = ("image", "audio", "video", "document")
REPLIES = 10_000
Tokens = dict[str, int]
Layout = Callable[[Random, Tokens], dict[str, Any]]


def details(rng: Random, tokens: Tokens, *names: str, zeros: bool = True, **more: Any) -> dict[str, Any]:
    """A layout that names these; what was not counted as 0, or not at all."""
    told = {f"{name}_tokens": tokens.get(name, 0) for name in names if zeros or name in tokens}
    return {"prompt_tokens_details": {**told, **more}}


def cached(rng: Random, tokens: Tokens) -> dict[str, Any]:
    return details(rng, tokens, "text", "audio", cached_tokens=rng.randrange(sum(tokens.values()) + 1))


LAYOUTS: dict[str, Layout] = {
    "new-api, older: text and audio": lambda rng, tokens: details(rng, tokens, "text", "audio"),
    "new-api, newer: image too": lambda rng, tokens: details(
        rng, {**tokens, "image": tokens.get("image", 0)}, "text", "audio", "image"
    ),
    "new-api, image always named 0": lambda rng, tokens: details(
        rng, {**tokens, "image": 0}, "text", "audio", "image"
    ),
    "new-api, no details upstream: all is text": lambda rng, tokens: details(
        rng, {"text": sum(tokens.values())}, "text", "audio"
    ),
    "new-api, cached": cached,
    "null details": lambda rng, tokens: {"prompt_tokens_details": None},
    "no details": lambda rng, tokens: {},
    "OpenAI: cached and audio": lambda rng, tokens: details(rng, tokens, "audio", cached_tokens=0),
    "vLLM: media named": lambda rng, tokens: details(
        rng, tokens, "image", "audio", "video", zeros=False, cached_tokens=0
    ),
    "all named, zeros too": lambda rng, tokens: details(rng, tokens, "text", *MODALITIES),
    "DeepSeek: cached at the top": lambda rng, tokens: {"prompt_cache_hit_tokens": rng.randrange(5)},
    "the other spelling": lambda rng, tokens: {
        "input_tokens": sum(tokens.values()),
        "input_tokens_details": details(rng, tokens, "text", "audio")["prompt_tokens_details"],
        "prompt_tokens": 0,
    },
}


def counted(rng: Random, seen: list[MediaModality]) -> Tokens:
    """What an endpoint that saw these counts; a video may have sound, which is audio."""
    tokens: Tokens = {"text": rng.randrange(1, 400)}
    for modality in seen:
        tokens[modality] = tokens.get(modality, 0) + rng.randrange(1, 5000)
        if modality == "video" and rng.random() < 0.5:
            tokens["audio"] = tokens.get("audio", 0) + rng.randrange(1, 900)
    return tokens


def said(
    rng: Random, layout: Layout, sent: list[MediaModality], seen: list[MediaModality]
) -> tuple[str, ...]:
    tokens = counted(rng, seen)
    whole = sum(tokens.values())
    answer = rng.randrange(1, 300)
    usage = {
        "prompt_tokens": whole,
        "completion_tokens": answer,
        "total_tokens": whole + answer,
        **layout(rng, tokens),
    }
    choice = {"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    body = orjson.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage})
    request = request_of(*sent)
    return media_seen(request, DIALECTS[rng.choice(list(DIALECTS))].parse(body, request).usage)


def drawn(rng: Random) -> list[MediaModality]:
    return [rng.choice(MODALITIES) for _ in range(rng.randrange(1, 5))]


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_was_seen_is_never_called_unseen(name: str) -> None:
    rng = Random(name)
    for _ in range(-(-REPLIES // len(LAYOUTS))):
        sent = drawn(rng)
        assert "no" not in said(rng, LAYOUTS[name], sent, sent), sent


@pytest.mark.parametrize("name", LAYOUTS)
def test_only_what_was_dropped_is_called_unseen(name: str) -> None:
    """A gateway drops a modality as a whole."""
    rng = Random(name + " drops")
    for _ in range(1_000):
        sent = drawn(rng)
        dropped = {modality for modality in sent if rng.random() < 0.5}
        seen = [modality for modality in sent if modality not in dropped]
        for modality, told in zip(sent, said(rng, LAYOUTS[name], sent, seen), strict=True):
            assert told != "no" or modality in dropped, (sent, dropped)


@pytest.mark.parametrize(
    ("name", "sent", "dropped", "says"),
    [
        ("new-api, older: text and audio", ["image", "audio"], "image", "no"),
        ("new-api, older: text and audio", ["video", "audio"], "video", "no"),
        ("new-api, newer: image too", ["image", "audio"], "image", "no"),
        ("vLLM: media named", ["image", "audio"], "audio", "unknown"),  # it may be in what is not named
        ("all named, zeros too", ["image", "audio"], "audio", "no"),
        # All text: what a gateway also says where its upstream sends no details.
        ("new-api, older: text and audio", ["video"], "video", "unknown"),
    ],
)
def test_what_was_dropped_is_called_unseen_where_usage_can_tell(
    name: str, sent: list[MediaModality], dropped: MediaModality, says: str
) -> None:
    rng = Random(1)
    for _ in range(200):
        told = said(rng, LAYOUTS[name], sent, [modality for modality in sent if modality != dropped])
        assert dict(zip(sent, told, strict=True))[dropped] == says
