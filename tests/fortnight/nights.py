"""The calendar: fourteen nights in March, and what happens in each.

Every evening the manifest has grown. The gateway has its moods; in the night of the 6th it turns bad, in that
of the 7th its credit is gone; on the 9th its prices rise; on the 11th there is a budget for the day. The
command line's own functions choose what is asked again.
"""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from pipeline.launch import launch
from pipeline.plan import Anew, EndpointPlan, Plan, Secrets, plan_of
from pipeline.reprocessing import choose, predicate, traced, write_selection
from pipeline.retry import RetryRules
from pipeline.run import Summary
from pipeline.store.reader import run_facts
from pipeline.surroundings import Surroundings
from tests.fortnight.gateway import Gateway, Mood, open_gateway

DATA = Path(__file__).parent.parent.parent / "data"
FIRST = date(2026, 3, 1)
DEARER = date(2026, 3, 9)
MODEL = "gemini-3.1-flash-lite-preview"
KEY = "sk-fortnight-7Hq2"

PRICES = {
    "before": {"text": "0.25", "audio": "0.50", "media": "0.25", "output": "1.50"},
    "after": {"text": "0.30", "audio": "0.70", "media": "0.30", "output": "1.80"},
}
"""Dollars a million tokens, until the night of the 8th and from the 9th on."""

MEDIA = {
    "image_url": ("sunset.jpg", "chart.png", "street-sign.webp", "receipt.png", "thumbnail.jpg"),
    "audio_url": ("greeting-en.wav", "greeting-zh.mp3", "beeps.wav"),
    "video_url": ("bouncing-ball.mp4", "title-card.mov"),
}
QUESTIONS = (
    "What is shown here, and what is missing?",
    "Describe this for somebody who cannot see or hear it.",
    "请用一句话概括内容。",
    "Which words can be read or heard?",
    "Is anything here out of the ordinary?",
)

CALM = Mood(overloaded=0.01, throttled=0.01)
BAD = Mood(overloaded=0.4, throttled=0.05, cut=0.05, out_s=1.5)


@dataclass(frozen=True)
class Evening:
    """One night's plan: the gateway's mood, and what is done."""

    mood: Mood = CALM
    slots: int | None = None
    rpm: int | None = None
    budget_per_day: str | None = None
    reprocesses: bool = False  # in the morning, when the gateway is calm again
    resumes: bool = False  # first the run of the night before


CALENDAR: dict[int, Evening] = {
    3: Evening(rpm=1_200),
    6: Evening(BAD, slots=8, reprocesses=True),
    7: Evening(replace(CALM, broke_after=12)),
    11: Evening(budget_per_day="0.007"),
    12: Evening(resumes=True),
    13: Evening(Mood(throttled=0.15)),
}
"""By night, from 1; the others are calm."""


ALL = range(1, 15)


@dataclass
class Fortnight:
    """What was played, and where it left its store."""

    out: Path
    manifest: Path
    gateway: Gateway
    summaries: dict[date, list[Summary]] = field(default_factory=dict)


