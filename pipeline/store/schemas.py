"""The columns of the datasets, in order. A new column goes to the end; readers tolerate its absence."""

from __future__ import annotations

import polars as pl

INSTANT = pl.Datetime("us", "UTC")
COST = pl.Decimal(38, 12)
PRICE = pl.Decimal(18, 6)
MEDIA = pl.List(pl.Struct({"modality": pl.String, "url": pl.String, "seen": pl.String}))

RESULTS = pl.Schema(
    {
        "run_id": pl.String(),
        "job": pl.String(),
        "item_id": pl.String(),
        "request_key": pl.String(),
        "row": pl.Int64(),
        "status": pl.String(),
        "text": pl.String(),
        "finish_reason": pl.String(),
        "model_requested": pl.String(),
        "model": pl.String(),
        "endpoint": pl.String(),
        "reply_id": pl.String(),
        "attempts": pl.Int64(),
        "error_class": pl.String(),
        "error_message": pl.String(),
        "http_status": pl.Int64(),
        "prompt_tokens": pl.Int64(),
        "completion_tokens": pl.Int64(),
        "total_tokens": pl.Int64(),
        "cost": COST,
        "cost_low": COST,
        "cost_high": COST,
        "currency": pl.String(),
        "unpriced_tokens": pl.Int64(),
        "media": MEDIA,
        "duplicate_of": pl.String(),
        "started_at": INSTANT,
        "finished_at": INSTANT,
        "latency_s": pl.Float64(),
        "request_json": pl.String(),
        # Modalities that were sent, and that usage says were not seen, as ``audio+video``; null where none.
        "unseen": pl.String(),
    }
)

COSTS = pl.Schema(
    {
        "run_id": pl.String(),
        "job": pl.String(),
        "item_id": pl.String(),
        "attempt": pl.Int64(),
        "at": INSTANT,
        "model": pl.String(),
        "endpoint": pl.String(),
        "modality": pl.String(),
        "direction": pl.String(),
        "kind": pl.String(),
        "tokens": pl.Int64(),
        "price_per_mtok": PRICE,
        "cost": COST,
        "currency": pl.String(),
        "provenance": pl.String(),
        "price_source": pl.String(),
    }
)

ATTEMPTS = pl.Schema(
    {
        "run_id": pl.String(),
        "job": pl.String(),
        "item_id": pl.String(),
        "attempt": pl.Int64(),
        "carrier": pl.String(),
        "remote_id": pl.String(),
        "sent_at": INSTANT,
        "done_at": INSTANT,
        "state": pl.String(),
        "possible_cost": COST,
        "reported_cost": COST,
        "http_status": pl.Int64(),
        "error_class": pl.String(),
        "request_id": pl.String(),
        "endpoint": pl.String(),
        "model": pl.String(),
        "dialect": pl.String(),
        "usage_json": pl.String(),
        "error_body": pl.String(),
    }
)

REST = pl.Schema(
    {
        "run_id": pl.String(),
        "job": pl.String(),
        "item_id": pl.String(),
        "row": pl.Int64(),
        "status": pl.String(),
        "answered_by_run_id": pl.String(),
    }
)

SCHEMAS = {"results": RESULTS, "costs": COSTS, "attempts": ATTEMPTS, "rest": REST}
