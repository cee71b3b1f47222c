"""Under a schema the embedded endpoint answers with a value that keeps to it, or goes wrong as told."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.embedded.faults import SCHEMA_FAULTS, SchemaFault, spoilt
from pipeline.embedded.instances import instance_of
from pipeline.embedded.refusals import Refusal
from pipeline.typed.answers import read
from pipeline.typed.schema import AnswerSchema

OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["a", "b", "c"]},
        "price": {"type": "number", "exclusiveMinimum": 10, "maximum": 12},
        "count": {"type": "integer", "minimum": 3},
        "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "dozen": {"type": "integer", "multipleOf": 12},
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "mail": {"type": ["string", "null"], "format": "email"},
        "size": {"enum": [1, 2, 3]},
        "name": {"type": "string", "minLength": 30, "maxLength": 40},
        "code": {"type": "string", "maxLength": 3},
        "is_new": {"type": "boolean"},
        "nothing": {"type": "null"},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}, "minItems": 3},
        "few": {"type": "array", "items": {"type": "string"}, "maxItems": 1},
        "free": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "additionalProperties": False,
    "$defs": {"Part": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
}
OBJECT["required"] = list(OBJECT["properties"])
SCHEMA = AnswerSchema.of(OBJECT)


@pytest.mark.parametrize("document", [OBJECT, SCHEMA.flat], ids=["as written", "as it is sent"])
@pytest.mark.parametrize("question", ["What?", "这是什么？", "\ud800"])
def test_an_instance_keeps_to_its_schema(document: object, question: str):
    value = instance_of(document, question)
    assert SCHEMA.fault_of(value) is None
    assert value == instance_of(document, question)


def test_questions_differ_in_their_answers():
    assert {instance_of(OBJECT, str(n))["kind"] for n in range(20)} == {"a", "b", "c"}


@pytest.mark.parametrize("document", ["a", {"$ref": "#/gone"}])
def test_what_is_no_schema_is_refused(document: object):
    with pytest.raises(Refusal):
        instance_of(document, "What?")


@pytest.mark.parametrize("fault", SCHEMA_FAULTS)
def test_a_fault_is_one_until_it_is_named(fault: SchemaFault):
    """Prose is the server's to tell; what is fenced or among words can be read."""
    text, is_cut = spoilt(instance_of(OBJECT, "What?"), fault, is_first=True)
    is_wrong = fault in ("cut", "wrong-type")
    assert (read(text, SCHEMA).fault is not None) == is_wrong
    assert is_cut == (fault == "cut")
    text, is_cut = spoilt(instance_of(OBJECT, "What?"), fault, is_first=False)
    assert read(text, SCHEMA).fault is None
    assert not is_cut
