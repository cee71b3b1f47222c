"""`mediabatch run`: options → plan, a night with progress, a summary, an exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import anyio
import click

from jobs.options import (
    Fault,
    checked_name,
    checked_timezone,
    config_option,
    job_option,
    json_option,
    option,
    out_option,
    plainly,
)
from jobs.progress import Progress
from jobs.summary import as_json as summary_json
from jobs.summary import exit_code, show_summary
from pipeline.dialects import DEFAULT_DIALECT, DIALECTS
from pipeline.launch import launch
from pipeline.plan import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_MODEL,
    DEFAULT_PROMPT,
    DEFAULT_SLOTS,
    Plan,
    Secrets,
    new_run_id,
)
from pipeline.retry import RetryRules
from pipeline.run import Run, Summary, only_one
from pipeline.tally import Tally
from pipeline.transport import Timeouts


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


@click.command()
@click.argument("manifest")
@config_option
@option("--base-url", help="The endpoint, as the openai SDK takes it, /v1 included.")
@option(
    "--embedded", is_flag=True, help="Rehearse against the embedded endpoint: no key, no network, no model."
)
@option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="A file with the key, instead of MEDIABATCH_API_KEY.",
)
@out_option
@job_option
@option(
    "--dialect",
    type=click.Choice(list(DIALECTS)),
    default=DEFAULT_DIALECT,
    show_default=True,
    help="How the endpoint spells requests, usage and errors.",
)
@option("--model", default=DEFAULT_MODEL, show_default=True, help="For rows that name none.")
@option("--prompt", default=DEFAULT_PROMPT, show_default=True, help="For rows that bring none.")
@option(
    "--max-tokens",
    type=click.IntRange(1),
    default=DEFAULT_MAX_TOKENS,
    show_default=True,
    help="The longest answer, in tokens.",
)
@option("--concurrency", type=Slots(), default="auto", show_default=True, help="Requests in flight at once.")
@option(
    "--max-attempts",
    type=click.IntRange(1, 100),
    default=RetryRules().max_attempts,
    show_default=True,
    help="Tries of one item.",
)
@option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=Timeouts().total_s,
    show_default=True,
    help="Seconds for one attempt, from connecting to the last byte.",
)
@option("--limit", type=click.IntRange(0), help="Ask only the first N rows: a canary.")
@option(
    "--max-failed",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="The share of failed rows with which the run still exits with 0.",
)
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="An extra HTTP header; repeatable."
)
@option("--ca-file", type=click.Path(path_type=Path), help="A certificate authority to trust as well (PEM).")
@option("--run-id", help="A name for this run; default: made from the time.")
@option("--timezone", default="UTC", show_default=True, callback=checked_timezone, help="What a day is.")
@json_option
@option("--progress/--no-progress", default=None, help="Default: a bar on a terminal, lines in a pipe.")
@click.pass_context
@plainly
def run(ctx: click.Context, /, as_json: bool, progress: bool | None, **options: Any) -> None:
    """Have every row of MANIFEST analysed, and write results and token costs to the store.

    MANIFEST is a CSV, TSV, Parquet, NDJSON or Arrow file, or a quoted glob of one format, with columns
    image_url, audio_url, video_url (or url and modality), and optionally id, prompt, model, max_tokens.
    """
    plan, secrets = _plan(ctx, options)
    watcher = Progress(is_wanted=progress)
    summary = anyio.run(_night, plan, secrets, watcher, backend_options={"use_uvloop": _has_uvloop()})
    code = exit_code(summary, plan)
    if as_json:
        click.echo(summary_json(summary, plan, code))
    else:
        show_summary(summary, plan)
    ctx.exit(code)


async def _night(plan: Plan, secrets: Secrets, watcher: Progress) -> Summary:
    try:
        async with anyio.create_task_group() as tasks:
            at_once = anyio.CancelScope()

            def on_start(run: Run, tally: Tally, notes: Sequence[str]) -> None:
                for note in notes:
                    watcher.say(f"note: {note}")
                tasks.start_soon(_heed_signals, run.interrupt, at_once, watcher)
                tasks.start_soon(watcher.follow, tally)

            summary = await launch(plan, secrets, on_start=on_start, at_once=at_once)
            watcher.close()
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise only_one(group) from None
    return summary


async def _heed_signals(interrupt: Callable[[], None], at_once: anyio.CancelScope, watcher: Progress) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            watcher.say("stopping: waiting for what is in flight; once more to stop at once")
            interrupt()
            break
        async for _ in signals:
            at_once.cancel()


def _plan(ctx: click.Context, options: dict[str, Any]) -> tuple[Plan, Secrets]:
    started_at = datetime.now(UTC)
    headers = dict(_header(text) for text in options["headers"])
    timezone: ZoneInfo = options["timezone"]
    timeout_s: float = options["timeout"]
    run_id = checked_name("--run-id", options["run_id"]) or new_run_id(started_at)
    if (options["out"] / "runs" / run_id).exists():
        raise Fault(f"--run-id {run_id}: the store {options['out']} has a run of this name; choose another")
    plan = Plan(
        run_id=run_id,
        job=options["job"],
        manifest=os.path.abspath(options["manifest"]),
        out=options["out"],
        base_url=_base_url(ctx, options),
        dialect=options["dialect"],
        model=_filled("--model", options["model"]),
        prompt=_filled("--prompt", options["prompt"]),
        parameters={"max_tokens": options["max_tokens"]},
        slots=options["concurrency"],
        started_at=started_at,
        timezone=timezone,
        retry=RetryRules(max_attempts=options["max_attempts"]),
        timeouts=Timeouts(connect_s=min(10.0, timeout_s), read_s=timeout_s, total_s=timeout_s),
        limit=options["limit"],
        max_failed=options["max_failed"],
        ca_file=options["ca_file"],
        header_names=tuple(headers),
    )
    return plan, Secrets(api_key=_api_key(options["api_key_file"]), headers=headers)


def _base_url(ctx: click.Context, options: dict[str, Any]) -> str | None:
    """The base URL, or None for the embedded endpoint; exactly one of them must be meant."""
    url, embedded = options["base_url"], options["embedded"]
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


def _filled(name: str, value: str) -> str:
    if not value.strip():
        raise Fault(f"{name}: is empty")
    return value


def _has_uvloop() -> bool:
    from importlib.util import find_spec

    return find_spec("uvloop") is not None
