"""`mediabatch report`: what stands in the store, as tables, one JSON object, or CSV."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson
from rich.text import Text

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
from jobs.report_tables import by_table, console, last_days, outcome_table, spend_table
from jobs.wording import amount, money
from pipeline.pricing import Layered, ListPrices, TomlBook
from pipeline.records import EMBEDDED
from pipeline.report import (
    KEYS,
    Line,
    Outcomes,
    PossiblyBilled,
    Scope,
    by,
    folded,
    outcomes_in,
    reported,
    spent,
)
from pipeline.report import possibly_billed as billed_perhaps
from pipeline.store.reader import run_facts

_DEFAULT_KEYS = ("day", "model", "modality", "direction")
_DAY_MODEL, _DIRECTION_MODALITY = (0, 1), (3, 2)


class Keys(click.ParamType[tuple[str, ...]]):
    """One key or several, with commas."""

    name = "KEY,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        keys = tuple(key.strip().lower().replace("-", "_") for key in value.split(",") if key.strip())
        for key in keys:
            if key not in KEYS:
                raise Fault(f"--by {value}: no such key {key!r}; there are {', '.join(KEYS)}")
        return keys


Ago = date | timedelta


class Day(click.ParamType[Ago]):
    """A day, or so many days ago."""

    name = "DAY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Ago:
        text = str(value).strip()
        try:
            if text.endswith("d"):
                return timedelta(days=int(text[:-1]))
            return date.fromisoformat(text)
        except (ValueError, OverflowError):
            raise Fault(
                f"{param.opts[0] if param else 'day'} {value!r}: a day such as 2026-11-23, or 7d"
            ) from None


def days_from(since: Ago | None, until: Ago | None, timezone: ZoneInfo) -> tuple[date | None, date | None]:
    today = datetime.now(timezone).date()
    first, last = (today - day if isinstance(day, timedelta) else day for day in (since, until))
    if first is not None and last is not None and last < first:
        raise Fault(f"--until {last} lies before --since {first}")
    return first, last


@click.command()
@config_option
@out_option
@job_option
@click.option(
    "--by", "keys", type=Keys(), multiple=True, help=f"Tokens and cost by any of {', '.join(KEYS)}."
)
@click.option("--run", "run_id", metavar="RUN", help="This run alone.")
@click.option(
    "--rehearsals", is_flag=True, help="Rehearsals with the embedded endpoint, instead of real runs."
)
@option("--timezone", default="UTC", show_default=True, callback=checked_timezone, help="What a day is.")
@click.option(
    "--since", type=Day(), help="What ended on this day or later: 2026-11-23, or 7d for a week ago."
)
@click.option("--until", type=Day(), help="What ended on this day or before.")
@click.option(
    "--reprice",
    metavar="BOOK",
    type=click.Path(path_type=Path),
    help="What it would have cost by this price book (TOML), and by the list for what it does not know.",
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print the table of --by as CSV on stdout.")
@click.pass_context
@plainly
def report(
    ctx: click.Context,
    out: Path,
    job: str,
    keys: tuple[tuple[str, ...], ...],
    run_id: str | None,
    rehearsals: bool,
    timezone: ZoneInfo,
    since: Ago | None,
    until: Ago | None,
    reprice: Path | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show the latest outcome of every item of the job, and what all runs of it have cost.

    Costs are those of all tries that were paid for; what has no price is counted in tokens, and what may have
    been billed is told apart. --by cuts tokens and cost as you like, as in --by day,model; with --by job,
    over all jobs.
    """
    wanted = tuple(dict.fromkeys(key for some in keys for key in some))
    if as_csv and as_json:
        raise Fault("--csv and --json exclude each other")
    if as_csv and not wanted:
        raise Fault("--csv prints the table of --by: say which, for instance --by day,model")
    is_any_job = (
        "job" in wanted and ctx.get_parameter_source("job") is not click.core.ParameterSource.COMMANDLINE
    )
    if run_id is not None:
        facts = run_facts(out, run_id)
        rehearsals = facts["plan"]["endpoint"] == EMBEDDED  # it was named, so it is asked for
        if not is_any_job and facts["job"] != job:
            raise Fault(f"run {run_id} belongs to job {facts['job']}: add --job {facts['job']}")
    book = None if reprice is None else Layered((TomlBook.read(reprice), ListPrices()))
    scope = Scope(
        out,
        None if is_any_job else job,
        run_id,
        rehearsals,
        timezone,
        book,
        *days_from(since, until, timezone),
    )
    if wanted:
        lines = by(scope, wanted)
        if as_csv:
            click.echo(_csv(wanted, lines), nl=False)
        elif as_json:
            click.echo(_dumps({"by": wanted, "lines": [_line_json(wanted, line) for line in lines]}))
        else:
            console().print(by_table(wanted, lines))
    else:
        view = _View(scope)
        if as_json:
            click.echo(_dumps(view.as_json()))
        else:
            view.show()
    _hint(scope)


