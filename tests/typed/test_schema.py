"""A schema as a run needs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SchemaError
from pipeline.typed.schema import AnswerSchema
from pipeline.typed.sources import read_schema

COLOUR: dict[str, Any] = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}}


def test_what_is_sent_is_the_flat_form_under_a_name():
    assert json.loads(AnswerSchema.of({**COLOUR, "title": "T"}).response_format) == {
        "type": "json_schema",
        "json_schema": {
            "name": "answer",
            "schema": {
                "type": "object",
                "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
            },
        },
    }


def test_a_schema_is_known_by_its_document():
    assert AnswerSchema.of(COLOUR) == AnswerSchema.of(dict(COLOUR))
    assert AnswerSchema.of(COLOUR) != AnswerSchema.of({**COLOUR, "required": ["colour"]})


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "that is a JSON object"),
        ({"type": "strin"}, "no valid JSON Schema"),
        ({"properties": 3}, "no valid JSON Schema"),
        ({"pattern": "("}, "no valid JSON Schema"),
        ({"$ref": "#/$defs/a"}, "leads nowhere"),
        ({"not": {"$ref": "https://h.example/x.json"}}, "no valid JSON Schema"),
        ({"not": {"$ref": "file:///etc/passwd"}}, "no valid JSON Schema"),
    ],
)
def test_what_is_no_schema_is_refused(document: object, told: str):
    with pytest.raises(SchemaError, match=told):
        AnswerSchema.of(document)


def test_the_draft_is_the_schemas_own():
    """Draft 4 says by true, the later ones by a number, that a bound is left out."""
    four = AnswerSchema.of(
        {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True}
    )
    assert four.fault_of(1) is not None
    assert AnswerSchema.of({"exclusiveMinimum": 1}).fault_of(1) is not None


def test_formats_count():
    assert AnswerSchema.of({"type": "string", "format": "date"}).fault_of("yesterday") is not None


def test_a_fault_says_where():
    schema = AnswerSchema.of({"properties": {"a": {"items": {"required": ["b"]}}}})
    assert schema.fault_of({"a": [{"b": 1}, {}]}) == 'a[1]: "b" is a required property'


def test_a_schema_comes_from_a_file(tmp_path: Path):
    path = tmp_path / "colour.json"
    path.write_text("\ufeff" + json.dumps(COLOUR), "utf-8")
    assert read_schema(str(path)) == AnswerSchema.of(COLOUR)


def test_a_schema_comes_from_a_pydantic_model_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "shop_models.py").write_text(
        "from pydantic import BaseModel, TypeAdapter\n"
        "class Part(BaseModel):\n    n: int\n"
        "class Product(BaseModel):\n    name: str\n    note: str | None = None\n    parts: list[Part]\n"
        "Products = TypeAdapter(list[Product])\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    schema = read_schema("shop_models:Product")
    assert sys.path == before
    assert schema.fault_of({"name": "a", "parts": [{"n": 1}]}) is None
    assert schema.flat["properties"]["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert read_schema("shop_models:Products").flat["type"] == "array"


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("no/such.json", "cannot be read"),
        ("no_such_module:Model", "there is no module 'no_such_module'"),
        ("json:Model", "has no Model"),
        ("json:dumps", "is no pydantic model"),
    ],
)
def test_what_is_no_source_is_told(told: str, why: str):
    with pytest.raises(SchemaError, match=why) as caught:
        read_schema(told)
    assert str(caught.value).startswith(f"--schema {told}: ")
