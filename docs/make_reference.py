"""``python -m docs.make_reference``: docs/reference.md, from what the code declares and meanings.toml.

Commands and options come from click, columns from the schemas, error classes from the tree with their
docstrings. A name that has no meaning, or a meaning whose name is gone, is an error.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from jobs.__main__ import COMMANDS, cli
from jobs.endpoint_tables import SETTINGS
from jobs.options import HALTED, INTERRUPTED, TABLES, USAGE_ERROR
from jobs.summary import DONE, STOPPED, TOO_MANY_FAILED
from pipeline import errors
from pipeline.manifest.columns import READ
from pipeline.reprocessing.where import KEYS
from pipeline.store.schemas import SCHEMAS

DOCS = Path(__file__).parent
BUG = 1
EXIT_CODES = (DONE, BUG, USAGE_ERROR, HALTED, STOPPED, TOO_MANY_FAILED, INTERRUPTED)
DATASETS = {  # in the order of the page
    "results": "one row an item that ended",
    "costs": "one row a token count of every reply that carried usage, failed and repeated ones too",
    "attempts": "one row a time a request was sent",
    "rest": "one row a manifest row that was not asked in this run",
}
FATES = {
    errors.TransientError: "tried again",
    errors.TerminalError: "this item fails",
    errors.HaltingError: "the endpoint halts",
    errors.RowError: "this row fails, unasked",
    errors.UsageError: "nothing is sent",
}


class Incomplete(Exception):
    """Names and meanings do not match."""


def reference() -> str:
    """The whole page.

    Raises:
        Incomplete: a name has no meaning, or a meaning no name.
    """
    meanings = tomllib.loads((DOCS / "meanings.toml").read_text("utf-8"))
    named: dict[str, tuple[str, Iterable[str]]] = {
        "where": ("key", KEYS),
        "config_tables": ("table", sorted(TABLES)),
        "endpoint_table": ("setting", SETTINGS),
        "exit_codes": ("code", sorted(map(str, EXIT_CODES), key=int)),
        "manifest": ("column", READ),
        # Of these the tests hold what is written beside the names that a run really writes.
        "run_json": ("key", meanings["run_json"]),
        "summary": ("key", meanings["summary"]),
        "events": ("event", meanings["events"]),
    }
    filled: dict[str, Iterable[str]] = {
        name: _table(head, names, meanings[name], name) for name, (head, names) in named.items()
    }
    filled["commands"] = (line for name in COMMANDS for line in _command(name))
    filled["datasets"] = (line for name in DATASETS for line in _dataset(name, meanings[name]))
    filled["errors"] = _errors()
    template = (DOCS / "reference.template.md").read_text("utf-8")
    for name, lines in filled.items():
        template = template.replace(f"{{{name}}}", "\n".join(lines).strip())
    return template


def _command(name: str) -> Iterator[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    context = click.Context(command, info_name=f"mediabatch {name}")
    yield f"### {name}"
    yield ""
    yield f"`{' '.join(command.get_usage(context).removeprefix('Usage: ').split())}`"
    yield ""
    paragraphs = (command.help or "").replace("\b\n", "\b").split("\n\n")
    for paragraph in paragraphs:
        if paragraph.startswith("\b"):
            yield "```text"
            yield from paragraph.removeprefix("\b").splitlines()
            yield "```"
        else:
            yield " ".join(paragraph.split())
        yield ""
    rows = [_option(param, context) for param in command.params if isinstance(param, click.Option)]
    yield from _rows(("option", "means", "variable"), rows)


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    spellings = " / ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" `{option.make_metavar(context)}`"
    extra = option.get_help_extra(context)
    default = f"  [default: {extra['default']}]" if "default" in extra else ""
    required = "  [required]" if option.required else ""
    variable = f"`{option.envvar}`" if option.envvar else ""
    return spellings + value, f"{option.help}{default}{required}", variable


def _dataset(dataset: str, meanings: Mapping[str, str]) -> Iterator[str]:
    schema = SCHEMAS[dataset]
    _check(dataset, schema.names(), meanings)
    told = DATASETS[dataset]
    yield f"### {dataset}"
    yield ""
    yield f"{told[0].upper()}{told[1:]}."
    yield ""
    rows = [(f"`{name}`", _type(dtype), meanings[name]) for name, dtype in schema.items()]
    yield from _rows(("column", "type", "means"), rows)


def _type(dtype: Any) -> str:
    told = str(dtype).replace("time_unit='us', time_zone='UTC'", "UTC, µs").replace("precision=", "")
    told = told.replace("scale=", "")
    return f"`{told}`" if len(told) < 40 else "`List(Struct)`"


def _errors() -> Iterator[str]:
    rows = []
    for kind in _leaves(errors.MediabatchError):
        fate = next((told for family, told in FATES.items() if issubclass(kind, family)), "the run halts")
        bill = ""
        if issubclass(kind, errors.AttemptError):
            bill = kind.default_state.replace("_", " ")
        if issubclass(kind, errors.TransientError):
            fate += f", {kind.max_tries} tries" if kind.max_tries else ", `--max-attempts`"
            fate += "; then the endpoint halts" if kind.then_halts else "; then this item fails"
        told = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
        rows.append((f"`{kind.__name__}`", told, fate, bill))
    yield from _rows(("class", "what happened", "fate", "bill"), rows)


def _leaves(kind: type[errors.MediabatchError]) -> Iterator[type[errors.MediabatchError]]:
    """Every class that is raised as itself, in the tree's order."""
    children = kind.__subclasses__()
    families = (errors.MediabatchError, errors.AttemptError, *list(FATES)[:3])
    if kind not in families and kind.__module__ == errors.__name__:
        yield kind
    for child in children:
        yield from _leaves(child)


def _table(head: str, names: Iterable[str], meanings: Mapping[str, str], where: str) -> Iterator[str]:
    names = list(names)
    _check(where, names, meanings)
    yield from _rows((head, "means"), [(f"`{name}`", meanings[name]) for name in names])


def _check(where: str, names: Iterable[str], meanings: Mapping[str, str]) -> None:
    missing, gone = sorted(set(names) - set(meanings)), sorted(set(meanings) - set(names))
    if missing or gone:
        raise Incomplete(f"docs/meanings.toml, [{where}]: {missing} have no meaning, {gone} are no more")


def _rows(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for row in rows:
        cells = " | ".join(cell.replace("|", r"\|") for cell in row)
        yield f"| {cells} |"
    yield ""


if __name__ == "__main__":
    (DOCS / "reference.md").write_text(reference(), "utf-8")
