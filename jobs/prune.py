"""`mediabatch prune`: retention."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta

import click
import orjson

from jobs.days import Ago, Day
from jobs.options import Fault, config_option, job_option, json_option, option, out_option, plainly
from jobs.wording import counted
from pipeline.pruning import Pruned
from pipeline.pruning import prune as prune_store
from pipeline.store.places import Place


@click.command()
@config_option
@out_option
@job_option
@option(
    "--keep",
    type=Day(),
    required=True,
    help="How far back everything is kept: 90d, or the first day to keep, such as 2026-08-25 (UTC).",
)
@click.option("--dry-run", is_flag=True, help="Show what would go, and change nothing.")
@json_option
@plainly
def prune(out: Place, job: str, keep: Ago, dry_run: bool, as_json: bool) -> None:
    """Let go of what is older than --keep and superseded, of one job.

    Answers stay: the latest outcome of every item, and whatever later runs skip by. Costs stay, all of them,
    so that every bill is what it was. What goes are outcomes that a later one has replaced, attempts,
    ledgers, and rehearsals. Run it while the job does not run.
    """
    pruned = prune_store(out, job, _before(keep, datetime.now(UTC)), is_dry=dry_run)
    if as_json:
        click.echo(orjson.dumps(asdict(pruned), option=orjson.OPT_INDENT_2).decode())
        return
    for note in pruned.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(_sentence(pruned, dry_run))


def _before(keep: Ago, now: datetime) -> datetime:
    if isinstance(keep, timedelta):
        if keep < timedelta(0):
            raise Fault("--keep: a number of days such as 90d, not less than none")
        return now - keep
    assert isinstance(keep, date)
    return datetime.combine(keep, time(), UTC)


def _sentence(pruned: Pruned, dry_run: bool) -> str:
    counts = [
        (pruned.results, "superseded outcome", None),
        (pruned.attempts, "attempt", None),
        (pruned.rest, "row at rest", "rows at rest"),
        (pruned.costs, "token count of rehearsals", "token counts of rehearsals"),
        (pruned.ledgers, "ledger", None),
    ]
    what = ", ".join(counted(count, one, many) for count, one, many in counts if count) or "nothing"
    older = counted(pruned.runs, "run is older", "runs are older")
    if dry_run:
        return f"{older}; {what} would go; leave out --dry-run to let go of it"
    return f"{older}; {what} went: {pruned.freed_bytes / 1e6:,.1f} MB"
