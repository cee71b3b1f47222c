"""Templates → one file: autoescaped, its one style and one script told to the browser by their digests."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jobs.options import Fault

_TEMPLATES = files("jobs.pages") / "templates"


def render(template: str, scripts: tuple[str, ...], media_from: str = "", **values: Any) -> str:
    """A page. ``media_from``: where images, sound and video may come from, beside the page itself."""
    style, script = _source("page.css"), "".join(map(_source, scripts))
    policy = [
        "default-src 'none'",
        f"style-src {_digest(style)}",
        f"script-src {_digest(script)}",
        f"img-src data:{media_from}",
        *([f"media-src data:{media_from}"] if media_from else []),
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return (
        _environment()
        .get_template(template)
        .render(policy="; ".join(policy), style=Markup(style), script=Markup(script), **values)
    )


def write(page: str, option: str, path: Path) -> int:
    """Write it whole or not at all; return its size in bytes."""
    content = page.encode("utf-8", "replace")  # a lone surrogate of somebody's answer is no UTF-8
    aside = path.with_name(path.name + ".aside")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise Fault(f"{option} {path}: cannot be written ({error.strerror or error})") from None
    return len(content)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("jobs.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
