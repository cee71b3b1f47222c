"""Records → rows of the datasets, as the ledger keeps them and as Parquet wants them.

A row is a tuple in the schema's order, of values that JSON knows too: instants as microseconds since 1970
(UTC), money as decimal text. So the ledger can write a row ahead, and a part made from the ledger is the
part that would have been made without a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import NamedTuple, Self

import orjson
import polars as pl

from pipeline.ledger import InFlight
from pipeline.media.urls import storable
from pipeline.pricing import total
from pipeline.records import Attempt, BadRow, Outcome, Request, Seen
from pipeline.store.schemas import ATTEMPTS, COST, COSTS, INSTANT, MEDIA, PRICE, RESULTS

Row = Sequence[object]

RESULT_COLUMN = {name: place for place, name in enumerate(RESULTS)}
ATTEMPT_COLUMN = {name: place for place, name in enumerate(ATTEMPTS)}
COST_COLUMN = {name: place for place, name in enumerate(COSTS)}


class Tries(NamedTuple):
    """What the earlier attempts of an item that has not ended came to, in this run."""

    attempts: int = 0
    cost: Decimal | None = None
    cost_low: Decimal | None = None
    cost_high: Decimal | None = None
    currency: str | None = None
    unpriced_tokens: int = 0
    started_at: int | None = None  # microseconds

    def encode(self) -> bytes:
        return orjson.dumps([str(value) if isinstance(value, Decimal) else value for value in self])

    @classmethod
    def decode(cls, body: bytes) -> Self:
        attempts, cost, low, high, currency, unpriced_tokens, started_at = orjson.loads(body)
        return cls(
            attempts, _decimal(cost), _decimal(low), _decimal(high), currency, unpriced_tokens, started_at
        )

    def and_then(self, attempts: Sequence[Attempt]) -> Tries:
        """With later attempts added. A bound is None where it needs a rate nobody knows."""
        unpriced_tokens, currency = self.unpriced_tokens, self.currency
        for attempt in attempts:
            for charge in attempt.charges:
                if charge.cost is None:
                    unpriced_tokens += charge.count.tokens
                else:
                    currency = charge.currency
        paid: list[tuple[Decimal | None, Decimal | None, Decimal | None]]
        paid = [(one.cost, one.cost_low, one.cost_high) for one in attempts if one.cost is not None]
        if self.cost is not None:
            paid.append((self.cost, self.cost_low, self.cost_high))
        if len(paid) == 1:
            cost, low, high = paid[0]
        else:
            costs, lows, highs = zip(*paid, strict=True) if paid else ((), (), ())
            cost = total(costs)
            low = None if None in lows else total(lows)
            high = None if None in highs else total(highs)
        started_at = self.started_at
        if started_at is None and attempts:
            started_at = micros(attempts[0].sent_at)
        return Tries(self.attempts + len(attempts), cost, low, high, currency, unpriced_tokens, started_at)

    def and_lost(self, sent_at: int) -> Tries:
        """With an attempt added of which nothing is known."""
        return self._replace(attempts=self.attempts + 1, started_at=self.started_at or sent_at)


NO_TRIES = Tries()


class Entry(NamedTuple):
    """What one commit records: attempts with their charges, and the result of the item that ended, if it
    did."""

    attempts: list[Row]
    costs: list[Row]
    result: Row | None

    def encode(self) -> bytes:
        return orjson.dumps((self.attempts, self.costs, self.result))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        attempts, costs, result = orjson.loads(body)
        # Written, perhaps, before a column was added at the end.
        for row in attempts:
            row += [None] * (len(ATTEMPTS) - len(row))
        if result is not None:
            result += [None] * (len(RESULTS) - len(result))
        return cls(attempts, costs, result)


@dataclass(frozen=True, slots=True)
class Writing:
    """Whose rows they are: what every row of a run begins with."""

    run_id: str
    job: str
    endpoint_of_bad_rows: str | None  # `embedded` in a rehearsal, whose rows never count; else unknown
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    stamp: str = ""  # of the run's start: `--run-id` may name runs of several stores alike

    def tried(self, item_id: str, attempts: Sequence[Attempt], possible_cost: Decimal | None) -> Entry:
        """Attempts of an item that goes on."""
        return Entry(*self._attempts(item_id, attempts, possible_cost), None)

    def ended(self, outcome: Outcome, tries: Tries, possible_cost: Decimal | None) -> Entry:
        """An item's end, with its last attempt. ``tries``: what all of its attempts came to."""
        rows, costs = self._attempts(outcome.item.id, [outcome.last], possible_cost)
        return Entry(rows, costs, self._outcome(outcome, tries))

    def settled(self, outcome: Outcome, tries: Tries) -> Entry:
        """An item's end, when all its attempts are on record."""
        return Entry([], [], self._outcome(outcome, tries))

    def bad_row(self, bad: BadRow, tries: Tries = NO_TRIES) -> Entry:
        """``tries``: attempts that were made before it turned out that it cannot be asked again."""
        now = micros(self.now())
        request = bad.request
        urls = [storable(media.url) for media in request.media] if request else []
        known: dict[str, object] = {
            "run_id": self.run_id,
            "job": self.job,
            "item_id": bad.id,
            "row": bad.row,
            "status": "failed",
            "endpoint": self.endpoint_of_bad_rows,
            "model_requested": request.model if request else None,
            "attempts": tries.attempts,
            "error_class": bad.error.error_class,
            "error_message": str(bad.error),
            "cost": _text(tries.cost),
            "cost_low": _text(tries.cost_low),
            "cost_high": _text(tries.cost_high),
            "currency": tries.currency,
            "unpriced_tokens": tries.unpriced_tokens,
            "media": _media(request, urls, ["unknown"] * len(urls)) if request else (),
            "started_at": tries.started_at or now,
            "finished_at": now,
        }
        return Entry([], [], tuple([known.get(name) for name in RESULTS]))

    def lost(self, sent: InFlight, possible_cost: Decimal | None) -> Entry:
        """An attempt that was under way when the process ended: nobody knows whether it was billed."""
        known: dict[str, object] = {
            "run_id": self.run_id,
            "job": self.job,
            "item_id": sent.item_id,
            "attempt": sent.number,
            "carrier": "sync",
            "sent_at": sent.sent_at,
            "state": "possibly_billed",
            "possible_cost": _text(possible_cost),
            "error_class": "Lost",
            "endpoint": sent.endpoint,
            "model": sent.model,
            "dialect": sent.dialect,
        }
        return Entry([tuple([known.get(name) for name in ATTEMPTS])], [], None)

    def _attempts(
        self, item_id: str, attempts: Sequence[Attempt], possible_cost: Decimal | None
    ) -> tuple[list[Row], list[Row]]:
        rows: list[Row] = []
        costs: list[Row] = []
        for attempt in attempts:
            reply = attempt.reply
            usage = reply.usage if reply else None
            done_at = micros(attempt.done_at)
            rows.append(
                (
                    self.run_id,
                    self.job,
                    item_id,
                    attempt.number,
                    "sync",
                    reply.reply_id if reply else None,
                    micros(attempt.sent_at),
                    done_at,
                    attempt.state,
                    _text(possible_cost) if attempt.state == "possibly_billed" else None,
                    _text(reply.reported_cost) if reply else None,
                    attempt.http_status,
                    attempt.error.error_class if attempt.error else None,
                    attempt.request_id,
                    attempt.endpoint,
                    attempt.model,
                    attempt.dialect,
                    usage.raw if usage else None,
                    attempt.error.said if attempt.error else None,
                )
            )
            for charge in attempt.charges:
                count = charge.count
                costs.append(
                    (
                        self.run_id,
                        self.job,
                        item_id,
                        attempt.number,
                        done_at,
                        attempt.model,
                        attempt.endpoint,
                        count.modality,
                        count.direction,
                        count.kind,
                        count.tokens,
                        _text(charge.price_per_mtok),
                        _text(charge.cost),
                        charge.currency,
                        count.provenance,
                        charge.price_source,
                    )
                )
        return rows, costs

    def _outcome(self, outcome: Outcome, tries: Tries) -> Row:
        item, error = outcome.item, outcome.error
        last = outcome.last
        reply = last.reply
        usage = reply.usage if reply else None
        done_at = micros(last.done_at)
        urls = [storable(media.url) for media in item.request.media]
        return (
            self.run_id,
            self.job,
            item.id,
            outcome.request_key,
            item.row,
            "ok" if error is None else "failed",
            reply.text if reply else None,
            reply.finish_reason if reply else None,
            item.request.model,
            reply.model if reply else None,
            last.endpoint,
            reply.reply_id if reply else None,
            tries.attempts,
            error.error_class if error else None,
            str(error) if error else None,
            last.http_status,
            usage.prompt_tokens if usage else None,
            usage.completion_tokens if usage else None,
            usage.total_tokens if usage else None,
            _text(tries.cost),
            _text(tries.cost_low),
            _text(tries.cost_high),
            tries.currency,
            tries.unpriced_tokens,
            _media(item.request, urls, outcome.seen),
            None,
            tries.started_at,
            done_at,
            (last.done_at - last.sent_at).total_seconds(),
            _request_json(item.request, urls),
            _unseen(item.request, outcome.seen),
        )