class JumpingClock:
    """Tells the time of the night that is played; within a night it goes as time does."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def jump_to(self, then: datetime) -> None:
        self._offset = then - datetime.fromtimestamp(time.time(), UTC)

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC) + self._offset


async def play(
    folder: Path,
    *,
    nights: Sequence[int] = ALL,
    rows: int = 40,
    more: int = 25,
    seed: int = 1,
    port: int = 0,
) -> Fortnight:
    """Play these nights: ``rows`` in the first one's manifest, and ``more`` in each that follows."""
    clock = JumpingClock()
    world = Surroundings(now=clock)
    _copy_media(folder / "media")
    async with open_gateway(seed, port) as gateway:
        played = Fortnight(folder / "out", folder / "manifest.csv", gateway)
        book = _write_book(folder / "prices.toml")
        for place, number in enumerate(nights):
            day = FIRST + timedelta(days=number - 1)
            evening = CALENDAR.get(number, Evening())
            gateway.begin(day, evening.mood)
            clock.jump_to(datetime(day.year, day.month, day.day, 1, 0, tzinfo=UTC))
            summaries = played.summaries[day] = []
            if evening.resumes:  # before the manifest grows: a run goes on only with what it began with
                stopped = played.summaries[day - timedelta(days=1)][-1]
                plan = plan_of(run_facts(played.out, stopped.run_id), played.out)
                summaries.append(await _launch(replace(plan, budget_per_day=None), world))
            _write_manifest(played.manifest, rows + more * place)
            plan = _plan(played, book, evening, clock())
            summaries.append(await _launch(plan, world))
            if evening.reprocesses:
                gateway.begin(day, CALM)
                clock.jump_to(datetime(day.year, day.month, day.day, 7, 30, tzinfo=UTC))
                again = _asked_again(plan, clock())
                if again is not None:
                    summaries.append(await _launch(again, world))
    return played


async def _launch(plan: Plan, world: Surroundings) -> Summary:
    return await launch(plan, Secrets(api_key=KEY), world=world)


def _plan(played: Fortnight, book: Path, evening: Evening, now: datetime) -> Plan:
    return Plan(
        run_id=f"{now:%Y%m%dT%H%M%SZ}-night",
        job="default",
        manifest=str(played.manifest),
        out=played.out,
        endpoints=(EndpointPlan(played.gateway.base_url, "newapi", slots=evening.slots, rpm=evening.rpm),),
        model=MODEL,
        prompt="What is this?",
        parameters={"max_tokens": 2000},
        price_book=str(book),
        budget_per_day=None if evening.budget_per_day is None else Decimal(evening.budget_per_day),
        started_at=now,
        timezone=ZoneInfo("UTC"),
        retry=RetryRules(max_attempts=3, first_wait_s=0.02, max_wait_s=0.2),
    )


def _asked_again(plan: Plan, now: datetime) -> Plan | None:
    """What had failed and may succeed, in a run of its own, as `reprocess` makes it."""
    chosen = choose(plan.out, plan.job, None, predicate(("error_class!=BadInput",), now))
    if chosen.is_empty():
        return None
    again = replace(
        plan,
        run_id=f"{now:%Y%m%dT%H%M%SZ}-again",
        started_at=now,
        again=True,
        anew=Anew(runs=tuple(chosen["run_id"].unique().sort())),
    )
    write_selection(again, traced(plan.out, chosen))
    return again


def _copy_media(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("broken.jpg", *(name for names in MEDIA.values() for name in names)):
        shutil.copyfile(DATA / "media" / name, folder / name)


def _write_manifest(path: Path, rows: int) -> None:
    """Real media, each asked about in several ways; one picture is broken."""
    columns = ("id", *MEDIA, "prompt")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        for number in range(rows):
            column = ("image_url", "image_url", "audio_url", "image_url", "video_url")[number % 5]
            names = MEDIA[column]
            name = "broken.jpg" if number == 3 else names[number // 5 % len(names)]
            question = QUESTIONS[number // 7 % len(QUESTIONS)]
            row = {"id": f"item-{number:04d}", "prompt": f"{question} (No. {number})"}
            if number % 10 != 9:  # one in ten is a text alone
                row[column] = f"media/{name}"
            writer.writerow(row)


def _write_book(path: Path) -> Path:
    """The gateway's own prices, with the day they rise."""
    lines = ['name = "the fortnight\'s gateway"', 'currency = "USD"', 'source = "its page of prices"']
    for name, days in (
        ("before", f"valid_to = {DEARER - timedelta(days=1)}"),
        ("after", f"valid_from = {DEARER}"),
    ):
        told = PRICES[name]
        lines += [
            "",
            "[[price]]",
            'models = ["gemini-3.1-flash-lite*"]',
            days,
            f"input = {{ other = {told['media']}, text = {told['text']}, audio = {told['audio']} }}",
            f"output = {told['output']}",
        ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
