"""`mediabatch reprocess`: choose items by their latest outcome, and have them asked again."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click
import orjson
import polars as pl

from jobs.asking import PARAMETERS, asking_options, parameters_of, prompt_of
from jobs.endpoint import absolute, base_url_of, filled, reach_options, secrets_of
from jobs.endpoint_tables import endpoint_plans, fallbacks
from jobs.media import checked_media, media_options
from jobs.night import evening_of, evening_options, spend
from jobs.options import Fault, checked_name, config_option, job_option, option, out_option, plainly
from jobs.spending import spending_options
from jobs.wording import about, counted
from pipeline.dialects import DIALECTS
from pipeline.plan import Anew, EndpointPlan, Plan, Secrets, new_run_id, paced, plan_of, timeouts_of
from pipeline.records import EMBEDDED
from pipeline.reprocessing import Forecast, choose, forecast, predicate, traced, write_selection
from pipeline.session import settle_job
from pipeline.store.places import Place
from pipeline.store.reader import has_run, run_facts, runs_of
from pipeline.typed.sources import read_schema

IDS_SHOWN = 5


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@config_option
@out_option
@job_option
@click.option(
    "--where",
    "clauses",
    multiple=True,
    metavar="CLAUSE",
    help="Which items: KEY=VALUE[,VALUE…], KEY!=…, or KEY<… KEY>… for http_status and age; repeat it for "
    "several that must all hold. Default: all that failed.",
)
@click.option("--model", metavar="MODEL", help="Ask this model.  [default: as before]")
@click.option("--prompt", metavar="TEXT", help="Ask this, or this template.  [default: as before]")
@click.option(
    "--max-tokens", type=click.IntRange(1), help="The longest answer, in tokens.  [default: as before]"
)
@option("--base-url", help="The endpoint, /v1 included.  [default: as before]")
@option("--embedded", is_flag=True, help="Rehearse against the embedded endpoint.")
@click.option(
    "--dialect",
    type=click.Choice(list(DIALECTS)),
    help="How the endpoint spells requests, usage and errors.  [default: as before]",
)
@click.option("--limit", type=click.IntRange(0), help="Only the first N of the chosen items: a canary.")
@click.option("--dry-run", is_flag=True, help="Show what would go and what it may cost, and send nothing.")
@asking_options
@media_options(otherwise="as before")
@reach_options
@spending_options
@option(
    "--max-failed",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="The share of failed rows with which the run still exits with 0.",
)
@option("--run-id", "new_run_id", metavar="NAME", help="A name for the new run.")
@evening_options
@click.pass_context
@plainly
def reprocess(
    ctx: click.Context, /, run_id: str | None, out: Place, job: str, clauses: tuple[str, ...], **options: Any
) -> None:
    """Ask items again, in a new run: those whose latest outcome failed (in RUN, where one is named).

    \b
    --where chooses otherwise, by any of these keys:
      error_class, http_status, finish_reason    of the latest outcome
      status (ok, failed), run, age (age<2d)     of the latest outcome
      model                                      requested or answered
      modality (text, image, audio, …)           of the item's media
      seen (yes, no, unknown)                    whether usage shows that a medium was looked at
      id (call-*)                                the item's
    Where finish_reason, seen or status is asked for, answered items are chosen too.

    \b
    mediabatch reprocess --where error_class=Overloaded,AttemptTimedOut
    mediabatch reprocess --where finish_reason=length --max-tokens 8000
    mediabatch reprocess --where seen=no --where 'age<1d' --model a-better-one

    Requests are those of the latest outcome. Inline media and signed URLs, which the store does not keep, are
    read from the manifest again, as are rows that could not be asked.
    """
    now = datetime.now(UTC)
    evening = evening_of(options)
    where = predicate(clauses, now)
    runs = {facts["run_id"]: facts for facts in runs_of(out, job)}
    _check(out, job, run_id, runs)
    if not runs:
        raise Fault(f"--out {out}: no run of job {job!r} here")
    is_dry = options["dry_run"]
    draft = _draft(ctx, out, job, list(runs.values())[-1], now, options)
    if not is_dry:
        for note in settle_job(draft):
            click.echo(f"note: {note}", err=True)
    limit = options["limit"] if _is_typed(ctx, "limit") else None
    chosen = choose(out, job, run_id, where, limit)
    if chosen.is_empty():
        _tell_nothing(clauses, evening.as_json)
        return
    plan = _plan(ctx, out, [runs[name] for name in runs if name in set(chosen["run_id"])], draft, options)
    assert plan.anew is not None
    if is_dry:
        told = forecast(out, job, chosen, plan.anew, plan.model)
        click.echo(_dry_json(chosen, plan, told) if evening.as_json else _dry(chosen, plan, told))
        return
    secrets = _secrets(plan, options)
    write_selection(plan, traced(out, chosen))
    ctx.exit(spend(replace(plan, header_names=tuple(secrets.headers)), secrets, evening))


def _check(out: Place, job: str, run_id: str | None, runs: dict[str, Any]) -> None:
    if run_id is None:
        return
    facts = runs.get(run_id) or run_facts(out, run_id)
    if facts["job"] != job:
        raise Fault(f"run {run_id} belongs to job {facts['job']}: add --job {facts['job']}")
    if facts["plan"]["endpoint"] == EMBEDDED:
        raise Fault(
            f"run {run_id} is a rehearsal, whose outcomes never count: rehearse the manifest again instead"
        )


def _draft(
    ctx: click.Context, out: Place, job: str, newest: dict[str, Any], now: datetime, options: dict[str, Any]
) -> Plan:
    """The plan before it is known which items it is for."""
    run_id = checked_name("--run-id", options["new_run_id"]) or new_run_id(now)
    if has_run(out, run_id):
        raise Fault(f"run {run_id} exists already; `mediabatch resume {run_id}` goes on with it")
    if options["base_url"] or options["embedded"]:
        base_url_of(ctx, options["base_url"], options["embedded"])
    for name in ("model", "system"):
        if options[name] is not None:
            filled(f"--{name}", options[name])
    return replace(plan_of(newest, out), run_id=run_id, job=job, started_at=now)


def _plan(
    ctx: click.Context, out: Place, sources: list[dict[str, Any]], draft: Plan, options: dict[str, Any]
) -> Plan:
    """As the newest of the runs that the items come from, but for what the person said.

    Model, prompt and parameters of the plan are for rows that could not be asked before; of the others, each
    keeps its own.
    """
    source = plan_of(sources[-1], out)
    endpoints = _endpoints(ctx, source, options)
    outage_s = options["max_outage_s"]
    names = ("model", "prompt", "prompt_file", "max_tokens", "image_max_px", "system", "schema", *PARAMETERS)
    typed = {**options, **{name: None for name in names if not _is_typed(ctx, name)}}
    schema = _schema(typed["schema"], [plan_of(facts, out) for facts in sources])
    anew = Anew(
        runs=tuple(facts["run_id"] for facts in sources),
        model=typed["model"],
        prompt=prompt_of(ctx, typed),
        max_tokens=typed["max_tokens"],
        system=typed["system"],
        parameters=parameters_of(ctx, typed, has_schema=schema is not None, with_table=False),
        image_max_px=typed["image_max_px"],
    )
    parameters = {**source.parameters, **anew.parameters}
    if anew.max_tokens is not None:
        parameters["max_tokens"] = anew.max_tokens
    timeout_s = options["timeout"]
    planned = replace(
        source,
        run_id=draft.run_id,
        started_at=draft.started_at,
        endpoints=endpoints,
        fallbacks=fallbacks(ctx) or source.fallbacks,
        price_book=absolute(options["price_book"]) or source.price_book,
        stop_if_unseen=options["stop_if_unseen"] or source.stop_if_unseen,
        budget=options["budget"],  # that of the source was for the source
        budget_per_day=options["budget_per_day"] or source.budget_per_day,
        max_outage_s=source.max_outage_s if outage_s is None else outage_s,
        model=anew.model or source.model,
        prompt=anew.prompt or source.prompt,
        system=anew.system or source.system,
        parameters=parameters,
        schema=schema,
        retry=replace(source.retry, max_attempts=options["max_attempts"] or source.retry.max_attempts),
        timeouts=source.timeouts if timeout_s is None else timeouts_of(timeout_s),
        limit=None,
        max_failed=options["max_failed"],
        ca_file=options["ca_file"] or source.ca_file,
        header_names=source.header_names if _urls(endpoints) == _urls(source.endpoints) else (),
        media=options["media"] or source.media,
        allow_private=options["allow_private"] or source.allow_private,
        image_max_px=anew.image_max_px or source.image_max_px,
        again=True,
        anew=anew,
    )
    return checked_media(planned)


def _schema(told: str | None, sources: list[Plan]) -> Mapping[str, Any] | None:
    """One for the whole run: its answers are one column."""
    if told is not None:
        return read_schema(told).document
    asked = [source.schema for source in sources]
    if any(schema != asked[0] for schema in asked):
        raise Fault(
            "these items were asked with different schemas: choose those of one run, with --where run=…, "
            "or give one --schema for all"
        )
    return asked[0]


def _endpoints(ctx: click.Context, source: Plan, options: dict[str, Any]) -> tuple[EndpointPlan, ...]:
    """Those the person names, else those the items were asked at."""
    if options["base_url"] or options["embedded"] or "mediabatch.endpoint" in ctx.meta:
        dialect = options["dialect"] or source.endpoints[0].dialect
        return endpoint_plans(ctx, {**options, "dialect": dialect})
    endpoints = paced(source.endpoints, slots=options["concurrency"], rpm=options["rpm"], tpm=options["tpm"])
    if options["dialect"]:
        endpoints = tuple(replace(one, dialect=options["dialect"]) for one in endpoints)
    return endpoints


def _urls(endpoints: tuple[EndpointPlan, ...]) -> set[str | None]:
    return {one.base_url for one in endpoints}


def _is_typed(ctx: click.Context, name: str) -> bool:
    """Whether it stands on the command line. What a config file says of model, prompt, max_tokens and limit
    is for a night's rows that bring none, and would silently change what every one of these asks."""
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _secrets(plan: Plan, options: dict[str, Any]) -> Secrets:
    secrets = secrets_of(options["api_key_file"], options["headers"], plan.endpoints)
    missing = [name for name in plan.header_names if name not in secrets.headers]
    if missing:
        raise Fault(
            f"these items were asked with the header {missing[0]}: give --header {missing[0]}=… again"
        )
    return secrets


