"""The datasets, column for column, as the design lists them: other programs rely on it."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.store.schemas import SCHEMAS

CONTRACT = {
    "results": """
        run_id String, job String, item_id String, request_key String, row Int64, status String, text String,
        finish_reason String, model_requested String, model String, endpoint String, reply_id String,
        attempts Int64, error_class String, error_message String, http_status Int64, prompt_tokens Int64,
        completion_tokens Int64, total_tokens Int64, cost Decimal(38,12), cost_low Decimal(38,12),
        cost_high Decimal(38,12), currency String, unpriced_tokens Int64, media Media, duplicate_of String,
        started_at Instant, finished_at Instant, latency_s Float64, request_json String""",
    "costs": """
        run_id String, job String, item_id String, attempt Int64, at Instant, model String, endpoint String,
        modality String, direction String, kind String, tokens Int64, price_per_mtok Decimal(18,6),
        cost Decimal(38,12), currency String, provenance String, price_source String""",
    "attempts": """
        run_id String, job String, item_id String, attempt Int64, carrier String, remote_id String,
        sent_at Instant, done_at Instant, state String, possible_cost Decimal(38,12),
        reported_cost Decimal(38,12), http_status Int64, error_class String, request_id String,
        endpoint String, model String, dialect String, usage_json String""",
    "rest": """
        run_id String, job String, item_id String, row Int64, status String, answered_by_run_id String""",
}
TYPES = {
    "String": pl.String(),
    "Int64": pl.Int64(),
    "Float64": pl.Float64(),
    "Decimal(38,12)": pl.Decimal(38, 12),
    "Decimal(18,6)": pl.Decimal(18, 6),
    "Instant": pl.Datetime("us", "UTC"),
    "Media": pl.List(pl.Struct({"modality": pl.String, "url": pl.String, "seen": pl.String})),
}


ADDED = {"results": [("unseen", pl.String())], "attempts": [("error_body", pl.String())]}
"""Columns of ours, at the end, where the contract allows them."""


def contract(dataset: str) -> list[tuple[str, pl.DataType]]:
    columns = [column.split() for column in CONTRACT[dataset].replace("\n", " ").split(", ")]
    return [(name, TYPES[kind]) for name, kind in columns]


@pytest.mark.parametrize("dataset", CONTRACT)
def test_a_dataset_has_the_columns_of_the_contract_in_their_order(dataset: str):
    added = ADDED.get(dataset, [])
    assert list(SCHEMAS[dataset].items()) == [*contract(dataset), *added]


def test_there_is_no_other_dataset():
    assert SCHEMAS.keys() == CONTRACT.keys()


@pytest.mark.parametrize("dataset", CONTRACT)
def test_the_path_keys_are_no_columns(dataset: str):
    assert not {"date", "run"} & SCHEMAS[dataset].keys()
