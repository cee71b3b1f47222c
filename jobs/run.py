"""`mediabatch run`: options → plan, and a night."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import click

from jobs.asking import asking_options, parameters_of, prompt_of
from jobs.batch_file import endpoints_meant, tell
from jobs.dry_run import show_requests
from jobs.endpoint import absolute, filled, reach_options, secrets_of
from jobs.endpoint_tables import fallbacks
from jobs.media import checked_media, media_options
from jobs.night import evening_of, evening_options, spend
from jobs.options import (
    Fault,
    checked_name,
    checked_timezone,
    config_option,
    job_option,
    option,
    out_option,
    plainly,
)
from jobs.spending import spending_options
from pipeline.batch_file import write_batch_file
from pipeline.dialects import DEFAULT_DIALECT, DIALECTS
from pipeline.gate import DEFAULT_MAX_OUTAGE_S
from pipeline.manifest import is_address
from pipeline.plan import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_MODEL,
    DEFAULT_PROMPT,
    Plan,
    new_run_id,
    timeouts_of,
)
from pipeline.retry import RetryRules
from pipeline.transport import Timeouts
from pipeline.typed.sources import read_schema


@click.command()
@click.argument("manifest")
@config_option
@option("--base-url", help="The endpoint, as the openai SDK takes it, /v1 included.")
@option(
    "--embedded", is_flag=True, help="Rehearse against the embedded endpoint: no key, no network, no model."
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
@option(
    "--prompt",
    default=DEFAULT_PROMPT,
    show_default=True,
    help="For rows that bring none; a template where it names columns: {{ title }}.",
)
@option(
    "--max-tokens",
    type=click.IntRange(1),
    default=DEFAULT_MAX_TOKENS,
    show_default=True,
    help="The longest answer, in tokens.",
)
@asking_options
@media_options(otherwise="url")
@reach_options
@spending_options
@option("--limit", type=click.IntRange(0), help="Ask only the first N rows: a canary.")
@click.option("--dry-run", is_flag=True, help="Show the first requests as they would be sent; send nothing.")
@option("--again", is_flag=True, help="Ask also what an earlier run had answered.")
@option(
    "--max-failed",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="The share of failed rows with which the run still exits with 0.",
)
@option("--run-id", help="A name for this run; the name of an unfinished one goes on with it.")
@option("--timezone", default="UTC", show_default=True, callback=checked_timezone, help="What a day is.")
@option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the run's ledger is kept: a local disk. Default: beside run.json; of a store in a bucket, "
    "~/.local/state/mediabatch.",
)
@click.option(
    "--export-batch",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the requests as OpenAI batch JSONL, and send nothing; no endpoint is needed.",
)
@evening_options
@click.pass_context
@plainly
def run(ctx: click.Context, /, **options: Any) -> None:
    """Have every row of MANIFEST analysed, and write results and token costs to the store.

    MANIFEST is a CSV, TSV, Parquet, NDJSON or Arrow file, or a quoted glob of one format, with columns
    image_url, audio_url, video_url (or url and modality), and optionally id, prompt, model, max_tokens,
    system_prompt, request_parameters; or an OpenAI batch file (.jsonl). It may be at an https://, s3://, gs://
    or az:// address.

    Rows whose request an earlier run of the job had answered are skipped; rows that ask the same become one
    call.
    """
    evening = evening_of(options)
    is_dry = options.pop("dry_run")
    plan = planned(ctx, options)
    if is_dry:
        show_requests(plan, signed_manifest(options), evening.as_json)
        return
    secrets = secrets_of(options["api_key_file"], options["headers"], plan.endpoints)
    secrets = replace(secrets, manifest=signed_manifest(options))
    target: Path | None = options["export_batch"]
    if target is not None and plan.media != "url":
        raise Fault("--export-batch takes media by their URLs, and local files inline: leave --media out")
    if target is not None:
        tell(anyio.run(write_batch_file, plan, secrets, target.absolute()), target, evening.as_json)
        return
    ctx.exit(spend(replace(plan, header_names=tuple(secrets.headers)), secrets, evening))


def signed_manifest(options: Mapping[str, Any]) -> str | None:
    """A manifest's address with what signs it, which the plan does not keep; None of a local one."""
    manifest: str = options["manifest"]
    return manifest if is_address(manifest) else None


def planned(ctx: click.Context, options: Mapping[str, Any]) -> Plan:
    """What the options of `run` mean, before secrets are looked at.

    Raises:
        Fault, SchemaError: they mean nothing.
    """
    schema = None if options["schema"] is None else read_schema(options["schema"]).document
    prompt = prompt_of(ctx, options)
    assert prompt is not None  # it has a default
    started_at = datetime.now(UTC)
    state_dir: Path | None = options["state_dir"]
    plan = Plan.of(
        options["manifest"],
        *endpoints_meant(ctx, options),
        run_id=checked_name("--run-id", options["run_id"]) or new_run_id(started_at),
        job=options["job"],
        out=options["out"],
        model=filled("--model", options["model"]),
        prompt=prompt,
        max_tokens=options["max_tokens"],
        parameters=parameters_of(ctx, options, has_schema=schema is not None),
        system=None if options["system"] is None else filled("--system", options["system"]),
        schema=schema,
        fallbacks=fallbacks(ctx),
        price_book=absolute(options["price_book"]),
        budget=options["budget"],
        budget_per_day=options["budget_per_day"],
        max_outage_s=DEFAULT_MAX_OUTAGE_S if options["max_outage_s"] is None else options["max_outage_s"],
        started_at=started_at,
        timezone=options["timezone"],
        retry=RetryRules(max_attempts=options["max_attempts"] or RetryRules().max_attempts),
        timeouts=timeouts_of(options["timeout"] or Timeouts().total_s),
        media=options["media"] or "url",
        allow_private=bool(options["allow_private"]),
        image_max_px=options["image_max_px"],
        limit=options["limit"],
        stop_if_unseen=options["stop_if_unseen"],
        max_failed=options["max_failed"],
        ca_file=options["ca_file"],
        again=options["again"],
        state_dir=None if state_dir is None else state_dir.absolute(),
    )
    return checked_media(plan)
