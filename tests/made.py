"""Records and stores for the tests of what comes after an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from pipeline.store.rows import Part
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


def outcome(asked: Item | None = None, *attempts: Attempt, seen: Sequence[Any] | None = None) -> Outcome:
    asked = asked or item()
    attempts = attempts or (attempt(),)
    if seen is None:
        seen = ["yes"] * len(asked.request.media)
    return Outcome(asked, request_key(asked.request), attempts, attempts[-1].error, tuple(seen))


def write(
    out: Path,
    *ended: Outcome | BadRow | NotAttempted,
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
    part = Part(run_id, job, "embedded" if endpoint == "embedded" else None)
    for one in ended:
        part.add(one)
    writer.write_part(1, part)
    if part.rest:
        writer.write_rest(part.rest_frame())
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
