"""`mediabatch show`: one item, with its request, every attempt, the bill and a curl line to replay it."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from typing import Any

import click
import orjson
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.options import Fault, config_option, job_option, json_option, out_option, plainly
from jobs.wording import amount
from pipeline.dialects import DIALECTS
from pipeline.errors import UsageError
from pipeline.records import EMBEDDED, Media, Request
from pipeline.store.history import History, history_of, similar_ids
from pipeline.store.places import Place
from pipeline.store.reader import run_facts
from pipeline.typed.schema import AnswerSchema


@click.command()
@click.argument("item")
@config_option
@out_option
@job_option
@json_option
@plainly
def show(item: str, out: Place, job: str, as_json: bool) -> None:
    """Show what is known of ITEM over all runs: the request, each attempt, the answer and its cost."""
    history = history_of(out, job, item)
    if history.is_empty:
        near = similar_ids(out, job, item)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise Fault(f"--out {out}: job {job!r} has no item {item!r}{hint}")
    if as_json:
        click.echo(_as_json(item, job, history, out))
    else:
        _print(item, job, history, out)


def _as_json(item: str, job: str, history: History, out: Place) -> str:
    outcomes = history.results.to_dicts()
    for outcome in outcomes:
        outcome["request"] = orjson.loads(outcome.pop("request_json") or "null")
        schema = _schema(outcome["request"], outcome["run_id"], out)
        outcome["curl"] = _curl(outcome["request"], _sent(outcome, history), schema)
    return orjson.dumps(
        {
            "item_id": item,
            "job": job,
            "outcomes": outcomes,
            "attempts": history.attempts.to_dicts(),
            "costs": history.costs.to_dicts(),
            "rest": history.rest.to_dicts(),
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z,
        default="{:f}".format,  # exact decimals, never as 2E-7
    ).decode()


def _print(item: str, job: str, history: History, out: Place) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False, emoji=False)
    console.print(Text.assemble(("item ", "bold"), item, ("  job ", "bold"), job))
    for outcome in reversed(history.results.to_dicts()):
        _print_outcome(console, outcome, history, out)
    for row in history.rest.to_dicts():
        console.print(f"\nrun {row['run_id']}: {row['status'].replace('_', ' ')} (row {row['row']})")
        tried = history.attempts.filter(run_id=row["run_id"])
        if not tried.is_empty():
            console.print(_attempts(tried))


def _print_outcome(console: Console, outcome: dict[str, Any], history: History, out: Place) -> None:
    style = "green" if outcome["status"] == "ok" else "red"
    console.print(
        Text.assemble(
            f"\nrun {outcome['run_id']}, row {outcome['row']}: ",
            (outcome["status"], style),
            f", {outcome['finish_reason']}" if outcome["finish_reason"] else "",
            f"  {outcome['finished_at']:%Y-%m-%d %H:%M:%S} UTC",
        )
    )
    if outcome["error_class"]:
        console.print(
            Text(f"{outcome['error_class']}: {outcome['error_message']}", style="red"), soft_wrap=True
        )
    request = orjson.loads(outcome["request_json"] or "null")
    if request is not None:
        parameters = ", ".join(f"{name} {value}" for name, value in request["parameters"].items())
        console.print(f"asked {request['model']} ({parameters}) at {outcome['endpoint']}")
        if "system" in request:
            console.print(f"  system  {request['system']}", soft_wrap=True)
        console.print(f"  prompt  {request['prompt']}", soft_wrap=True)
        if "schema" in request:
            console.print(f"  schema  that of run {outcome['run_id']}", soft_wrap=True)
        for media, one in zip(request["media"], outcome["media"], strict=True):
            console.print(f"  {media['modality']:<7} {media['url']}  (seen: {one['seen']})", soft_wrap=True)
    attempts = history.attempts.filter(run_id=outcome["run_id"])
    if not attempts.is_empty():
        console.print(_attempts(attempts))
    costs = history.costs.filter(run_id=outcome["run_id"])
    if not costs.is_empty():
        console.print(_costs(costs))
    if outcome["text"]:
        console.print(Text.assemble(("answer", "bold"), f"\n{outcome['text']}"), soft_wrap=True)
    for one in attempts.to_dicts():
        if one["error_body"]:
            console.print(f"reply to attempt {one['attempt']}: {one['error_body']}", soft_wrap=True)
    if outcome["reply_id"] or outcome["text"]:
        console.print(f"reply {_reply(outcome, attempts)}", soft_wrap=True)
    if request is not None:
        schema = _schema(request, outcome["run_id"], out)
        gone = "its attempts were pruned" if outcome["attempts"] else "never asked"
        curl = _curl(request, _sent(outcome, history), schema) or gone
        console.print(Text.assemble(("again ", "bold"), curl), soft_wrap=True)


def _reply(outcome: dict[str, Any], attempts: pl.DataFrame) -> str:
    """The reply that decided, but for its text, as JSON."""
    usage = attempts["usage_json"].drop_nulls()[-1:].to_list()
    told = {
        "id": outcome["reply_id"],
        "model": outcome["model"],
        "finish_reason": outcome["finish_reason"],
        "usage": orjson.Fragment(usage[0] if usage else "null"),
    }
    return orjson.dumps(told).decode()


def _attempts(attempts: pl.DataFrame) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("attempt", "sent", "took", "HTTP", "bill", "error", "request id"):
        table.add_column(name)
    for one in attempts.to_dicts():
        took = "—"  # nobody knows, of one that the process did not outlive
        if one["done_at"] is not None:
            took = f"{(one['done_at'] - one['sent_at']).total_seconds():.2f} s"
        table.add_row(
            str(one["attempt"]),
            f"{one['sent_at']:%H:%M:%S}",
            took,
            str(one["http_status"] or "—"),
            one["state"].replace("_", " "),
            one["error_class"] or "",
            one["request_id"] or "",
        )
    return table


def _costs(costs: pl.DataFrame) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("attempt", "direction", "modality", "kind"):
        table.add_column(name)
    for name in ("tokens", "per Mtok", "cost"):
        table.add_column(name, justify="right")
    table.add_column("counts are")
    for one in costs.to_dicts():
        is_priced = one["cost"] is not None
        table.add_row(
            str(one["attempt"]),
            one["direction"],
            one["modality"],
            one["kind"],
            f"{one['tokens']:,}",
            amount(one["price_per_mtok"]) if is_priced else "unknown",
            f"{one['currency']} {amount(one['cost'])}" if is_priced else "unknown",
            one["provenance"],
        )
    return table


def _sent(outcome: dict[str, Any], history: History) -> dict[str, Any] | None:
    """The last attempt of an outcome, or None where it was never asked."""
    attempts = history.attempts.filter(run_id=outcome["run_id"])
    return attempts.to_dicts()[-1] if not attempts.is_empty() else None


def _schema(request: dict[str, Any] | None, run_id: str, out: Place) -> AnswerSchema | None:
    """That of its run, where the request has one; None too where run.json is gone."""
    if request is None or "schema" not in request:
        return None
    with suppress(UsageError):
        return AnswerSchema.of(run_facts(out, run_id)["plan"]["schema"])
    return None


def _as_sent(media: Media) -> str:
    return "signed, or as a data: URL" if media.is_in_bucket else "as a data: URL"


def _curl(
    request: dict[str, Any] | None, attempt: dict[str, Any] | None, schema: AnswerSchema | None
) -> str | None:
    """A line that asks the same again; what the store does not keep is named in it."""
    if request is None or attempt is None:
        return None
    dialect = DIALECTS[attempt["dialect"]]
    media = tuple(Media(one["modality"], one["url"], one["key"]) for one in request["media"])
    urls = [one.url if one.url.startswith("http") else f"<{one.url} {_as_sent(one)}>" for one in media]
    asked = Request(
        request["model"], request["prompt"], media, request["parameters"], request.get("system"), schema
    )
    body = dialect.render(asked, urls)
    # A rehearsal's endpoint went with it; `mediabatch serve` listens here.
    base_url = "http://127.0.0.1:8000/v1" if attempt["endpoint"] == EMBEDDED else attempt["endpoint"]
    return (
        f'curl {shlex.quote(base_url + dialect.path)} -H "Authorization: Bearer $MEDIABATCH_API_KEY" '
        f"-H 'Content-Type: application/json' --data-raw {shlex.quote(body.decode())}"
    )
