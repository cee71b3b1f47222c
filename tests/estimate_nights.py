"""Nights at endpoints that count by rules of their own, and answer at lengths of their own: was the bill
foretold?

``python -m tests.estimate_nights --nights 200`` plays so many: an estimate before anything is known, a
canary of 50 rows, an estimate after it, and the night. It tells how often the band held the bill, and how far
off the likely figure was. Media are real, and served by a real server on loopback.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import av
import httpx
import orjson
from aiohttp import web
from PIL import Image

from pipeline.estimating import Band, estimate_run
from pipeline.launch import launch
from pipeline.media.probing import AudioFacts, ImageFacts, MediaFacts, VideoFacts, probe
from pipeline.plan import EndpointPlan, Plan, Secrets, new_run_id
from pipeline.pricing import ListPrices
from pipeline.surroundings import Surroundings
from pipeline.transport import Transport, WireSettings

MODEL = "gemini-3.1-flash-lite-preview"
CANARY = 50
NEAR = 0.05
"""How near the likely figure should be after the canary."""


@dataclass(frozen=True)
class Counting:
    """How an endpoint counts, drawn by chance: nothing of it is known to the estimate."""

    image_base: int
    image_per_tile: int
    tile_px: int
    audio_per_s: float
    video_per_s: float
    text_per_char: float
    overhead: int
    named: frozenset[str]  # the modalities its details name; none: no details at all
    answer: float  # tokens on average
    answer_spread: float  # of that average
    failing: float  # share of requests refused, with no usage

    @classmethod
    def drawn(cls, rng: Random) -> Counting:
        every = frozenset({"text", "audio", "image", "video"})
        return cls(
            image_base=rng.choice([0, 85, 258, 1120]),
            image_per_tile=rng.choice([0, 170, 258]),
            tile_px=rng.choice([512, 768]),
            audio_per_s=rng.uniform(10, 50),
            video_per_s=rng.uniform(60, 300),
            text_per_char=rng.uniform(0.2, 0.35),
            overhead=rng.randrange(30),
            named=rng.choice([frozenset(), frozenset({"text", "audio"}), frozenset({"text"}), every]),
            answer=rng.uniform(40, 600),
            answer_spread=rng.uniform(0.05, 0.35),
            failing=rng.choice([0.0, 0.0, 0.02]),
        )

    def media(self, facts: MediaFacts) -> tuple[str, int]:
        match facts:
            case ImageFacts():
                tiles = -(-facts.width_px // self.tile_px) * -(-facts.height_px // self.tile_px)
                return "image", self.image_base + tiles * self.image_per_tile
            case AudioFacts():
                return "audio", round(facts.duration_s * self.audio_per_s)
            case VideoFacts():
                return "video", round(facts.duration_s * self.video_per_s)
        raise AssertionError(facts)

    def usage(self, rng: Random, prompt: str, media: list[MediaFacts]) -> dict[str, Any]:
        tokens = {"text": round(len(prompt) * self.text_per_char) + self.overhead}
        for facts in media:
            modality, count = self.media(facts)
            tokens[modality] = tokens.get(modality, 0) + count
        answer = max(1, round(rng.gauss(self.answer, self.answer * self.answer_spread)))
        told = {f"{modality}_tokens": tokens[modality] for modality in tokens if modality in self.named}
        return {
            "prompt_tokens": sum(tokens.values()),
            "completion_tokens": answer,
            "total_tokens": sum(tokens.values()) + answer,
            "prompt_tokens_details": told or None,
        }


class Endpoint(httpx.AsyncBaseTransport):
    """Answers with a usage by these rules."""

    def __init__(self, counting: Counting, facts: dict[str, MediaFacts], seed: int) -> None:
        self._counting = counting
        self._facts = facts
        self._rng = Random(seed)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._rng.random() < self._counting.failing:
            error = {"message": "no", "type": "x", "param": None, "code": "prompt_blocked"}
            return httpx.Response(400, json={"error": error})
        prompt, *media = orjson.loads(request.content)["messages"][0]["content"]
        found = [self._facts[part[part["type"]]["url"].rpartition("/")[2]] for part in media]
        usage = self._counting.usage(self._rng, prompt["text"], found)
        choice = {"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
        return httpx.Response(200, json={"id": "c", "model": MODEL, "choices": [choice], "usage": usage})


def made_media(folder: Path) -> dict[str, MediaFacts]:
    """Pictures, sounds and films of many sizes, and what is true of them."""
    rng = Random(7)
    for number in range(24):
        size = rng.randrange(64, 3000), rng.randrange(64, 3000)
        Image.new("RGB", size, (number, 90, 120)).save(folder / f"picture-{number}.png")
    for number in range(16):
        with wave.open(str(folder / f"sound-{number}.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(1)
            sound.setframerate(8000)
            sound.writeframes(bytes(rng.randrange(8_000, 400_000)))
    for number in range(10):
        (folder / f"film-{number}.mp4").write_bytes(_film(rng.randrange(2, 40)))
    return {path.name: probe(path) for path in folder.iterdir()}


def _film(seconds: int) -> bytes:
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as film:
        stream = film.add_stream("mpeg4", rate=2)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(2 * seconds):
            frame = av.VideoFrame(64, 64, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number]) * plane.buffer_size)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return content.getvalue()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_static("/", folder)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def manifest(path: Path, rng: Random, base_url: str, names: list[str], rows: int) -> None:
    by_kind = {
        kind: [name for name in names if name.startswith(kind)] for kind in ("picture", "sound", "film")
    }
    shapes = rng.sample(
        [("picture",), ("sound",), ("film",), ("picture", "film"), ("picture", "sound"), ()],
        k=rng.randrange(1, 4),
    )
    columns = {"picture": "image_url", "sound": "audio_url", "film": "video_url"}
    with path.open("wb") as file:
        for number in range(rows):
            row = {
                "id": f"r{number}",
                "prompt": f"What is in number {number}? " + "Tell more. " * rng.randrange(12),
            }
            for kind in rng.choice(shapes):
                row[columns[kind]] = f"{base_url}/{rng.choice(by_kind[kind])}"
            file.write(orjson.dumps(row) + b"\n")


@dataclass(frozen=True)
class Played:
    """Bands and bills in USD: of the whole before anything was known, and of the rest after the canary."""

    cold: Band
    whole: float
    warm: Band
    rest: float

    @property
    def off(self) -> float:
        return self.warm.likely / self.rest - 1


async def night(seed: int, folder: Path, base_url: str, facts: dict[str, MediaFacts]) -> Played:
    rng = Random(seed)
    counting = Counting.drawn(rng)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "rows.ndjson"
        manifest(path, rng, base_url, sorted(facts), rng.randrange(200, 600))
        plan = Plan(
            run_id=new_run_id(datetime.now(UTC)),
            job="night",
            manifest=str(path),
            out=Path(place) / "out",
            endpoints=(EndpointPlan("https://endpoint.example/v1", "newapi", slots=64),),
            model=MODEL,
            prompt="What is it?",
            parameters={"max_tokens": 2000},
            allow_private=True,
            started_at=datetime.now(UTC),
            timezone=ZoneInfo("UTC"),
        )
        cold = await _foretold(plan)
        canary = await _billed(replace(plan, limit=CANARY), counting, facts, seed)
        rest_of_it = replace(plan, run_id=plan.run_id + "-2")
        warm = await _foretold(rest_of_it)
        rest = await _billed(rest_of_it, counting, facts, seed + 1)
        return Played(cold, canary + rest, warm, rest)


async def _foretold(plan: Plan) -> Band:
    told = await estimate_run(plan, PRICES, sample=200)
    return told.cost["USD"]


async def _billed(plan: Plan, counting: Counting, facts: dict[str, MediaFacts], seed: int) -> float:
    wire = Endpoint(counting, facts, seed)

    @asynccontextmanager
    async def reach(settings: WireSettings) -> AsyncIterator[Transport]:
        yield Transport(settings, wire)

    summary = await launch(plan, Secrets(), world=Surroundings(reach=reach, price_book=lambda: PRICES))
    assert summary.state == "done"
    return float(summary.tally.cost["USD"])


PRICES = ListPrices()


async def nights(seeds: range) -> list[Played]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        facts = made_media(folder)
        async with served(folder) as base_url:
            return [await night(seed, folder, base_url, facts) for seed in seeds]


def held(band: Band, bill: float) -> bool:
    return band.low <= bill <= band.high


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--nights", type=int, default=200)
    count = options.parse_args().nights
    began_s = time.perf_counter()
    played = anyio.run(nights, range(count))
    cold = sum(held(one.cold, one.whole) for one in played) / count
    warm = sum(held(one.warm, one.rest) for one in played) / count
    off = sorted(abs(one.off) for one in played)
    width = statistics.median((one.warm.high - one.warm.low) / 2 / one.warm.likely for one in played)
    print(f"{count} nights, {time.perf_counter() - began_s:.0f} s")
    print(f"before any reply, the band held the bill in {cold:.1%}")
    print(f"after {CANARY} replies, the band (±{width:.1%} in the middle) held the bill in {warm:.1%}")
    print(
        f"the likely figure was off by {statistics.median(off):.1%} in the middle, "
        f"{off[int(0.9 * count)]:.1%} in nine of ten, {off[-1]:.1%} at most; "
        f"within {NEAR:.0%} in {sum(one <= NEAR for one in off) / count:.1%}"
    )
    return 0 if min(cold, warm) >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
