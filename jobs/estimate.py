"""`mediabatch estimate`: what a run would cost and how long it would take, by looking at its media."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import anyio
import click
import orjson
from rich.table import Table

from jobs.options import option, plainly
from jobs.report_tables import console, plain_table
from jobs.run import planned, run, signed_manifest
from jobs.wording import about, counted, lasting
from pipeline.estimates import keep
from pipeline.estimating import Band, Estimate, estimate_run
from pipeline.plan import Plan
from pipeline.pricing import ListPrices

SAMPLE = 200


def _options_of_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """All of them, so that one word makes of a night's command its estimate."""
    for parameter in reversed(run.params):
        decorated: list[click.Parameter] = command.__dict__.setdefault("__click_params__", [])
        decorated.append(parameter)
    return command


@click.command()
@_options_of_run
@option(
    "--sample",
    type=click.IntRange(1),
    default=SAMPLE,
    show_default=True,
    help="How many requests of each kind of media to look at.",
)
@click.pass_context
@plainly
def estimate(ctx: click.Context, /, **options: Any) -> None:
    """What `run MANIFEST` with the same options would cost, and how long it would take.

    Media are looked at, a sample of them: their first bytes, and the last of sound and video, by range
    requests to their hosts. The endpoint is not asked, and nothing is spent.

    Until the store has replies of the model, token rules tell, and the band from low to high is wide. A
    canary (`run --limit 50`) makes it narrow: what it came to is then compared with what the rules say.
    """
    plan = planned(ctx, options)
    told = anyio.run(_estimated, plan, options["sample"], signed_manifest(options))
    keep(plan, told.digest, _facts(told))
    if options["as_json"]:
        click.echo(orjson.dumps(_facts(told), option=orjson.OPT_INDENT_2).decode())
    else:
        _show(told, plan)


async def _estimated(plan: Plan, sample: int, address: str | None) -> Estimate:
    return await estimate_run(plan, ListPrices(), sample=sample, address=address)


def _facts(told: Estimate) -> dict[str, Any]:
    return {
        "rows": told.rows,
        "asked": told.asked,
        "skipped": told.skipped,
        "duplicates": told.duplicates,
        "bad_rows": told.bad,
        "beyond_limit": told.beyond_limit,
        "looked_at": told.looked_at,
        "unreadable": told.unreadable,
        "unreachable": dict(told.unreachable),
        "replies": told.replies,
        "tokens": {direction: _whole(told.tokens(direction)) for direction in ("input", "output")},
        "cost": {currency: _money(band) for currency, band in sorted(told.cost.items())},
        "usage": [
            {
                "modality": unit.modality,
                "direction": unit.direction,
                "kind": unit.kind,
                "tokens": _whole(line.tokens),
                "cost": None if line.cost is None else _money(line.cost),
            }
            for unit, line in sorted(told.lines.items())
        ],
        "unpriced_tokens": round(told.unpriced_tokens),
        "duration_s": None if told.length is None else _whole(told.length.seconds),
        "bound_by": None if told.length is None else told.length.bound_by,
    }


def _whole(band: Band) -> dict[str, int]:
    # Far beyond the last digit of a float's sums, so that what is exact stays so.
    return {
        "low": math.floor(band.low + 1e-6),
        "likely": round(band.likely),
        "high": math.ceil(band.high - 1e-6),
    }


def _money(band: Band) -> dict[str, str]:
    return {"low": f"{band.low:.6f}", "likely": f"{band.likely:.6f}", "high": f"{band.high:.6f}"}


def _show(told: Estimate, plan: Plan) -> None:
    out = console()
    out.print(_rows(told), soft_wrap=True)
    out.print(_looked(told), soft_wrap=True)
    if told.lines:
        out.print(_table(told))
    if told.unpriced_tokens:
        out.print(
            f"no price is known for {round(told.unpriced_tokens):,} of these tokens; give a --price-book"
        )
    if told.length is None:
        out.print("how long it takes is not known before something was answered: give --rpm or --tpm")
    else:
        seconds = told.length.seconds
        what = {"slots": "the slots", "rpm": "--rpm", "tpm": "--tpm"}[told.length.bound_by]
        out.print(
            f"takes about {lasting(seconds.likely)} ({lasting(seconds.low)} to {lasting(seconds.high)}), "
            f"bound by {what}"
        )
    if plan.budget is not None and len(told.cost) == 1:
        (cost,) = told.cost.values()
        budget = float(plan.budget)
        fits = "is enough" if cost.high <= budget else "may stop it" if cost.low <= budget else "stops it"
        out.print(f"a budget of {plan.budget:f} {fits}")
    if not told.replies and told.asked:
        out.print(
            "nothing of this model was answered yet: a canary (mediabatch run … --limit 50) tells more",
            soft_wrap=True,
        )


def _rows(told: Estimate) -> str:
    others = {
        "answered before": told.skipped,
        "asking what another row asks": told.duplicates,
        "bad": told.bad,
        "beyond --limit": told.beyond_limit,
    }
    left = "".join(f", {count:,} {what}" for what, count in others.items() if count)
    return f"{told.asked:,} of {counted(told.rows, 'row')} would be asked{left}"


def _looked(told: Estimate) -> str:
    found = f"{told.looked_at:,} media looked at"
    if told.unreadable:
        found += f", {told.unreadable:,} are none and would fail"
    for why, count in told.unreachable.items():
        found += f"; {count:,} could not be: {why}"
    replies = f"{told.replies:,} replies of the model" if told.replies else "token rules alone"
    return f"{found}; told by {replies}"


def _table(told: Estimate) -> Table:
    table = plain_table("estimate")
    for name in ("direction", "modality", "kind"):
        table.add_column(name)
    for name in ("tokens low", "likely", "high", "cost low", "likely", "high"):
        table.add_column(name, justify="right")
    for unit, line in sorted(told.lines.items(), key=lambda one: (one[0].direction, one[0])):
        table.add_row(unit.direction, unit.modality, unit.kind, *_counts(line.tokens), *_costs(line.cost))
    table.add_section()
    for direction in ("input", "output"):
        table.add_row(direction, "all", "", *_counts(told.tokens(direction)))
    for currency, cost in sorted(told.cost.items()):
        table.add_row("all", currency, "", "", "", "", *_costs(cost), style="bold")
    return table


def _counts(band: Band) -> list[str]:
    return [f"{count:,}" for count in _whole(band).values()]


def _costs(band: Band | None) -> list[str]:
    if band is None:
        return ["unknown"] * 3
    return [about(band.low), about(band.likely), about(band.high)]
