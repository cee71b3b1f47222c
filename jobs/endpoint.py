"""How an endpoint is reached, as a person says it: base URL, key, headers, pace and patience."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from jobs.options import Fault, option
from pipeline.plan import DEFAULT_SLOTS, Secrets


class Slots(click.ParamType[int]):
    """A number of requests in flight, or ``auto``."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "auto":
            return DEFAULT_SLOTS
        try:
            slots = int(value)
        except (TypeError, ValueError):
            slots = 0
        if not 1 <= slots <= 10_000:
            raise Fault(f"--concurrency {value!r}: a number from 1 to 10000, or auto")
        return slots


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
        option("--concurrency", type=Slots(), help="Requests in flight at once.  [default: auto]"),
        option(
            "--api-key-file",
            type=click.Path(path_type=Path),
            help="A file with the key, instead of MEDIABATCH_API_KEY.",
        ),
    ):
        command = decorate(command)
    return command


def secrets_of(api_key_file: Path | None, headers: Sequence[str]) -> Secrets:
    return Secrets(api_key=_api_key(api_key_file), headers=dict(_header(text) for text in headers))


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
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
        parts = urlsplit("")
    if not is_good:
        raise Fault("--base-url: not an http(s) URL; it looks like https://api.example.com/v1")
    if parts.username or parts.password:
        raise Fault("--base-url: leave user and password out of it; a key goes into MEDIABATCH_API_KEY")
    if parts.query or parts.fragment:
        raise Fault(
            "--base-url: leave '?…' and '#…' out of it; a key goes into MEDIABATCH_API_KEY or --header"
        )
    if parts.path.rstrip("/").endswith("/chat/completions"):
        raise Fault(f"--base-url: only up to {url[: url.index('/chat/completions')]}; the rest is added here")
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
    if not all(" " < char <= "~" for char in key):
        raise Fault("the API key holds characters that no key has (spaces, line breaks or accents)")
    return key or None


def _header(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    is_token = bool(name) and all(
        char.isascii() and (char.isalnum() or char in "!#$%&'*+-.^_`|~") for char in name
    )
    if not sign or not is_token or not all(" " <= char <= "~" for char in value):
        # Not repeated: a header may hold a secret.
        raise Fault("--header: NAME=VALUE, as in --header X-Team=night; without control characters")
    return name, value


def filled(name: str, value: str) -> str:
    if not value.strip():
        raise Fault(f"{name}: is empty")
    return value
