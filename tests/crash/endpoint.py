"""An endpoint that outlives the kills: it remembers each request it got and each reply that it served whole.

Every reply has an id of its own, so that a reply on record is matched to the one that was served. What a
request meets (a latency, a failure, how many tokens) is drawn from the seed, the item and how often it came.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tests.serving.answers import RESET, Answer, completion, cut_off, gateway_error
from tests.serving.server import Connection, Play, Received, Script

MODEL = "gemini-3.1-flash-lite-preview"
PER_TOKEN = {"text": "0.25", "image": "0.25", "audio": "0.50", "output": "1.50"}  # USD a million

LATENCY_S = (0.02, 0.2)


@dataclass
class Asked:
    """One request that arrived. ``reply_id`` is set where it was answered with usage; ``cost`` is what such
    a reply costs."""

    item_id: str
    nth: int
    key: str
    at_s: float  # the machine's time
    reply_id: str | None = None
    cost: Decimal = Decimal(0)
    served_at_s: float | None = None  # when the last byte was handed to the system


@dataclass
class CountingEndpoint:
    """A script for `Server`, and what came of it."""

    seed: int
    fails: bool = True
    latency_s: tuple[float, float] = LATENCY_S
    padding: int = 0  # characters more in each answer
    asked: list[Asked] = field(default_factory=list)

    @property
    def script(self) -> Script:
        return self._answer

    def _answer(self, received: Received) -> Play:
        item_id = received.text or "?"
        asked = Asked(item_id, received.nth, received.headers.get("idempotency-key", ""), time.time())
        self.asked.append(asked)
        drawn = random.Random(f"{self.seed} {item_id} {received.nth}")
        latency_s = drawn.uniform(*self.latency_s)
        if self.fails and random.Random(f"{self.seed} {item_id}").random() < 0.02:
            return _after(latency_s, gateway_error(400, "invalid_argument", "unreadable"))
        fate = drawn.random() if self.fails else 1.0
        if fate < 0.04:
            return _after(latency_s, gateway_error(503, "overloaded"))
        if fate < 0.07:
            return _after(latency_s, gateway_error(429, 429).with_headers(retry_after="0.05"))
        if fate < 0.09:
            return _after(latency_s, RESET)
        answer = self._reply(asked, drawn, is_blocked=fate < 0.11)
        if 0.11 < fate < 0.13:
            return _after(latency_s, cut_off(answer, 100))
        return self._counted(asked, _after(latency_s, answer))

    def _reply(self, asked: Asked, drawn: random.Random, *, is_blocked: bool) -> Answer:
        """Text, image and audio tokens in, text out; blocked ones have no text, and are paid all the same."""
        tokens = {
            "text": drawn.randint(1, 50),
            "image": drawn.randint(1, 2_000),
            "audio": drawn.choice([0, drawn.randint(1, 900)]),
        }
        output = 0 if is_blocked else drawn.randint(1, 400)
        prompt = sum(tokens.values())
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {f"{name}_tokens": count for name, count in tokens.items()},
        }
        priced = [*tokens.items(), ("output", output)]
        asked.cost = sum((count * Decimal(PER_TOKEN[name]) for name, count in priced), Decimal(0)) / 1_000_000
        asked.reply_id = f"chatcmpl-{asked.item_id}-{asked.nth}"
        return completion(
            ""
            if is_blocked
            else f"what is seen in {asked.item_id}" + drawn.randbytes(self.padding // 2).hex(),
            usage=usage,
            finish_reason="content_filter" if is_blocked else "stop",
            id=asked.reply_id,
        )

    @staticmethod
    def _counted(asked: Asked, play: Play) -> Play:
        async def serve(received: Received, connection: Connection) -> None:
            await play(received, connection)
            if connection.is_open:
                asked.served_at_s = time.time()

        return serve


def _after(seconds: float, play: Play) -> Play:
    if isinstance(play, Answer):
        return replace(play, after_s=seconds)

    async def wait_and_play(received: Received, connection: Connection) -> None:
        await asyncio.sleep(seconds)
        await play(received, connection)

    return wait_and_play
