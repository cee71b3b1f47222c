"""`mediabatch status`: a run seen from another terminal, or all runs of the store."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import orjson
from rich import box
from rich.table import Table
from rich.text import Text

from jobs.options import config_option, json_option, out_option, plainly
from jobs.report_tables import console
from jobs.wording import amount, counted, lasting, money, rounded
from pipeline.store.places import Place
from pipeline.watching import Sight, sight, sights

WIDE = 100
_NUMBERS = ("rows", "ok", "failed", "cost")
STYLES = {"done": "green", "running": "cyan", "halted": "red", "killed": "red"}


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@config_option
@out_option
@json_option
@plainly
def status(run_id: str | None, out: Place, as_json: bool) -> None:
    """Show how RUN stands, also while it goes on; without RUN, list all runs of the store.

    It only reads, and does not disturb the run. What a run skips is known when it ends.
    """
    seen = [sight(out, run_id)] if run_id else sights(out)
    if as_json:
        told: Any = [_facts(one) for one in seen]
        click.echo(orjson.dumps(told[0] if run_id else {"runs": told}, option=_JSON).decode())
    elif run_id:
        _show(seen[0])
    elif seen:
        _list(seen)
    else:
        click.echo(f"no run in {out} yet")


_JSON = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z


def go_on_with(one: Sight) -> str:
    """What to type next; nothing where there is nothing to do."""
    out = "" if str(one.plan.out) == "out" else f" --out {shlex.quote(str(one.plan.out))}"
    job = "" if one.plan.job == "default" else f" --job {shlex.quote(one.plan.job)}"
    if one.state == "running" or (one.state != "done" and "pruned_at" in one.facts):
        return ""
    if one.state == "budget":
        more = "--budget NEW_TOTAL" if one.plan.budget is not None else "--budget-per-day AMOUNT"
        return f"mediabatch resume {one.plan.run_id}{out}{job} {more}"
    if one.state != "done":
        return f"mediabatch resume {one.plan.run_id}{out}{job}"
    if one.failed and not one.plan.is_rehearsal:
        return f"mediabatch reprocess --dry-run{out}{job}"
    return ""


def _facts(one: Sight) -> dict[str, Any]:
    return {
        "run_id": one.plan.run_id,
        "job": one.plan.job,
        "state": one.state,
        "endpoint": one.plan.endpoint,
        "model": one.plan.model,
        "manifest": one.plan.manifest,
        "started_at": one.plan.started_at,
        "finished_at": one.facts.get("finished_at"),
        "last_at": one.last_at,
        "rows": one.rows,
        "ok": one.ok,
        "failed": one.failed,
        "skipped": one.skipped,
        "not_attempted": one.not_attempted,
        "left": one.left,
        "in_flight": one.in_flight,
        "per_s": None if one.per_s is None else round(one.per_s, 2),
        "possibly_billed": one.possibly_billed,
        "cost": {currency: amount(cost) for currency, cost in sorted(one.cost.items())},
        "budget": None if one.plan.budget is None else f"{one.plan.budget:f}",
        "errors": dict(one.tally.errors.most_common()) if one.tally else None,
        "pace": one.facts.get("pace"),
        "go_on_with": go_on_with(one) or None,
    }


def _show(one: Sight) -> None:
    said = console()
    said.print(
        Text.assemble(
            f"run {one.plan.run_id}, job {one.plan.job}: ", (one.state, STYLES.get(one.state, "yellow"))
        )
    )
    said.print(f"asks {one.plan.model} at {one.plan.endpoint}", soft_wrap=True)
    said.print(f"about {one.plan.manifest}", soft_wrap=True)
    of_all = "" if one.rows is None else f" of {counted(one.rows, 'row')}"
    counts = [f"{one.ok:,} ok", f"{one.failed:,} failed"]
    if one.skipped:
        counts.append(f"{one.skipped:,} skipped")
    if one.not_attempted:
        counts.append(f"{one.not_attempted:,} not attempted")
    said.print(f"{one.ok + one.failed:,}{of_all} answered: {', '.join(counts)}")
    if one.in_flight is not None:
        pace = f", {one.per_s:,.1f}/s of late" if one.per_s else ""
        last = f", the last {_ago(one.last_at)}" if one.last_at else ""
        said.print(f"{one.in_flight:,} under way{pace}{last}")
        if one.state == "running" and one.per_s and one.left:
            said.print(f"{lasting(one.left / one.per_s)} left, fewer where rows are skipped")
    cap = "" if one.plan.budget is None else f" of {one.plan.budget:f}"
    said.print(f"{money(one.cost)}{cap} spent")
    if one.possibly_billed:
        said.print(f"{counted(one.possibly_billed, 'attempt')} may have been billed")
    if one.tally and one.tally.errors:
        for name, count in one.tally.errors.most_common():
            _, sentence = one.tally.first_errors[name]
            said.print(Text.assemble((f"{name} {count:,}", "red"), f": {sentence}"), soft_wrap=True)
    for halt in one.facts["halts"]:
        said.print(Text.assemble(("halted ", "red"), f"{halt['message']}"), soft_wrap=True)
    if go_on_with(one):
        said.print(f"next: {go_on_with(one)}", soft_wrap=True)


def _list(seen: Sequence[Sight]) -> None:
    """A line a run, the newest last; then what to type for those that can go on."""
    said = console()
    is_wide = said.width >= WIDE
    columns = ["run", "state", "ok", "failed", "cost", "go on with"]
    if is_wide:
        columns = ["started (UTC)", "run", "state", "rows", *columns[2:]]
    if len({one.plan.job for one in seen}) > 1:
        columns.insert(0, "job")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True, justify="right" if name in _NUMBERS else "left")
    for one in seen:
        cells: dict[str, str | Text] = {
            "started (UTC)": f"{one.plan.started_at.astimezone(UTC):%Y-%m-%d %H:%M}",
            "run": one.plan.run_id,
            "job": one.plan.job,
            "state": Text(one.state, style=STYLES.get(one.state, "yellow")),
            "rows": "?" if one.rows is None else f"{one.rows:,}",
            "ok": f"{one.ok:,}",
            "failed": f"{one.failed:,}",
            "cost": _rounded(one),
            "go on with": _verb(one),
        }
        table.add_row(*(cells[name] for name in columns))
    said.print(table)
    newest = {_verb(one): go_on_with(one) for one in seen if _verb(one)}
    for verb, command in newest.items():
        said.print(f"{verb}: {command}", soft_wrap=True)


def _verb(one: Sight) -> str:
    """The command that goes on: ``resume`` or ``reprocess``."""
    return go_on_with(one).removeprefix("mediabatch ").partition(" ")[0]


def _rounded(one: Sight) -> str:
    """`status RUN` has it exactly."""
    if one.plan.is_rehearsal:
        return "rehearsed"
    return money({currency: rounded(cost) for currency, cost in one.cost.items()}) if one.cost else ""


def _ago(then: datetime) -> str:
    return f"{lasting(max(0.0, (datetime.now(UTC) - then).total_seconds()))} ago"