@dataclass(slots=True)
class Part:
    """Entries that stand in the store together."""

    attempts: list[Row] = field(default_factory=list)
    costs: list[Row] = field(default_factory=list)
    results: list[Row] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        self.attempts.extend(entry.attempts)
        self.costs.extend(entry.costs)
        if entry.result is not None:
            self.results.append(entry.result)

    def extend(self, later: Part) -> None:
        self.attempts.extend(later.attempts)
        self.costs.extend(later.costs)
        self.results.extend(later.results)

    def frames(self) -> dict[str, pl.DataFrame]:
        """The datasets that have rows, in the order in which they are written: results come last, so
        that whoever sees an answer sees its bill."""
        return {
            name: frame_of(rows, schema)
            for name, rows, schema in (
                ("attempts", self.attempts, ATTEMPTS),
                ("costs", self.costs, COSTS),
                ("results", self.results, RESULTS),
            )
            if rows
        }


def _request_json(request: Request, urls: Sequence[str]) -> str:
    """The request as `show` and `reprocess` read it: no signatures, no inline content, no secrets. A schema
    by its digest; run.json has it."""
    told: dict[str, object] = {
        "model": request.model,
        "prompt": request.prompt,
        "parameters": dict(request.parameters),
        "media": [
            {"modality": media.modality, "url": url, "key": media.key}
            for media, url in zip(request.media, urls, strict=True)
        ],
    }
    if request.system is not None:
        told["system"] = request.system
    if request.schema is not None:
        told["schema"] = request.schema.digest
    if request.image_max_px is not None:
        told["image_max_px"] = request.image_max_px
    return orjson.dumps(told).decode()


