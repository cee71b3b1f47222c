"""An answer's text → the JSON value that was asked for, or what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.typed.answers import read
from pipeline.typed.schema import AnswerSchema

PRICE = AnswerSchema.of(
    {
        "type": "object",
        "properties": {"price": {"type": "number"}, "seen": {"type": "array", "items": {"type": "object"}}},
    }
)
"""Nothing is required: pieces of a wrong answer would be valid."""
LIST = AnswerSchema.of({"type": "array", "items": {"type": "integer"}})
GOOD = {"price": 12.5}


@pytest.mark.parametrize(
    "text",
    [
        '{"price": 12.5}',
        ' \n{"price": 12.5}\n',
        '```json\n{"price": 12.5}\n```',
        '```\n{"price": 12.5}\n```',
        'Here it is: {"price": 12.5} - as you wished [1].',
        'In {braces} first, then {"price": 12.5}',
        'First {"price": "12"}, or rather {"price": 12.5}.',
        '<think>perhaps {"price": 3}?</think>{"price": 12.5}',
        '\ufeff{"price": 12.5}',
    ],
)
def test_the_first_complete_value_that_is_valid_is_the_answer(text: str):
    assert read(text, PRICE) == (GOOD, None)


def test_a_line_end_in_a_text_is_taken_as_it_is():
    schema = AnswerSchema.of({"type": "object", "properties": {"a": {"type": "string"}}})
    assert read('{"a": "one\ntwo"}', schema).value == {"a": "one\ntwo"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it is empty"),
        ("A cat.", "there is no JSON in it"),
        ('{"price": "12"}', 'price: "12" is not of type "number"'),
        ('{"price": "12", "seen": [{}]}', 'price: "12" is not of type "number"'),
        ('So: {"price": "12", "seen": [{}]}!', 'price: "12" is not of type "number"'),
        ('{"seen": [{"a": 1}, {"b": ', "it ends in the middle of its JSON"),
        ('{"seen": [{"a": 1}, {"b": "tw', "it ends in the middle of its JSON"),
        ('```json\n{"seen": [{"a": 1}', "it ends in the middle of its JSON"),
        ('{"seen": [{"a": 1},]}', "its JSON is broken"),
        ("{'price': 12}", "there is no JSON in it"),
        ('[{"price": 1}]', "is not of type"),
        ('{"price": NaN}', "holds what is no JSON"),
        ("[" * 100_000, "there is no JSON in it"),
        ('{"a":' * 100_000, "nested too deep"),
    ],
    ids=lambda value: value[:30],
)
def test_a_piece_of_a_wrong_answer_is_no_answer(text: str, fault: str):
    found = read(text, PRICE)
    assert found.fault is not None
    assert fault in found.fault


def test_a_list_is_looked_for_where_a_list_is_asked():
    assert read("So: [1, 2]", LIST).value == [1, 2]
    assert read("[1, 2", LIST).fault is not None


@pytest.mark.parametrize("text", ["7", "```\n7\n```", " 7 "])
def test_a_single_value_is_the_whole_answer(text: str):
    assert read(text, AnswerSchema.of({"type": "integer"})).value == 7
    assert read(f"It is {text} of them", AnswerSchema.of({"type": "integer"})).fault == "it is no JSON"


def test_half_a_character_is_no_answer():
    assert "half a character" in str(read('x {"a": "\\ud83d"}', PRICE).fault)


def test_only_the_first_few_faults_are_told():
    schema = AnswerSchema.of({"type": "object", "required": list("abcdef")})
    told = [f'"{name}" is a required property' for name in "abc"]
    assert read("{}", schema).fault == "; ".join(told)


leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
objects = st.dictionaries(st.text(max_size=3), leaves | st.lists(leaves, max_size=3), max_size=3)
ANYTHING = AnswerSchema.of({"type": "object"})


@given(objects)
def test_any_object_is_found_among_words_as_it_is(value: dict[str, Any]):
    text = json.dumps(value)
    for around in ("{}", "```json\n{}\n```", "Well: {} - so."):
        found = read(around.replace("{}", text), ANYTHING)
        assert found == (json.loads(text), None)


@given(st.text(alphabet='{}[]",:a1 \\n`', max_size=60))
def test_no_text_is_too_odd(text: str):
    found = read(text, ANYTHING)
    assert (found.fault is None) == (type(found.value) is dict and ANYTHING.fault_of(found.value) is None)
