"""`mediabatch run --export-batch FILE`: what is written instead of sent, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from jobs.endpoint_tables import endpoint_plans
from jobs.wording import counted
from pipeline.batch_file import MOST_BYTES, MOST_REQUESTS, BatchFile
from pipeline.plan import EndpointPlan

OPENAI = "https://api.openai.com/v1"


def endpoints_meant(ctx: click.Context, options: Mapping[str, Any]) -> tuple[EndpointPlan, ...]:
    """The endpoints that are named; a batch file needs none, and is in OpenAI's own dialect then."""
    if (
        not options["export_batch"]
        or options["base_url"]
        or options["embedded"]
        or "mediabatch.endpoint" in ctx.meta
    ):
        return endpoint_plans(ctx, options)
    is_default = ctx.get_parameter_source("dialect") is click.core.ParameterSource.DEFAULT
    return (EndpointPlan(OPENAI, "openai" if is_default else options["dialect"]),)


def tell(file: BatchFile, target: Path, as_json: bool) -> None:
    """What went into the file, and what did not."""
    if as_json:
        told = {
            "file": str(target),
            "requests": file.requests,
            "size_bytes": file.size_bytes,
            "skipped": file.skipped,
            "duplicates": file.duplicates,
            "bad": file.bad,
            "first_bad": None if file.first_bad is None else str(file.first_bad),
        }
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(
        f"{counted(file.requests, 'request')} ({file.size_bytes / 1e6:,.1f} MB) → {target}; nothing was sent"
    )
    if file.skipped:
        click.echo(
            f"left out: {file.skipped:,} that an earlier run had answered; --again takes them in", err=True
        )
    if file.duplicates:
        click.echo(f"left out: {file.duplicates:,} that ask the same as an earlier row", err=True)
    if file.bad:
        click.echo(f"left out: {file.bad:,} that cannot be asked, the first: {file.first_bad}", err=True)
    if file.is_too_large:
        click.echo(
            f"OpenAI takes at most {MOST_REQUESTS:,} requests and {MOST_BYTES // 10**6} MB in a file: cut it",
            err=True,
        )