class _View:
    """The default view, gathered."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.runs = scope.runs()
        self.outcomes: Outcomes = outcomes_in(scope)
        cube = spent(scope, _DEFAULT_KEYS)
        self.by_modality = folded(cube, _DIRECTION_MODALITY)
        self.by_day = folded(cube, _DAY_MODEL)
        (self.all,) = folded(cube, ()) or [Line(())]
        self.unpriced = [line for line in folded(cube, (1,)) if line.unpriced_tokens]
        self.possibly: list[PossiblyBilled] = billed_perhaps(scope)
        self.reported = reported(scope)

    @property
    def unfinished(self) -> list[dict[str, Any]]:
        return [facts for facts in self.runs if facts.get("state", "done") != "done"]

    def show(self) -> None:
        screen = console()
        outcomes = self.outcomes
        rehearsed = "; rehearsals, nothing of this was spent" if self.scope.rehearsals else ""
        screen.print(f"{_named(self.scope)}: {_counted(len(self.runs), 'run')}{_days(self)}{rehearsed}")
        for facts in self.unfinished:
            screen.print(
                Text.assemble(("unfinished ", "bold yellow"), _unfinished(self.scope, facts)), soft_wrap=True
            )
        for line in self.unpriced:
            screen.print(
                Text.assemble(
                    ("no price known ", "bold yellow"),
                    f"for {line.unpriced_tokens:,} tokens of {line.keys[0]}: their cost is null, not zero",
                ),
                soft_wrap=True,
            )
        if outcomes.unseen:
            screen.print(
                Text.assemble(
                    ("not seen ", "bold red"),
                    f"media of {_counted(outcomes.unseen, 'answered item')}: the endpoint dropped them; list "
                    "and ask them again with mediabatch reprocess --where seen=no --dry-run",
                ),
                soft_wrap=True,
            )
        screen.print(outcome_table(outcomes))
        if self.all.tokens:
            screen.print(
                spend_table("tokens and cost", ("direction", "modality"), self.by_modality, self.all)
            )
            screen.print(spend_table("by day", ("day", "model"), last_days(self.by_day), None))
        screen.print(f"all tries  {money(self.all.cost)}; the latest answers alone {money(outcomes.cost)}")
        if self.reported is not None:
            screen.print(
                f"the endpoint itself reports {amount(self.reported.reported)} for "
                f"{_counted(self.reported.replies, 'reply', 'replies')}; by the price book they cost "
                f"{money(self.reported.cost)}",
                soft_wrap=True,
            )
        for one in self.possibly:
            screen.print(
                f"possibly billed  {_counted(one.attempts, 'attempt')} of {one.model} broke off once sent, "
                f"and may have cost {_possible(one)}; not in these costs",
                soft_wrap=True,
            )

    def as_json(self) -> dict[str, Any]:
        outcomes = self.outcomes
        return {
            "out": str(self.scope.out),
            "job": self.scope.job,
            "run": self.scope.run_id,
            "rehearsals": self.scope.rehearsals,
            "timezone": self.scope.timezone.key,
            "runs": [
                {"run_id": facts["run_id"], "state": facts.get("state"), "started_at": facts["started_at"]}
                for facts in self.runs
            ],
            "outcomes": {
                "items": outcomes.items,
                "ok": outcomes.ok,
                "cut_off": outcomes.cut_off,
                "unseen": outcomes.unseen,
                "failed": sum(alike.items for alike in outcomes.failed),
                "not_answered": outcomes.not_answered,
                "failures": [
                    {
                        "error_class": alike.error_class,
                        "items": alike.items,
                        "item_id": alike.item_id,
                        "message": alike.message,
                    }
                    for alike in outcomes.failed
                ],
            },
            "cost_of_all_tries": _money_json(self.all.cost),
            "cost_of_latest_answers": _money_json(outcomes.cost),
            "tokens": self.all.tokens,
            "unpriced_tokens": {line.keys[0]: line.unpriced_tokens for line in self.unpriced},
            "possibly_billed": [
                {
                    "model": one.model,
                    "attempts": one.attempts,
                    "possible_cost": None if one.possible_cost is None else amount(one.possible_cost),
                    "currency": one.currency,
                }
                for one in self.possibly
            ],
            "reported_by_endpoint": None
            if self.reported is None
            else {
                "replies": self.reported.replies,
                "reported_cost": amount(self.reported.reported),
                "cost": _money_json(self.reported.cost),
            },
            "by_modality": [_line_json(("direction", "modality"), line) for line in self.by_modality],
            "by_day": [_line_json(("day", "model"), line) for line in self.by_day],
        }


def _csv(keys: Sequence[str], lines: Sequence[Line]) -> str:
    """A column for each currency, named by it: currencies are never added."""
    currencies = sorted({currency for line in lines for currency in line.cost})
    has_attempts = any(line.attempts is not None for line in lines)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    counts = ["attempts", "possibly_billed"] if has_attempts else []
    named = [f"cost_{currency}" for currency in currencies]
    writer.writerow([*keys, *counts, "tokens", "unpriced_tokens", *named])
    for line in lines:
        attempts = [line.attempts, line.possibly_billed] if has_attempts else []
        costs = [amount(line.cost[currency]) if currency in line.cost else None for currency in currencies]
        writer.writerow([*line.keys, *attempts, line.tokens, line.unpriced_tokens, *costs])
    return text.getvalue()


def _line_json(keys: Sequence[str], line: Line) -> dict[str, Any]:
    attempts = (
        {} if line.attempts is None else {"attempts": line.attempts, "possibly_billed": line.possibly_billed}
    )
    return {
        **dict(zip(keys, line.keys, strict=True)),
        **attempts,
        "tokens": line.tokens,
        "unpriced_tokens": line.unpriced_tokens,
        "cost": _money_json(line.cost),
    }


def _money_json(cost: dict[str, Decimal]) -> dict[str, str]:
    return {currency: amount(value) for currency, value in sorted(cost.items())}


def _dumps(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode()


def _possible(one: PossiblyBilled) -> str:
    if one.possible_cost is None:
        return "an unknown amount"
    return f"{one.currency or 'some'} {amount(one.possible_cost)}"


def _named(scope: Scope) -> str:
    what = f"job {scope.job}" if scope.job else "all jobs"
    return what if scope.run_id is None else f"run {scope.run_id} of {what}"


def _days(view: _View) -> str:
    days = sorted({facts_day(facts, view.scope.timezone) for facts in view.runs})
    if not days:
        return ""
    return f", {days[0]}" if len(days) == 1 else f", {days[0]} to {days[-1]}"


def facts_day(facts: dict[str, Any], timezone: ZoneInfo) -> str:
    """The day on which a run started."""
    return f"{datetime.fromisoformat(facts['started_at']).astimezone(timezone):%Y-%m-%d}"


def _unfinished(scope: Scope, facts: dict[str, Any]) -> str:
    out = "" if str(scope.out) == "out" else f" --out {shlex.quote(str(scope.out))}"
    job = "" if facts["job"] == "default" else f" --job {shlex.quote(facts['job'])}"
    state = facts.get("state")
    how = "running, or killed" if state == "running" else str(state)
    return f"run {facts['run_id']} ({how}): mediabatch resume {facts['run_id']}{out}{job}"


def _counted(count: int, what: str, many: str | None = None) -> str:
    return f"{count:,} {what if count == 1 else many or what + 's'}"


def _hint(scope: Scope) -> None:
    """Where there is nothing to see: why, on stderr."""
    if scope.run_id is not None or scope.runs():
        return
    others = Scope(scope.out, scope.job, None, not scope.rehearsals).runs()
    if others and not scope.rehearsals:
        click.echo("there are rehearsals only; to see them: --rehearsals", err=True)
    elif not others:
        jobs = sorted(
            {facts["job"] for real in (True, False) for facts in Scope(scope.out, rehearsals=real).runs()}
        )
        click.echo(f"no run of job {scope.job!r} here; there are {', '.join(jobs) or 'none'}", err=True)
