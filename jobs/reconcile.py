"""`mediabatch reconcile`: their log of what they billed, beside what we have."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson
from rich import box
from rich.table import Table

from jobs.days import Ago, Day, days_from
from jobs.options import (
    Fault,
    checked_timezone,
    config_option,
    job_option,
    json_option,
    option,
    out_option,
    plainly,
)
from jobs.report_tables import console
from jobs.wording import amount
from pipeline.report import Scope
from pipeline.report.reconciling import FIELDS, Reconciled, Side, compared, read_log
from pipeline.store.places import Place


class Columns(click.ParamType[dict[str, str]]):
    """``cost=spend,request_id=id``: our names of what their columns hold."""

    name = "NAME=COLUMN,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        named = {}
        for pair in str(value).split(","):
            name, sign, column = (part.strip() for part in pair.partition("="))
            if not sign or name not in FIELDS or not column:
                raise Fault(f"--columns {pair!r}: NAME=COLUMN, with a name of {', '.join(FIELDS)}")
            named[name] = column
        return named


@click.command()
@click.argument("log", type=click.Path(path_type=Path))
@config_option
@out_option
@job_option
@click.option("--all-jobs", is_flag=True, help="Of all jobs in the store: a gateway's log knows none.")
@click.option(
    "--columns",
    type=Columns(),
    default=dict,
    show_default=False,
    help=f"What their columns are called, if it is not new-api's or LiteLLM's log: {', '.join(FIELDS)}.",
)
@click.option("--since", type=Day(), help="Of ours, what ended on this day (2026-11-23, or 7d ago) or later.")
@click.option("--until", type=Day(), help="Of ours, what ended on this day or before.")
@option("--timezone", default="UTC", show_default=True, callback=checked_timezone, help="What a day is.")
@json_option
@plainly
def reconcile(
    log: Path,
    out: Place,
    job: str,
    all_jobs: bool,
    columns: dict[str, str],
    since: Ago | None,
    until: Ago | None,
    timezone: ZoneInfo,
    as_json: bool,
) -> None:
    """Compare LOG, the gateway's or provider's own usage log, with the store.

    LOG is a CSV or JSON file, as new-api and LiteLLM export it, or any other with --columns. Requests are
    matched by their request id; of ours, only what ended in the hours that the log covers is compared.
    """
    first, last = days_from(since, until, timezone)
    read = read_log(log, columns)
    told = compared(read, Scope(out, None if all_jobs else job, timezone=timezone, since=first, until=last))
    if as_json:
        click.echo(_json(read.kind, told))
    else:
        _show(log, read.kind, told)


def _show(log: Path, kind: str, told: Reconciled) -> None:
    screen = console()
    currency = told.currencies[0] if len(told.currencies) == 1 else ""
    screen.print(f"{log} ({kind}) beside the store", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "requests", "tokens in", "tokens out", f"cost {currency}".strip()):
        table.add_column(name, justify="left" if not name else "right")
    for name, side in (("they billed", told.theirs), ("we have", told.ours)):
        table.add_row(name, *_cells(side))
    table.add_row("difference", *_cells(_difference(told.theirs, told.ours)), style="bold")
    table.add_section()
    table.add_row("only theirs", *_cells(told.only_theirs), style="red" if told.only_theirs.requests else "")
    table.add_row("only ours", *_cells(told.only_ours), style="yellow" if told.only_ours.requests else "")
    screen.print(table)
    screen.print(
        f"{told.matched:,} requests are in both; {told.differing_requests:,} of them with other tokens"
    )
    for request_id, theirs, ours in told.differing:
        screen.print(f"  {request_id}: they count {theirs:,} tokens, we {ours:,}", soft_wrap=True)
    for what, ids in (("only theirs", told.only_theirs_ids), ("only ours", told.only_ours_ids)):
        if ids:
            screen.print(f"{what}, for instance {', '.join(ids)}", soft_wrap=True)
    if told.only_theirs.requests and told.possibly_billed:
        screen.print(
            f"{told.possibly_billed:,} attempts of ours broke off once sent, without a request id: they may "
            "be among what is only theirs",
            soft_wrap=True,
        )


def _cells(side: Side) -> tuple[str, str, str, str]:
    return f"{side.requests:,}", f"{side.prompt_tokens:,}", f"{side.completion_tokens:,}", amount(side.cost)


def _difference(theirs: Side, ours: Side) -> Side:
    return Side(
        theirs.requests - ours.requests,
        theirs.prompt_tokens - ours.prompt_tokens,
        theirs.completion_tokens - ours.completion_tokens,
        theirs.cost - ours.cost,
    )


def _json(kind: str, told: Reconciled) -> str:
    def side(of: Side) -> dict[str, Any]:
        return {
            "requests": of.requests,
            "prompt_tokens": of.prompt_tokens,
            "completion_tokens": of.completion_tokens,
            "cost": amount(of.cost),
        }

    return orjson.dumps(
        {
            "log": kind,
            "theirs": side(told.theirs),
            "ours": side(told.ours),
            "difference": side(_difference(told.theirs, told.ours)),
            "matched": told.matched,
            "only_theirs": {**side(told.only_theirs), "ids": told.only_theirs_ids},
            "only_ours": {**side(told.only_ours), "ids": told.only_ours_ids},
            "differing": {
                "requests": told.differing_requests,
                "first": [
                    {"request_id": name, "their_tokens": theirs, "our_tokens": ours}
                    for name, theirs, ours in told.differing
                ],
            },
            "possibly_billed": told.possibly_billed,
            "currencies": told.currencies,
        },
        option=orjson.OPT_INDENT_2,
    ).decode()
