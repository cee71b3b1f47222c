"""Valid answers → one typed column, its type made from the schema alone."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from pipeline.typed.columns import parsed_column, typed
from pipeline.typed.flattening import flattened
from pipeline.typed.schema import AnswerSchema

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["a", "b"]},
        "price": {"type": "number"},
        "count": {"type": "integer"},
        "is_new": {"type": "boolean"},
        "note": {"type": ["string", "null"]},
        "parts": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        "free": {"type": "object"},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "amount": {"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]},
        "anything": {},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
DTYPE = pl.Struct(
    {
        "kind": pl.String,
        "price": pl.Float64,
        "count": pl.Int64,
        "is_new": pl.Boolean,
        "note": pl.String,
        "parts": pl.List(pl.Struct({"n": pl.Int64})),
        "free": pl.String,
        "either": pl.String,
        "amount": pl.Float64,
        "anything": pl.String,
        "tags": pl.List(pl.String),
    }
)
FULL = {
    "kind": "a",
    "price": 3,
    "count": 4.0,
    "is_new": True,
    "note": None,
    "parts": [{"n": 1}, {}],
    "free": {"x": [1]},
    "either": 5,
    "amount": 6,
    "anything": [None],
    "tags": ["t"],
}


def column(schema: dict[str, Any], *answers: object) -> pl.Series:
    texts = [one if isinstance(one, str) else json.dumps(one) for one in answers]
    return parsed_column(["ok"] * len(texts), texts, AnswerSchema.of(schema))


def test_every_kind_of_value_has_its_type():
    assert typed(flattened(SCHEMA))[0] == DTYPE
    made = column(SCHEMA, FULL)
    assert made.name == "parsed"
    assert made.dtype == DTYPE
    assert made.to_list() == [
        {
            "kind": "a",
            "price": 3.0,
            "count": 4,
            "is_new": True,
            "note": None,
            "parts": [{"n": 1}, {"n": None}],
            "free": '{"x":[1]}',
            "either": "5",
            "amount": 6.0,
            "anything": "[null]",
            "tags": ["t"],
        }
    ]


@pytest.mark.parametrize("answers", [[], [{}], [FULL, {}], ["no JSON"]])
def test_the_type_is_the_same_whatever_was_answered(answers: list[object]):
    assert column(SCHEMA, *answers).dtype == DTYPE


def test_what_failed_has_no_value_even_where_its_text_would_have_one():
    made = parsed_column(
        ["failed", "ok", "ok"], ['{"count": 1}', '{"count": 1}', None], AnswerSchema.of(SCHEMA)
    )
    assert [one and one["count"] for one in made] == [None, 1, None]


def test_a_number_past_64_bits_is_null():
    assert column({"type": "integer"}, str(2**63), str(2**63 - 1)).to_list() == [None, 2**63 - 1]


@pytest.mark.parametrize(
    ("schema", "dtype"),
    [
        ({"type": "array", "items": {"type": "number"}}, pl.List(pl.Float64)),
        ({"type": "string"}, pl.String),
        ({"type": "object"}, pl.String),
        ({"type": "array"}, pl.String),
        ({"type": "null"}, pl.String),
        ({"type": "object", "properties": {}}, pl.String),
        ({"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "boolean"}}]}, pl.List(pl.Boolean)),
    ],
)
def test_an_answer_need_not_be_an_object(schema: dict[str, Any], dtype: pl.DataType):
    assert column(schema).dtype == dtype


def test_a_part_with_a_column_without_values_is_written_and_read(tmp_path):
    frame = pl.DataFrame([column(SCHEMA, "no JSON")])
    frame.write_parquet(tmp_path / "a.parquet")
    assert pl.read_parquet(tmp_path / "a.parquet").schema == {"parsed": DTYPE}
