"""`mediabatch report`: what stands in the store, as tables, one JSON object, or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson
import polars as pl

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
from jobs.report_tables import COUNTS, by_table, console
from jobs.report_view import View, line_json
from jobs.wording import amount
from pipeline.pricing import Layered, ListPrices, TomlBook
from pipeline.records import EMBEDDED
from pipeline.report import KEYS, Line, Scope, by
from pipeline.store.places import Place
from pipeline.store.reader import run_facts
from pipeline.store.schemas import COST

SAMPLE = 200
WHOLE_TABLE = ("day", "model", "direction", "modality", "kind")
"""By what CSV and Parquet are, where nobody says."""


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
@click.option("--parquet", type=click.Path(path_type=Path), help="Write the table of --by to this file.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it as one page, with pictures, that opens anywhere; needs mediabatch[html].",
)
@click.option(
    "--gallery",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page of items, each with its media beside what the model said.",
)
@click.option(
    "--sample",
    type=click.IntRange(1),
    default=SAMPLE,
    show_default=True,
    help="How many items the gallery shows, drawn by lot.",
)
@click.option(
    "--where",
    "clauses",
    multiple=True,
    metavar="CLAUSE",
    help="Which items the gallery shows, as `reprocess --where` chooses them; answered ones too.",
)
@click.pass_context
@plainly
def report(
    ctx: click.Context,
    out: Place,
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
    parquet: Path | None,
    html: Path | None,
    gallery: Path | None,
    sample: int,
    clauses: tuple[str, ...],
) -> None:
    """Show the latest outcome of every item of the job, and what all runs of it have cost.

    Costs are those of all tries that were paid for; what has no price is counted in tokens, and what may have
    been billed is told apart. --by cuts tokens and cost as you like, as in --by day,model; with --by job,
    over all jobs.

    --html and --gallery write pages instead of tables: the same figures in pictures, and items to look at.
    """
    wanted = tuple(dict.fromkeys(key for some in keys for key in some))
    if as_csv and as_json:
        raise Fault("--csv and --json exclude each other")
    if clauses and gallery is None:
        raise Fault("--where chooses what --gallery shows: add --gallery FILE")
    if not wanted and (as_csv or parquet is not None):
        wanted = WHOLE_TABLE
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
    if gallery is not None:
        from jobs.pages.gallery_page import gallery_page  # templates and media are for pages alone

        _write_page(gallery_page(scope, clauses, sample), "--gallery", gallery)
    if wanted:
        lines = by(scope, wanted)
        if parquet is not None:
            _write_parquet(_frame(wanted, lines), parquet)
        if as_csv:
            click.echo(_csv(_frame(wanted, lines)), nl=False)
        elif as_json:
            click.echo(_dumps({"by": wanted, "lines": [line_json(wanted, line) for line in lines]}))
        elif parquet is None:
            console().print(by_table(wanted, lines))
    if html is not None or not (wanted or (gallery is not None and not as_json)):
        view = View(scope)
        if html is not None:
            from jobs.pages.report_page import report_page

            _write_page(report_page(view, run_id), "--html", html)
        if not wanted:
            if as_json:
                click.echo(_dumps(view.as_json()))
            elif html is None:
                view.show()
    _hint(scope)


def _write_page(page: str, option: str, path: Path) -> None:
    from jobs.pages.rendering import write

    size_bytes = write(page, option, path)
    click.echo(f"{path}: {size_bytes / 1e6:,.1f} MB", err=True)


def _frame(keys: Sequence[str], lines: Sequence[Line]) -> pl.DataFrame:
    """A column for each currency, named by it: currencies are never added."""
    currencies = sorted({currency for line in lines for currency in line.cost})
    counts = [name for name in COUNTS if any(getattr(line, name) is not None for line in lines)]
    columns = {key: [line.keys[place] for line in lines] for place, key in enumerate(keys)}
    numbers = {
        name: [getattr(line, name) for line in lines] for name in (*counts, "tokens", "unpriced_tokens")
    }
    costs = {f"cost_{currency}": [line.cost.get(currency) for line in lines] for currency in currencies}
    return pl.DataFrame(
        {**columns, **numbers, **costs},
        schema={
            **dict.fromkeys(columns, pl.String()),
            **dict.fromkeys(numbers, pl.Int64()),
            **dict.fromkeys(costs, COST),
        },
    )


def _csv(table: pl.DataFrame) -> str:
    exact = [
        pl.Series(one.name, [None if x is None else amount(x) for x in one])
        for one in table
        if one.dtype == COST
    ]
    return table.with_columns(exact).write_csv()


def _write_parquet(table: pl.DataFrame, path: Path) -> None:
    try:
        table.write_parquet(path)
    except OSError as error:
        raise Fault(f"--parquet {path}: cannot be written ({error.strerror or error})") from None


def _dumps(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode()


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
