"""Records → frames of the datasets' schemas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import polars as pl

from pipeline.media.urls import storable
from pipeline.pricing import total
from pipeline.records import Attempt, BadRow, Item, NotAttempted, Outcome, Request
from pipeline.store.schemas import ATTEMPTS, COSTS, MEDIA, REST, RESULTS

Row = tuple[object, ...]


@dataclass(slots=True)
class Part:
    """Rows of the datasets that belong together, gathered item by item."""

    run_id: str
    job: str
    endpoint_of_bad_rows: str | None  # `embedded` in a rehearsal, whose rows never count; else unknown
    results: list[Row] = field(default_factory=list)
    costs: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    rest: list[Row] = field(default_factory=list)

    def add(self, ended: Outcome | BadRow | NotAttempted) -> None:
        if isinstance(ended, Outcome):
            self.results.append(self._outcome(ended))
            self._add_attempts(ended.item.id, ended.attempts)
        elif isinstance(ended, BadRow):
            self.results.append(self._bad_row(ended))
        else:
            self.rest.append((self.run_id, self.job, ended.id, ended.row, "not_attempted", None))
            self._add_attempts(ended.id, ended.attempts)

    def append(self, later: Part) -> None:
        self.results += later.results
        self.costs += later.costs
        self.attempts += later.attempts
        self.rest += later.rest

    def frames(self) -> dict[str, pl.DataFrame]:
        """The datasets that have rows, in the order in which they are written: results come last, so
        that whoever sees an answer sees its bill."""
        return {
            name: _frame(rows, schema)
            for name, rows, schema in (
                ("attempts", self.attempts, ATTEMPTS),
                ("costs", self.costs, COSTS),
                ("results", self.results, RESULTS),
            )
            if rows
        }

    def rest_frame(self) -> pl.DataFrame:
        return _frame(self.rest, REST)

    def _add_attempts(self, item_id: str, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            reply = attempt.reply
            usage = reply.usage if reply else None
            self.attempts.append(
                (
                    self.run_id,
                    self.job,
                    item_id,
                    attempt.number,
                    "sync",
                    reply.reply_id if reply else None,
                    attempt.sent_at,
                    attempt.done_at,
                    attempt.state,
                    None,
                    reply.reported_cost if reply else None,
                    attempt.http_status,
                    attempt.error.error_class if attempt.error else None,
                    attempt.request_id,
                    attempt.endpoint,
                    attempt.model,
                    attempt.dialect,
                    usage.raw if usage else None,
                )
            )
            for charge in attempt.charges:
                count = charge.count
                self.costs.append(
                    (
                        self.run_id,
                        self.job,
                        item_id,
                        attempt.number,
                        attempt.done_at,
                        attempt.model,
                        attempt.endpoint,
                        count.modality,
                        count.direction,
                        count.kind,
                        count.tokens,
                        charge.price_per_mtok,
                        charge.cost,
                        charge.currency,
                        count.provenance,
                        charge.price_source,
                    )
                )

    def _outcome(self, outcome: Outcome) -> Row:
        item, attempts, error = outcome.item, outcome.attempts, outcome.error
        last = attempts[-1]
        reply = last.reply
        usage = reply.usage if reply else None
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
            len(attempts),
            error.error_class if error else None,
            str(error) if error else None,
            last.http_status,
            usage.prompt_tokens if usage else None,
            usage.completion_tokens if usage else None,
            usage.total_tokens if usage else None,
            *_costs(attempts),
            _media(item, outcome),
            None,
            attempts[0].sent_at,
            last.done_at,
            (last.done_at - last.sent_at).total_seconds(),
            request_json(item.request),
        )

    def _bad_row(self, bad: BadRow) -> Row:
        now = datetime.now(UTC)
        known: dict[str, object] = {
            "run_id": self.run_id,
            "job": self.job,
            "item_id": bad.id,
            "row": bad.row,
            "status": "failed",
            "endpoint": self.endpoint_of_bad_rows,
            "attempts": 0,
            "error_class": bad.error.error_class,
            "error_message": str(bad.error),
            "unpriced_tokens": 0,
            "media": (),
            "started_at": now,
            "finished_at": now,
        }
        return tuple(known.get(name) for name in RESULTS)


def request_json(request: Request) -> str:
    """The request as `show` and `reprocess` read it: no signatures, no inline content, no secrets."""
    return orjson.dumps(
        {
            "model": request.model,
            "prompt": request.prompt,
            "parameters": dict(request.parameters),
            "media": [
                {"modality": media.modality, "url": storable(media.url), "key": media.key}
                for media in request.media
            ],
        }
    ).decode()


def _costs(
    attempts: Sequence[Attempt],
) -> tuple[Decimal | None, Decimal | None, Decimal | None, str | None, int]:
    """cost, cost_low, cost_high, currency, unpriced_tokens over all attempts of an item."""
    unpriced_tokens = 0
    currency = None
    for attempt in attempts:
        for charge in attempt.charges:
            if charge.cost is None:
                unpriced_tokens += charge.count.tokens
            else:
                currency = charge.currency
    paid = [attempt for attempt in attempts if attempt.cost is not None]
    if len(paid) == 1:
        return paid[0].cost, paid[0].cost_low, paid[0].cost_high, currency, unpriced_tokens
    lows = [attempt.cost_low for attempt in paid]
    highs = [attempt.cost_high for attempt in paid]
    return (
        total(attempt.cost for attempt in paid),
        None if None in lows else total(lows),
        None if None in highs else total(highs),
        currency,
        unpriced_tokens,
    )


def _media(item: Item, outcome: Outcome) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        [
            (media.modality, storable(media.url), seen)
            for media, seen in zip(item.request.media, outcome.seen, strict=True)
        ]
    )


def _frame(rows: list[Row], schema: pl.Schema) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pl.DataFrame(
        [
            _media_column(name, values) if dtype == MEDIA else pl.Series(name, values, dtype=dtype)
            for (name, dtype), values in zip(schema.items(), columns, strict=True)
        ]
    )


def _media_column(name: str, values: Sequence[tuple[tuple[str, str, str], ...]]) -> pl.Series:
    # Built flat and grouped: sixty times as fast as from nested Python values.
    flat = [(place, *media) for place, one in enumerate(values) for media in one]
    places = pl.DataFrame({"place": range(len(values))}, schema={"place": pl.Int64})
    grouped = (
        pl.DataFrame(
            flat,
            schema={"place": pl.Int64, "modality": pl.String, "url": pl.String, "seen": pl.String},
            orient="row",
        )
        .group_by("place", maintain_order=True)
        .agg(pl.struct("modality", "url", "seen").alias(name))
    )
    column = places.join(grouped, on="place", how="left", maintain_order="left")[name]
    return column.fill_null(pl.Series([[]], dtype=MEDIA)).cast(MEDIA)
