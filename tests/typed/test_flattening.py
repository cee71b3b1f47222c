"""Any JSON Schema → the flat form that gateways pass on."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import SchemaError
from pipeline.typed.flattening import flattened

TEXT = {"type": "string"}
NULL = {"type": "null"}


def test_references_are_put_in_their_places_and_titles_are_gone():
    document = {
        "title": "Shelf",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"books": {"type": "array", "items": {"$ref": "#/$defs/Book"}, "title": "Books"}},
        "required": ["books"],
        "additionalProperties": False,
        "$defs": {
            "Book": {"title": "Book", "type": "object", "properties": {"name": {"$ref": "#/$defs/Name"}}},
            "Name": {"type": "string", "title": "Name"},
        },
    }
    assert flattened(document) == {
        "type": "object",
        "properties": {
            "books": {"type": "array", "items": {"type": "object", "properties": {"name": TEXT}}},
        },
        "required": ["books"],
    }


@pytest.mark.parametrize(
    ("told", "flat"),
    [
        ({"type": ["string", "null"]}, {"anyOf": [TEXT, NULL]}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "title": "T"}, {"anyOf": [TEXT, NULL]}),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": [TEXT, {"type": "integer"}]}),
        ({"anyOf": [{"type": ["string", "null"]}, {"type": "null"}]}, {"anyOf": [TEXT, NULL]}),
        ({"type": ["string"]}, TEXT),
        ({"const": "yes"}, {"type": "string", "enum": ["yes"]}),
        ({"enum": ["a", None]}, {"anyOf": [{"type": "string", "enum": ["a"]}, NULL]}),
        ({"enum": [1, 2]}, {"type": "integer", "description": "(one of 1, 2)"}),
        ({"enum": [1, 2.5]}, {"type": "number", "description": "(one of 1, 2.5)"}),
        (
            {"type": "string", "format": "date", "description": "When."},
            {"type": "string", "description": "When. (format: date)"},
        ),
        ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        (
            {"type": "number", "exclusiveMinimum": 0, "maximum": 9},
            {"type": "number", "maximum": 9, "description": "(more than 0)"},
        ),
        ({"allOf": [{"type": "string"}, {"minLength": 2}]}, {"type": "string", "minLength": 2}),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            {"type": "object", "description": '(any keys, with values of this schema: {"type":"integer"})'},
        ),
        (
            {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
            {"type": "array", "items": {"anyOf": [TEXT, {"type": "integer"}]}},
        ),
        ({"type": "array", "items": True}, {"type": "array"}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "string"}}}, TEXT),
        ({"$ref": "#name", "$defs": {"x": {"$anchor": "name", "type": "string"}}}, TEXT),
        (
            {
                "$ref": "#/$defs/x",
                "description": "Mine.",
                "$defs": {"x": {"type": "string", "description": "Its."}},
            },
            {"type": "string", "description": "Mine."},
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_node_has_one_type_or_several_ways(told: dict[str, Any], flat: dict[str, Any]):
    assert flattened(told) == flat


def test_a_reference_inside_itself_ends_as_a_bare_type():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    assert flattened({"$ref": "#/$defs/Node", "$defs": {"Node": node}}) == {
        "type": "object",
        "properties": {"next": {"type": "object"}},
    }


def test_a_schema_that_would_grow_past_all_use_is_refused():
    """Each of 14 levels refers to the next three times: 3^14 parts."""
    levels = {
        f"l{n}": {
            "type": "object",
            "properties": {name: {"$ref": f"#/$defs/l{n + 1}"} for name in "abc"},
        }
        for n in range(14)
    }
    with pytest.raises(SchemaError, match="more than 5,000 parts"):
        flattened({"$ref": "#/$defs/l0", "$defs": {**levels, "l14": {"type": "string"}}})


@pytest.mark.parametrize(
    ("ref", "told"),
    [("#/$defs/gone", "leads nowhere"), ("https://h.example/s.json", "leads out of the schema")],
)
def test_a_reference_that_leads_nowhere_or_out_is_told(ref: str, told: str):
    with pytest.raises(SchemaError, match=told):
        flattened({"properties": {"a": {"$ref": ref}}})
