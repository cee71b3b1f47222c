"""Options that every command spells alike, and where their values come from.

Command line before ``MEDIABATCH_*`` variables before the ``--config`` file before defaults.
"""

from __future__ import annotations

import functools
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from pipeline.buckets import is_in_a_bucket
from pipeline.errors import MediabatchError, UsageError
from pipeline.store.places import Place, place_of

P = ParamSpec("P")
R = TypeVar("R")
Command = Callable[..., Any]

USAGE_ERROR, HALTED, INTERRUPTED = 2, 3, 130


class Fault(click.ClickException):
    """A sentence on stderr; exit code 2 where it is a person's mistake, so that nothing was sent."""

    def __init__(self, message: str, exit_code: int = USAGE_ERROR) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc] # click declares it for the class, and reads it here

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.message}", err=True)


def plainly(command: Callable[P, R]) -> Callable[P, R]:
    """Tell a person's mistakes as sentences; bugs surface as themselves."""

    @functools.wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise Fault("interrupted before anything was sent", INTERRUPTED) from None
        except UsageError as error:
            raise Fault(str(error)) from None
        except MediabatchError as error:
            raise Fault(str(error), HALTED) from None
        except Exception as error:
            damage = _damage(error, kwargs.get("out"))
            if damage is None:
                raise
            raise Fault(damage) from None

    return told


def _damage(error: Exception, out: object) -> str | None:
    """The sentence of a part that cannot be read; None where it was not that."""
    polars = sys.modules.get("polars")  # not imported: most of `--help` would be that
    if polars is None or not isinstance(error, polars.exceptions.PolarsError) or not isinstance(out, Place):
        return None
    from pipeline.store.reader import damaged_part  # it imports polars, as this command has by now
    from pipeline.store.schemas import SCHEMAS

    damaged = (part for name in SCHEMAS if (part := damaged_part(out, name)) is not None)
    part = next(damaged, None)
    if part is None:
        return None
    return (
        f"{part} is damaged: `mediabatch resume` makes it again where its run is unfinished; else put back a "
        "copy, or move it out of the store, whereupon its items are asked again"
    )


def option(name: str, *names: str, **settings: Any) -> Callable[[Command], Command]:
    """An option that also reads ``MEDIABATCH_<NAME>``."""
    variable = "MEDIABATCH_" + name.partition("/")[0].lstrip("-").replace("-", "_").upper()
    return click.option(name, *names, envvar=variable, **settings)


TABLES = {"endpoint", "fallback", "extra"}
"""What a config file holds beside settings named like options."""


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path is None:
        return None
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Fault(f"--config {path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Fault(f"--config {path}: is not TOML: {error}") from None
    known = _settings(ctx.command)
    values = {}
    for key in TABLES & settings.keys():
        ctx.meta[f"mediabatch.{key}"] = settings.pop(key)
    for key, value in settings.items():
        name = key.replace("_", "-")
        if name in known:
            values[known[name]] = value
        elif name not in _settings_of_all(ctx):
            offered = ", ".join(sorted(known))
            raise Fault(f"--config {path}: no such setting {key!r}; `{ctx.command.name}` takes {offered}")
    ctx.default_map = {**(ctx.default_map or {}), **values}
    return path


def _settings(command: click.Command) -> dict[str, str]:
    """What a config file may set: the long name of an option → its parameter."""
    return {
        name.removeprefix("--"): str(option.name)
        for option in command.params
        if isinstance(option, click.Option) and option.name != "config"
        for name in option.opts
        if name.startswith("--")
    }


def _settings_of_all(ctx: click.Context) -> set[str]:
    """Of every command: one file serves them all, and each takes what concerns it."""
    root = ctx.find_root()
    if not isinstance(root.command, click.Group):
        return set()
    commands = [root.command.get_command(root, name) for name in root.command.list_commands(root)]
    return {name for command in commands if command for name in _settings(command)}


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="MEDIABATCH_CONFIG",
    callback=_read_config,
    is_eager=True,
    expose_value=False,
    help="A TOML file with settings named like these options.",
)


class StorePlace(click.Path):
    """A folder, or an address in a bucket."""

    name = "DIR|s3://…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not is_in_a_bucket(str(value)):
            return super().convert(value, param, ctx)
        try:
            return place_of(str(value))
        except UsageError as error:
            raise Fault(f"--out {error}") from None


out_option = option(
    "--out",
    type=StorePlace(path_type=Path, file_okay=False),
    default=Path("out"),
    show_default=True,
    help="The store: results, costs and attempts of all runs; a folder, or s3://, gs:// or az://.",
)

job_option = option(
    "--job",
    default="default",
    show_default=True,
    callback=lambda ctx, param, value: checked_name("--job", value),
    help="The recurring work this belongs to; items of different jobs never meet.",
)

json_option = option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")

_NAME = re.compile(r"[\w][\w.-]{0,99}")


def checked_name(option_name: str, value: str | None) -> str | None:
    """A job's or run's name: it becomes part of paths and reports."""
    if value is not None and not _NAME.fullmatch(value):
        raise Fault(
            f"{option_name} {value!r}: letters, digits, '.', '_' and '-', at most 100, not starting with '.'"
        )
    return value


def checked_timezone(ctx: click.Context, param: click.Parameter, value: str) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Fault(f"--timezone {value!r}: no such zone; names are like UTC or Asia/Shanghai") from None
