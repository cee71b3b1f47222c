"""Records and stores for the tests of what comes after an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import AttemptError
from pipeline.keys import request_key
from pipeline.pricing import Rates, UnitPrice, price
from pipeline.records import (
    Attempt,
    AttemptState,
    BadRow,
    Item,
    Media,
    NotAttempted,
    Outcome,
    Reply,
    Request,
    TokenCount,
    Usage,
)
from pipeline.store.resting import Rest
from pipeline.store.rows import NO_TRIES, Entry, Part, Writing
from pipeline.store.writer import RunWriter

NOW = datetime(2026, 3, 5, 22, 0, tzinfo=UTC)
ENDPOINT = "https://endpoint.example/v1"
PRICES = Rates(
    "USD",
    "flat",
    {
        ("text", "input", "fresh"): UnitPrice.of(Decimal("0.25")),
        ("audio", "input", "fresh"): UnitPrice.of(Decimal("0.50")),
        ("text", "output", "fresh"): UnitPrice.of(Decimal("1.50")),
    },
)


def item(
    name: str = "one", row: int = 1, *media: Media, prompt: str = "What is it?", model: str = "a-model"
) -> Item:
    return Item(name, row, Request(model, prompt, media, {"max_tokens": 9}))


def count(
    modality: Any, direction: Literal["input", "output"], tokens: int, kind: Any = "fresh"
) -> TokenCount:
    return TokenCount(modality, direction, kind, tokens, "reported")


def reply(
    text: str | None = "a cat",
    counts: Sequence[TokenCount] = (count("text", "input", 9), count("text", "output", 230)),
    **more: Any,
) -> Reply:
    prompt = sum(one.tokens for one in counts if one.direction == "input")
    completion = sum(one.tokens for one in counts if one.direction == "output")
    usage = Usage(prompt, completion, prompt + completion, tuple(counts), '{"prompt_tokens":9}')
    return Reply(text, "stop", "a-model-0305", "c-1", usage, **more)


def attempt(
    number: int = 1,
    answered: Reply | None = None,
    error: AttemptError | None = None,
    *,
    at: datetime = NOW,
    endpoint: str = ENDPOINT,
    state: AttemptState | None = None,
    rates: Rates | None = PRICES,
) -> Attempt:
    """One attempt of 1.5 s; without an error it is answered."""
    if error is None and answered is None:
        answered = reply()
    counts = answered.usage.counts if answered and answered.usage else ()
    bill = price(counts, rates)
    return Attempt(
        number,
        number,
        at,
        at + timedelta(seconds=1.5),
        state or (error.state if error else "billed"),
        endpoint,
        "a-model",
        "newapi",
        error.http_status if error else 200,
        f"r-{number}",
        error,
        answered,
        bill.charges,
        bill.cost,
        bill.cost_low,
        bill.cost_high,
    )


@dataclass(frozen=True)
class Course:
    """How a row that was asked went: its attempts before the last, and its end."""

    before: tuple[Attempt, ...]
    ended: Outcome | NotAttempted


Told = Course | BadRow | NotAttempted


def outcome(asked: Item | None = None, *attempts: Attempt, seen: Sequence[Any] | None = None) -> Course:
    """An item that ended with the last of its attempts."""
    asked = asked or item()
    *before, last = attempts or (attempt(),)
    if seen is None:
        seen = ["yes"] * len(asked.request.media)
    return Course(tuple(before), Outcome(asked, request_key(asked.request), last, last.error, tuple(seen)))


def not_attempted(name: str, row: int, *attempts: Attempt) -> Course:
    """A row whose run stopped after these attempts."""
    *before, last = attempts or (None,)
    return Course(tuple(one for one in before if one), NotAttempted(name, row, last))


def entries(*told: Told, writing: Writing | None = None) -> Iterable[Entry]:
    """What a recorder makes of them."""
    writing = writing or Writing("r1", "default", None)
    for one in told:
        if isinstance(one, BadRow):
            yield writing.bad_row(one)
        elif isinstance(one, Course):
            ended = one.ended
            name = ended.item.id if isinstance(ended, Outcome) else ended.id
            for attempt in one.before:
                yield writing.tried(name, [attempt], None)
            if isinstance(ended, Outcome):
                yield writing.ended(ended, NO_TRIES.and_then([*one.before, ended.last]), None)
            elif ended.last is not None:
                yield writing.tried(name, [ended.last], None)


def part_of(*told: Told, writing: Writing | None = None) -> Part:
    part = Part()
    for entry in entries(*told, writing=writing):
        part.add(entry)
    return part


def resting(*told: Told) -> list[NotAttempted]:
    """Those that are at rest."""
    ended = [one.ended if isinstance(one, Course) else one for one in told]
    return [one for one in ended if isinstance(one, NotAttempted)]


def write(
    out: Path,
    *told: Told,
    run_id: str = "r1",
    job: str = "default",
    started_at: datetime = NOW,
    manifest: Path | str = "m.csv",
    endpoint: str = ENDPOINT,
    facts: Mapping[str, object] | None = None,
) -> RunWriter:
    """A run in the store, with what `export` and `show` need of its run.json."""
    writer = RunWriter(out, run_id, started_at)
    writer.open()
    writing = Writing(run_id, job, "embedded" if endpoint == "embedded" else None)
    writer.write_part(1, part_of(*told, writing=writing))
    rest = Rest(run_id, job)
    for one in resting(*told):
        rest.add(one.id, one.row, "not_attempted")
    rest.write(writer)
    writer.write_run(
        {
            "run_id": run_id,
            "job": job,
            "started_at": started_at,
            "plan": {"manifest": str(manifest), "endpoint": endpoint},
            **(facts or {}),
        }
    )
    return writer