def _unseen(request: Request, seen: Sequence[Seen]) -> str | None:
    if "no" not in seen:
        return None
    missing = [media.modality for media, saw in zip(request.media, seen, strict=True) if saw == "no"]
    return "+".join(dict.fromkeys(missing))


def _media(request: Request, urls: Sequence[str], seen: Sequence[Seen]) -> tuple[tuple[str, str, Seen], ...]:
    return tuple(
        [(media.modality, url, saw) for media, url, saw in zip(request.media, urls, seen, strict=True)]
    )


def micros(instant: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return int(instant.timestamp()) * 1_000_000 + instant.microsecond


def _text(amount: Decimal | None) -> str | None:
    if amount is None:
        return None
    text = str(amount)
    return f"{amount:f}" if "E" in text else text  # slower, and seldom needed


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def frame_of(rows: Sequence[Row], schema: pl.Schema) -> pl.DataFrame:
    """Rows of primitives → a frame of exactly this schema."""
    columns: Iterable[Sequence[object]] = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pl.DataFrame(
        [_column(name, values, dtype) for (name, dtype), values in zip(schema.items(), columns, strict=True)]
    )


def _column(name: str, values: Sequence[object], dtype: pl.DataType) -> pl.Series:
    if dtype == MEDIA:
        return _media_column(name, values)
    if dtype == INSTANT:
        return pl.Series(name, values, dtype=pl.Int64).cast(dtype)
    if dtype in (COST, PRICE):
        return pl.Series(name, values, dtype=pl.String).cast(dtype)
    return pl.Series(name, values, dtype=dtype)


def _media_column(name: str, values: Sequence[object]) -> pl.Series:
    # Built flat and grouped: sixty times as fast as from nested Python values.
    lengths = [len(one) for one in values]  # type: ignore[arg-type] # rows of this column hold lists
    flat: list[object] = list(chain.from_iterable(values))  # type: ignore[arg-type]
    places = pl.int_range(len(values), eager=True).repeat_by(pl.Series(lengths, dtype=pl.UInt32)).explode()
    grouped = (
        pl.DataFrame(flat, schema={"modality": pl.String, "url": pl.String, "seen": pl.String}, orient="row")
        .with_columns(place=places.drop_nulls())
        .group_by("place", maintain_order=True)
        .agg(pl.struct("modality", "url", "seen").alias(name))
    )
    every = pl.DataFrame({"place": pl.int_range(len(values), eager=True)})
    column = every.join(grouped, on="place", how="left", maintain_order="left")[name]
    return column.fill_null(pl.Series([[]], dtype=MEDIA)).cast(MEDIA)
