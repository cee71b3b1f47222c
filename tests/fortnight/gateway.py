"""The embedded endpoint behind a gateway with moods, which counts what it served, by day.

What befalls a request is drawn from the day, what it asks, and how often it came: the order in which
requests arrive changes nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from random import Random
from typing import Any

import orjson
from aiohttp import web

from pipeline.embedded.analyst import Analyst
from pipeline.embedded.server import make_app

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Mood:
    """Shares of requests that get something else than an answer."""

    overloaded: float = 0.0  # a 503
    throttled: float = 0.0  # a 429 that names a short time
    cut: float = 0.0  # answered and billed, and the connection breaks
    out_s: float = 0.0  # a 503 for everybody, for so long, from its tenth request on
    broke_after: int | None = None  # no credit any more after so many answers


@dataclass
class Counts:
    """What one day's requests came to."""

    statuses: Counter[int] = field(default_factory=Counter)  # of answers that were delivered
    cut: int = 0
    text: int = 0
    audio: int = 0
    media: int = 0  # what no detail names: images and videos
    output: int = 0

    @property
    def tokens(self) -> int:
        return self.text + self.audio + self.media + self.output


@dataclass
class Gateway:
    """``day`` and ``mood`` are set from night to night."""

    seed: int
    base_url: str = ""
    day: date = date.min
    mood: Mood = field(default_factory=Mood)
    counts: dict[date, Counts] = field(default_factory=lambda: defaultdict(Counts))
    _came: Counter[str] = field(default_factory=Counter)
    _of_day: int = 0
    _out_until_s: float = 0.0

    def begin(self, day: date, mood: Mood) -> None:
        self.day, self.mood = day, mood
        self._came.clear()
        self._of_day, self._out_until_s = 0, 0.0

    async def pass_on(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        counts = self.counts[self.day]
        asked = hashlib.sha256(await request.read()).hexdigest()
        self._came[asked] += 1
        self._of_day += 1
        fate = Random(f"{self.seed} {self.day} {asked} {self._came[asked]}").random()
        refusal = self._refusal(fate, counts)
        if refusal is not None:
            counts.statuses[refusal.status] += 1
            return refusal
        try:
            answer = await handler(request)
        except Exception as refused:
            counts.statuses[getattr(refused, "status", 500)] += 1
            raise
        assert isinstance(answer, web.Response)
        if fate > 1.0 - self.mood.cut:
            counts.cut += 1
            assert request.transport is not None
            request.transport.abort()
            return answer
        counts.statuses[answer.status] += 1
        _count(counts, orjson.loads(answer.body))  # type: ignore[arg-type] # bytes, from our own server
        return answer

    def _refusal(self, fate: float, counts: Counts) -> web.Response | None:
        mood = self.mood
        if mood.broke_after is not None and counts.statuses[200] >= mood.broke_after:
            return _error(402, "insufficient_user_quota", "用户额度不足")
        if mood.out_s and self._of_day == 10:
            self._out_until_s = time.monotonic() + mood.out_s
        if time.monotonic() < self._out_until_s or fate < mood.overloaded:
            return _error(503, "overloaded", "the upstream is overloaded, try again later")
        if fate < mood.overloaded + mood.throttled:
            return _error(429, "rate_limit_exceeded", "slow down", {"retry-after-ms": "40"})
        return None


@asynccontextmanager
async def open_gateway(seed: int, port: int = 0) -> AsyncIterator[Gateway]:
    """A gateway on loopback; port 0 takes a free one."""
    gateway = Gateway(seed)

    @web.middleware
    async def pass_on(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await gateway.pass_on(request, handler)

    async with Analyst() as analyst:
        app = make_app(analyst, None)
        app.middlewares.append(pass_on)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            gateway.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            yield gateway
        finally:
            await runner.cleanup()


def _count(counts: Counts, reply: dict[str, Any]) -> None:
    usage = reply["usage"]
    details = usage["prompt_tokens_details"]
    counts.text += details["text_tokens"]
    counts.audio += details["audio_tokens"]
    counts.media += usage["prompt_tokens"] - details["text_tokens"] - details["audio_tokens"]
    counts.output += usage["completion_tokens"]


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"message": message, "type": "gateway_error", "param": "", "code": code}
    return web.Response(
        status=status,
        body=orjson.dumps({"error": error}),
        content_type="application/json",
        headers=headers,
    )
