"""`[[endpoint]]` and `[fallback]` in a config file: several endpoints, and models to fall back on.

Where a config file has no such tables, the options alone say where requests go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import click

from jobs.endpoint import base_url_of, checked_base_url, slots_of
from jobs.options import Fault
from pipeline import errors
from pipeline.dialects import DIALECTS
from pipeline.plan import EndpointPlan, paced

_BEFORE_A_FILE = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)
SETTINGS = ("base_url", "key_variable", "dialect", "models", "concurrency", "rpm", "tpm", "price_book")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def endpoint_plans(ctx: click.Context, options: Mapping[str, Any]) -> tuple[EndpointPlan, ...]:
    """The endpoints, most preferred first. What the options say of pace holds for those that say nothing.

    Raises:
        Fault: a table is not what it should be, or no endpoint is meant at all.
    """
    tables = ctx.meta.get("mediabatch.endpoint")
    is_said = any(ctx.get_parameter_source(name) in _BEFORE_A_FILE for name in ("base_url", "embedded"))
    if tables is None or is_said:
        base_url = base_url_of(ctx, options["base_url"], options["embedded"])
        found: tuple[EndpointPlan, ...] = (EndpointPlan(base_url, options["dialect"]),)
    else:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables) or not tables:
            raise Fault("--config: endpoint is not a list of tables; begin each with [[endpoint]]")
        found = tuple(
            _plan(table, f"--config, [[endpoint]] {number}", options)
            for number, table in enumerate(tables, 1)
        )
        names = [one.name for one in found]
        for name in names:
            if names.count(name) > 1:
                raise Fault(f"--config: two [[endpoint]] tables have the base_url {name}")
    given = paced(found, slots=options["concurrency"], rpm=options["rpm"], tpm=options["tpm"])
    if tables is None or is_said:
        return given
    return tuple(_with_own(ctx, one, table) for one, table in zip(given, map(_known, tables), strict=True))


def fallbacks(ctx: click.Context) -> dict[str, str]:
    """Error class → the model asked instead.

    Raises:
        Fault: there is no such class, or the model is not a name.
    """
    table = ctx.meta.get("mediabatch.fallback", {})
    if not isinstance(table, dict):
        raise Fault(
            '--config: fallback is not a table; write [fallback] and under it ContentBlocked = "model"'
        )
    for name, model in table.items():
        kind = getattr(errors, name, None)
        if not (isinstance(kind, type) and issubclass(kind, errors.AttemptError)):
            raise Fault(
                f"--config, [fallback]: there is no error class {name!r}; `mediabatch report` shows those of "
                "your runs"
            )
        if kind.__subclasses__():
            raise Fault(f"--config, [fallback]: {name} is a whole family of errors; name each class of it")
        if not isinstance(model, str) or not model.strip():
            raise Fault(f"--config, [fallback] {name}: not the name of a model")
    return table


def _plan(table: Mapping[str, Any], where: str, options: Mapping[str, Any]) -> EndpointPlan:
    known = _known(table)
    for key in known:
        if key not in SETTINGS:
            raise Fault(f"{where}: no such setting {key!r}; an endpoint takes {', '.join(SETTINGS)}")
    base_url = known.get("base_url")
    if not isinstance(base_url, str):
        raise Fault(f'{where}: it needs a base_url = "https://…/v1"')
    dialect = known.get("dialect", options["dialect"])
    if not isinstance(dialect, str) or dialect not in DIALECTS:
        raise Fault(f"{where}: no such dialect {dialect!r}; there are {', '.join(DIALECTS)}")
    models = known.get("models", [])
    if not isinstance(models, list) or not all(isinstance(model, str) and model for model in models):
        raise Fault(f'{where}: models is a list of names, as in models = ["a-model"]')
    variable = known.get("key_variable")
    if variable is not None and not (isinstance(variable, str) and _VARIABLE.fullmatch(variable)):
        raise Fault(f"{where}: key_variable is the name of an environment variable, not the key itself")
    if "concurrency" in known:
        slots = known["concurrency"]
        is_number = isinstance(slots, int) and not isinstance(slots, bool)
        slots_of(slots if is_number else str(slots), f"{where}: concurrency")
    for name in ("rpm", "tpm"):
        value = known.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise Fault(f"{where}: {name} is a whole number from 1 up")
    book = known.get("price_book")
    if book is not None and not (isinstance(book, str) and book):
        raise Fault(f"{where}: price_book is the path of a TOML file")
    return EndpointPlan(
        checked_base_url(base_url, f"{where}: base_url"),
        dialect,
        tuple(models),
        key_variable=variable,
        price_book=None if book is None else os.path.abspath(book),
    )


def _with_own(ctx: click.Context, one: EndpointPlan, table: Mapping[str, Any]) -> EndpointPlan:
    """With what its own table says of pace, unless the command line or a variable says otherwise."""
    own = {
        name: table.get(name)
        for name in ("concurrency", "rpm", "tpm")
        if ctx.get_parameter_source(name) not in _BEFORE_A_FILE
    }
    slots = own.get("concurrency")
    (with_own,) = paced(
        (one,),
        slots=None if slots is None else slots_of(slots, "concurrency"),
        rpm=own.get("rpm"),
        tpm=own.get("tpm"),
    )
    return with_own


def _known(table: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key).replace("-", "_"): value for key, value in table.items()}