def _tell_nothing(clauses: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps({"chosen": 0}).decode())
    what = f"matches {' and '.join(clauses)}" if clauses else "failed"
    click.echo(f"nothing to reprocess: no item's latest outcome {what}", err=True)


def _counts(chosen: pl.DataFrame, plan: Plan) -> list[tuple[str, str, str, int]]:
    """(how it ended, model asked, model to ask, items), most first"""
    assert plan.anew is not None
    ends = [
        error_class or f"ok, {finish_reason or 'no finish reason'}"
        for error_class, finish_reason in chosen.select("error_class", "finish_reason").iter_rows()
    ]
    counts = Counter(zip(ends, chosen["model_requested"], strict=True))
    return [
        (end, model or "never asked", plan.anew.model or model or plan.model, count)
        for (end, model), count in counts.most_common()
    ]


def _dry(chosen: pl.DataFrame, plan: Plan, told: Forecast) -> str:
    lines = [f"{counted(chosen.height, 'item')} would go to {plan.endpoint}"]
    for end, before, after, count in _counts(chosen, plan):
        models = before if before == after else f"{before} → {after}"
        lines.append(f"  {count:>7,}  {end:<20}  {models}")
    ids = chosen["item_id"].head(IDS_SHOWN).to_list()
    more = ", …" if chosen.height > len(ids) else ""
    lines.append(f"for instance {', '.join(map(shlex.quote, ids))}{more}")
    for currency, (low, likely, high) in sorted(told.cost.items()):
        lines.append(
            f"may cost {currency} {about(low)} to {about(high)}, likely {about(likely)}: as {told.replies:,} "
            "replies about such media did"
        )
    if told.unknown:
        which = "" if told.unknown == told.items else f" of {told.unknown:,} of them"
        lines.append(f"the cost{which} is unknown: no reply of that model has been paid for here")
    lines.append("nothing was sent; leave out --dry-run to send them")
    return "\n".join(lines)


def _dry_json(chosen: pl.DataFrame, plan: Plan, told: Forecast) -> str:
    return orjson.dumps(
        {
            "chosen": chosen.height,
            "endpoint": plan.endpoint,
            "by": [
                {"outcome": end, "model_before": before, "model": after, "items": count}
                for end, before, after, count in _counts(chosen, plan)
            ],
            "item_ids": chosen["item_id"].head(IDS_SHOWN).to_list(),
            "may_cost": {
                currency: {"low": low, "likely": likely, "high": high}
                for currency, (low, likely, high) in sorted(told.cost.items())
            },
            "told_by_replies": told.replies,
            "unknown": told.unknown,
        },
        option=orjson.OPT_INDENT_2,
    ).decode()
