"""Prompts that are templates: Jinja over the cells of a manifest row, sandboxed and strict.

A text with ``{{ … }}``, ``{% … %}`` or ``{# … #}`` in it is a template; any other is what it is, and costs
nothing. Names are columns; ``row["any column"]`` reaches those whose name is no name in Jinja. An absent cell
prints nothing and is false. What a template names is known before the first row is read.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pipeline.errors import PromptError

_MARKS: Final = ("{{", "{%", "{#")
ROW: Final = "row"
"""All cells of the row, where no column has that name."""


def is_template(text: str) -> bool:
    return any(mark in text for mark in _MARKS)


class Template:
    """A text to be filled in from a row. ``whose`` names it for a person: ``--prompt``.

    Raises:
        PromptError: it is no template, or wants another file.
    """

    def __init__(self, text: str, whose: str) -> None:
        # A run whose prompt is a plain text has no use for it.
        from jinja2 import StrictUndefined, TemplateError, meta, nodes
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self.text = text
        self.whose = whose
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, autoescape=False, finalize=_printed
        )
        try:
            tree = environment.parse(text)
            render: Callable[[Mapping[str, object]], str] = environment.from_string(text).render
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            raise PromptError(
                f"{whose}{f', line {line}' if line else ''}: the template is broken: {error.message} "
                "({% raw %} … {% endraw %} around braces that are meant as they stand)"
            ) from None
        if next(iter(meta.find_referenced_templates(tree)), "") != "":
            raise PromptError(f"{whose}: the template includes another; put all of it into one text")
        self._render = render
        free = meta.find_undeclared_variables(tree) - environment.globals.keys()
        lines: dict[str, int] = {}
        for name in tree.find_all(nodes.Name):
            lines.setdefault(name.name, name.lineno)
        self._named = {name: lines.get(name, 1) for name in sorted(free)}
        self._of_row: dict[str, int] = {}
        for item in tree.find_all(nodes.Getitem):
            if _is_row(item.node) and isinstance(item.arg, nodes.Const) and isinstance(item.arg.value, str):
                self._of_row[item.arg.value] = item.lineno
        for attribute in tree.find_all(nodes.Getattr):
            if _is_row(attribute.node) and not hasattr(dict, attribute.attr):
                self._of_row[attribute.attr] = attribute.lineno

    def columns(self, offered: Sequence[str]) -> list[str]:
        """Of a manifest's columns, those that it reads."""
        if ROW in self._named and ROW not in offered:
            return list(offered)
        return [name for name in offered if name in self._named]

    def check(self, offered: Sequence[str], manifest: object) -> None:
        """
        Raises:
            PromptError: it names a column that the manifest does not have.
        """
        named = {name: line for name, line in self._named.items() if name != ROW or ROW in offered}
        if ROW not in offered:
            named |= self._of_row
        for name, line in named.items():
            if name not in offered:
                near = difflib.get_close_matches(name, offered, n=1)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                raise PromptError(
                    f"{self.whose}, line {line}: the template names the column {name!r}, and {manifest} has "
                    f"none of that name{meant} (it has {_listed(offered)})"
                )

    def fill_in(self, cells: Mapping[str, object]) -> str:
        """The text for a row of these cells, by column.

        Raises:
            PromptError: it cannot be rendered, or comes out empty; the sentence says why.
        """
        try:
            given = dict(cells)
            given.setdefault(ROW, cells)
            text = self._render(given)
        except Exception as error:  # noqa: BLE001 - a template may do anything with a cell that Python refuses
            kind = type(error).__name__
            told = str(error).partition("\n")[0] or kind
            raise PromptError(
                f"the template of {self.whose} cannot be filled in ({kind}: {told[:200]})"
            ) from None
        if not text.strip():
            raise PromptError(f"the template of {self.whose} comes out empty")
        return text


def as_template(text: str, whose: str) -> str | Template:
    """The text, or what it is a template of.

    Raises:
        PromptError: it is a broken template.
    """
    return Template(text, whose) if is_template(text) else text


def _is_row(node: Any) -> bool:
    return getattr(node, "name", None) == ROW


def _printed(value: Any) -> Any:
    return "" if value is None else value


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:12]) + (", …" if len(listed) > 12 else "")
