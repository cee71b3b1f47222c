"""Prompts that are templates over a manifest row's cells."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pipeline.errors import PromptError
from pipeline.templates import Template, as_template, is_template

COLUMNS = ("id", "title", "lang", "the price")


def filled(text: str, **cells: Any) -> str:
    return Template(text, "--prompt").fill_in(cells)


@pytest.mark.parametrize(
    ("text", "cells", "prompt"),
    [
        ("See {{ title }}.", {"title": "a mug"}, "See a mug."),
        ("{{ title }} < {{ title }}", {"title": "a & b"}, "a & b < a & b"),
        ("{% if lang %}In {{ lang }}: {% endif %}what?", {"lang": None}, "what?"),
        ("“{{ title }}”", {"title": None}, "“”"),
        ("{{ title or 'it' }}", {"title": None}, "it"),
        ("{{ row['the price'] }}", {"the price": 3}, "3"),
        ("{{ row.title }}", {"title": "a"}, "a"),
        ("{{ row }}", {"row": "mine"}, "mine"),
        ("{% for tag in tags %}{{ tag }};{% endfor %}", {"tags": ["a", "b"]}, "a;b;"),
        ("{{ size.w }}", {"size": {"w": 2}}, "2"),
        ("{% raw %}{{ as it stands }}{% endraw %}", {}, "{{ as it stands }}"),
        ("请用{{ lang }}回答{# a note #}", {"lang": "中文"}, "请用中文回答"),
    ],
)
def test_a_template_is_filled_in_from_a_row(text: str, cells: dict[str, Any], prompt: str):
    assert filled(text, **cells) == prompt


@pytest.mark.parametrize("text", ["Plain.", 'JSON: {"a": {"b": 1}}', "100 % {sure}"])
def test_a_plain_text_is_what_it_is(text: str):
    assert not is_template(text)
    assert as_template(text, "--prompt") is text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("one\n{{ title", "line 2: the template is broken"),
        ("{{ title | upperr }}", "No filter named 'upperr'"),
        ("{% if title %}", "the template is broken"),
        ("{% include 'other' %}", "the template includes another"),
    ],
)
def test_a_broken_template_is_told_with_its_line(text: str, told: str):
    with pytest.raises(PromptError, match=told):
        Template(text, "--prompt")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\n{{ titel }}", "line 2: the template names the column 'titel', .* did you mean 'title'"),
        ("{% if title is defined and maker %}{% endif %}", "column 'maker'"),
        ("{{ row['prize'] }}", "column 'prize'"),
        ("{{ row.prize }}", "column 'prize'"),
    ],
)
def test_a_column_that_is_not_there_is_told_before_any_row_is_read(text: str, told: str):
    with pytest.raises(PromptError, match=told):
        Template(text, "--prompt").check(COLUMNS, "m.csv")


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("{{ title }} {{ lang }}", ["title", "lang"]),
        ("{% set x = title %}{{ x }}{% for i in range(2) %}{{ loop.index }}{{ i }}{% endfor %}", ["title"]),
        ("{{ row['the price'] }}", list(COLUMNS)),
        ("{{ row.items() | list }}", list(COLUMNS)),
    ],
)
def test_only_the_columns_that_are_named_are_read(text: str, columns: list[str]):
    template = Template(text, "--prompt")
    template.check(COLUMNS, "m.csv")
    assert template.columns(COLUMNS) == columns


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{ price * 2.5 }}", "TypeError"),
        ("{{ title.no.such }}", "UndefinedError"),
        ("{{ title }}", "comes out empty"),
        ("{{ title.__class__.__mro__ }}", "SecurityError"),
        ("{{ tags.append(1) }}", "SecurityError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ ' ' }}", "comes out empty"),
    ],
)
def test_a_row_that_cannot_be_filled_in_says_why(text: str, told: str):
    with pytest.raises(PromptError, match=told):
        filled(text, title="" if text == "{{ title }}" else "a", price="3", tags=[])


def test_a_run_without_a_template_does_not_even_import_jinja():
    code = (
        "import sys\nfrom pipeline.launch import launch\nfrom pipeline.templates import as_template\n"
        "as_template('plain', 'x')\n"
        "print([name for name in ('jinja2', 'jsonschema_rs') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
