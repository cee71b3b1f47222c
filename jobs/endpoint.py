"""How an endpoint is reached, as a person says it: base URL, key, headers, pace and patience."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import click

from jobs.options import Fault, option
from pipeline.plan import EndpointPlan, Secrets


class Slots(click.ParamType["int | Literal['auto']"]):
    """A number of requests in flight, or ``auto``."""

    name = "N|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["auto"]:
        return slots_of(value, "--concurrency")


def slots_of(value: Any, where: str) -> int | Literal["auto"]:
    """Raises Fault where it is neither a number of slots nor ``auto``."""
    if value == "auto":
        return "auto"
    try:
        slots = int(value)
    except (TypeError, ValueError):
        slots = 0
    if not 1 <= slots <= 10_000:
        raise Fault(f"{where} {value!r}: a number from 1 to 10000, or auto")
    return slots


class Seconds(click.ParamType[float]):
    """A span of time: seconds, or a number with s, m or h."""

    name = "TIME"
    _units: ClassVar = {"s": 1, "m": 60, "h": 3600}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        unit = self._units.get(text[-1:], None)
        try:
            seconds = float(text[:-1]) * unit if unit else float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise Fault(f"{param.opts[0] if param else 'time'} {value!r}: a time such as 90, 90s, 15m or 2h")
        return seconds


def reach_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `run`, `resume` and `reprocess` share: a value of None means that the person said nothing."""
    for decorate in (
        option(
            "--ca-file",
            type=click.Path(path_type=Path),
            help="A certificate authority to trust as well (PEM).",
        ),
        click.option(
            "--header",
            "headers",
            multiple=True,
            metavar="NAME=VALUE",
            help="An extra HTTP header; repeatable.",
        ),
        option(
            "--timeout",
            type=click.FloatRange(0.1),
            help="Seconds for one attempt, from connecting to the last byte.  [default: 300]",
        ),
        option("--max-attempts", type=click.IntRange(1, 100), help="Tries of one item.  [default: 5]"),
        option(
            "--max-outage",
            "max_outage_s",
            type=Seconds(),
            help="How long to wait for an endpoint that answers nobody; then the run halts.  [default: 1h]",
        ),
        option("--tpm", type=click.IntRange(1), help="Tokens a minute that an endpoint allows."),
        option("--rpm", type=click.IntRange(1), help="Requests a minute that an endpoint allows."),
        option(
            "--concurrency",
            type=Slots(),
            help="Requests in flight at once; auto finds out what the endpoint takes.  [default: auto]",
        ),
        option(
            "--api-key-file",
            type=click.Path(path_type=Path),
            help="A file with the key, instead of MEDIABATCH_API_KEY.",
        ),
    ):
        command = decorate(command)
    return command


def secrets_of(
    api_key_file: Path | None, headers: Sequence[str], endpoints: Sequence[EndpointPlan]
) -> Secrets:
    return Secrets(
        api_key=_api_key(api_key_file),
        headers=dict(_header(text) for text in headers),
        keys={one.key_variable: _key_in(one) for one in endpoints if one.key_variable is not None},
    )


def base_url_of(ctx: click.Context, url: str | None, embedded: bool) -> str | None:
    """The base URL, or None for the embedded endpoint; exactly one of them must be meant."""
    if url and embedded:
        typed = {
            name
            for name in ("base_url", "embedded")
            if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        }
        if len(typed) != 1:
            raise Fault("--base-url and --embedded exclude each other: ask the endpoint, or rehearse")
        url, embedded = (None, True) if "embedded" in typed else (url, False)
    if embedded:
        return None
    if not url:
        raise Fault(
            "no endpoint: give --base-url https://…/v1 (or MEDIABATCH_BASE_URL), or --embedded to rehearse "
            "without one"
        )
    return checked_base_url(url, "--base-url")


def checked_base_url(url: str, where: str) -> str:
    """Raises Fault where it is not what the openai SDK takes."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
        parts = urlsplit("")
    if not is_good:
        raise Fault(f"{where}: not an http(s) URL; it looks like https://api.example.com/v1")
    if parts.username or parts.password:
        raise Fault(f"{where}: leave user and password out of it; a key goes into MEDIABATCH_API_KEY")
    if parts.query or parts.fragment:
        raise Fault(f"{where}: leave '?…' and '#…' out of it; a key goes into MEDIABATCH_API_KEY or --header")
    if parts.path.rstrip("/").endswith("/chat/completions"):
        raise Fault(f"{where}: only up to {url[: url.index('/chat/completions')]}; the rest is added here")
    return str(url).rstrip("/")


def _api_key(file: Path | None) -> str | None:
    if file is not None:
        try:
            key = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Fault(
                f"--api-key-file {file}: cannot be read ({getattr(error, 'strerror', 'not text')})"
            ) from None
        if not key:
            raise Fault(f"--api-key-file {file}: is empty")
    else:
        key = os.environ.get("MEDIABATCH_API_KEY", "").strip()
    return _checked_key(key) or None


def _key_in(endpoint: EndpointPlan) -> str:
    """The key in the variable that an endpoint of the config file names."""
    assert endpoint.key_variable is not None
    key = os.environ.get(endpoint.key_variable, "").strip()
    if not key:
        raise Fault(
            f"endpoint {endpoint.name}: its key should be in {_variable(endpoint.key_variable)}, which is "
            "not set"
        )
    return _checked_key(key)


def _variable(name: str) -> str:
    """A key in its place is not repeated."""
    is_name = re.fullmatch(r"[A-Z][A-Z0-9_]{0,60}", name)
    return f"the variable {name}" if is_name else "the variable that key_variable names"


def _checked_key(key: str) -> str:
    if not all(" " < char <= "~" for char in key):
        raise Fault("the API key holds characters that no key has (spaces, line breaks or accents)")
    return key


def _header(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    is_token = bool(name) and all(
        char.isascii() and (char.isalnum() or char in "!#$%&'*+-.^_`|~") for char in name
    )
    if not sign or not is_token or not all(" " <= char <= "~" for char in value):
        # Not repeated: a header may hold a secret.
        raise Fault("--header: NAME=VALUE, as in --header X-Team=night; without control characters")
    return name, value


def absolute(path: Path | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def filled(name: str, value: str) -> str:
    if not value.strip():
        raise Fault(f"{name}: is empty")
    return value
