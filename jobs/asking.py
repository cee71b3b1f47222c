"""What is asked, as a person says it: prompts, request parameters, the schema of the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import orjson

from jobs.endpoint import filled
from jobs.options import Fault, option
from pipeline.manifest.parameters import why_not

_NEARER: Final = (
    click.core.ParameterSource.COMMANDLINE,
    click.core.ParameterSource.ENVIRONMENT,
    click.core.ParameterSource.DEFAULT_MAP,
)
PARAMETERS: Final = ("temperature", "top_p", "seed", "reasoning_effort")
"""Those with an option of their own, besides ``max_tokens``."""


def asking_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `run` and `reprocess` share: a value of None means that the person said nothing."""
    for decorate in (
        option(
            "--schema",
            metavar="FILE|MODULE:MODEL",
            help="What answers keep to: a JSON Schema, or a pydantic model; they become the column `parsed`.",
        ),
        click.option(
            "--extra",
            "extras",
            multiple=True,
            metavar="NAME=JSON",
            help="A request parameter that has no option here; repeatable. In a config file: [extra].",
        ),
        option("--reasoning-effort", metavar="WORD", help="How much to think: low, medium, high, ..."),
        option("--seed", type=int, help="For answers that repeat, where the endpoint can."),
        option("--top-p", type=click.FloatRange(0, 1), help="The share of likely words to choose from."),
        option("--temperature", type=click.FloatRange(0), help="How freely words are chosen; 0: not at all."),
        option("--system", metavar="TEXT", help="The system prompt, or its template."),
        option(
            "--prompt-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="A file with the prompt, or its template.",
        ),
    ):
        command = decorate(command)
    return command


def prompt_of(ctx: click.Context, options: Mapping[str, Any]) -> str | None:
    """The prompt as a text: of ``--prompt`` and ``--prompt-file``, the one that is said nearer to the person.

    Raises:
        Fault: both are said, or the file holds no text.
    """
    file: Path | None = options["prompt_file"]
    text: str | None = options["prompt"]
    nearer = _rank(ctx, "prompt_file") - _rank(ctx, "prompt")
    if file is not None and text is not None and not nearer:
        raise Fault("--prompt and --prompt-file exclude each other: say it here, or in a file")
    if file is not None and (text is None or nearer < 0):
        return filled(f"--prompt-file {file}", _read(file))
    return None if text is None else filled("--prompt", text)


def parameters_of(
    ctx: click.Context, options: Mapping[str, Any], *, has_schema: bool, with_table: bool = True
) -> dict[str, object]:
    """The request parameters that are said, ``max_tokens`` left out. ``with_table``: those of the config
    file's ``[extra]`` too; the command line goes first.

    Raises:
        Fault: one is no JSON, or is not for a person to set.
    """
    table = ctx.meta.get("mediabatch.extra", {}) if with_table else {}
    if not isinstance(table, dict):
        raise Fault("--config: extra is not a table; write [extra] and under it top_k = 40")
    said = {name: options[name] for name in PARAMETERS if options[name] is not None}
    found: dict[str, object] = dict(said)
    for where, extras in (("--config, [extra]", table), ("--extra", _extras(options["extras"]))):
        for name, value in extras.items():
            reason = why_not(name, has_schema)
            if name in PARAMETERS or name == "max_tokens":
                reason = f"say it with --{name.replace('_', '-')}"
            if reason is not None:
                raise Fault(f"{where} {name}: {reason}")
            if not _is_json(value):
                raise Fault(f"{where} {name}: {value!r} is nothing that JSON knows")
            found[name] = value
    return found


def _extras(told: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for text in told:
        name, sign, value = text.partition("=")
        try:
            if not sign:
                raise ValueError
            found[name.strip()] = orjson.loads(value)
        except ValueError:
            raise Fault(
                f"--extra {text!r}: NAME=JSON, as in --extra top_k=40; a text in quotes, as in "
                "--extra 'tier=\"flex\"'"
            ) from None
    return found


def _is_json(value: object) -> bool:
    """TOML has dates and infinities, too."""
    try:
        return bool(orjson.loads(orjson.dumps(value)) == value)
    except TypeError:
        return False


def _rank(ctx: click.Context, name: str) -> int:
    source = ctx.get_parameter_source(name)
    return _NEARER.index(source) if source in _NEARER else len(_NEARER)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        raise Fault(f"--prompt-file {file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise Fault(f"--prompt-file {file}: is not UTF-8 text") from None
