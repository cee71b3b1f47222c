"""`report --html`: the store in pictures and tables, for the person who opens it at seven in the morning."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from jobs.pages import report_figures as figures
from jobs.pages import report_lines as lines_of
from jobs.pages.rendering import render
from jobs.pages.runs import newest_of, run_rows
from jobs.report_view import View, days_named, named, resume_command, scope_words
from jobs.wording import about, amount, change, money
from pipeline.report import counted


def report_page(view: View, run_id: str | None) -> str:
    """The page. ``run_id``: whose course is drawn; None: the newest that sent anything."""
    lines = counted(view.scope, ("day", "model"))
    newest = newest_of(view, run_id)
    return render(
        "report.html",
        ("page.js",),
        title=f"{named(view.scope)} · mediabatch",
        heading=named(view.scope),
        period=days_named(view),
        runs=len(view.runs),
        made_at=f"{datetime.now(UTC).astimezone(view.scope.timezone):%Y-%m-%d %H:%M}",
        timezone=view.scope.timezone.key,
        rehearsals=view.scope.rehearsals,
        repriced=view.scope.book is not None,
        verdict=_verdict(view),
        alarms=_alarms(view),
        tiles=_tiles(view),
        spend_figures=figures.spend_by_day(view),
        modalities=lines_of.by_modality_table(view),
        days=lines_of.by_day_table(view, lines),
        models=lines_of.by_model_table(view, lines),
        model_figures=figures.costs_by_model(view, lines),
        outcome_figure=figures.outcomes_by_day(view, lines),
        failures=lines_of.failure_table(view),
        newest=newest,
        newest_figures=figures.course_figures(newest),
        limits=newest.limits() if newest else None,
        runs_table=run_rows(view),
        estimate_figures=figures.beside_estimates(view),
        dearest=lines_of.dearest_table(view),
        unseen=lines_of.unseen_table(view),
        asides=list(view.asides()),
    )


def _verdict(view: View) -> str:
    outcomes = view.outcomes
    if not outcomes.items:
        return "Nothing has ended here yet."
    share = outcomes.ok / outcomes.items
    # 99.96% are not 100%: what is left over is what the morning is about.
    told = "all" if outcomes.ok == outcomes.items else f"{min(share, 0.999):.1%} of"
    sentence = f"{outcomes.ok:,} answered, {told} {outcomes.items:,} items"
    failed = sum(alike.items for alike in outcomes.failed)
    if failed:
        sentence += f"; {failed:,} failed"
    if outcomes.not_answered:
        sentence += f"; {outcomes.not_answered:,} not asked yet"
    return sentence + "."


def _alarms(view: View) -> list[tuple[str, str, str | None]]:
    """(how bad, sentence, what to type) of all that needs a person."""
    told: list[tuple[str, str, str | None]] = []
    if view.unfinished:
        *older, newest = view.unfinished
        state = "running, or killed" if newest.get("state") == "running" else str(newest.get("state"))
        more = f" So are {len(older):,} before it." if older else ""
        for halt in newest.get("halts") or []:
            told.append(("bad", f"{halt['error_class']}: {halt['message']}", None))
        told.append(
            (
                "warn",
                f"Run {newest['run_id']} is unfinished ({state}).{more}",
                resume_command(view.scope, newest),
            )
        )
    if view.outcomes.unseen:
        told.append(
            (
                "bad",
                f"Media of {view.outcomes.unseen:,} answered items were not seen: the endpoint dropped them.",
                "mediabatch reprocess --where seen=no --dry-run"
                + scope_words(view.scope.out, view.scope.job),
            )
        )
    told += [
        ("warn", f"No price is known for {line.unpriced_tokens:,} tokens of {line.keys[0]}: "
                 "their cost is null, not zero.", None)
        for line in view.unpriced
    ]  # fmt: skip
    for one in view.possibly:
        cost = "an unknown amount"
        if one.possible_cost is not None:
            cost = f"{one.currency or 'some'} {amount(one.possible_cost)}"
        told.append(
            (
                "note",
                f"{one.attempts:,} attempts of {one.model} broke off once sent. They may have been billed, "
                f"{cost} perhaps, which is not in these costs.",
                None,
            )
        )
    return sorted(told, key=lambda one: ("bad", "warn", "note").index(one[0]))


def _tiles(view: View) -> list[tuple[str, str, str]]:
    """(what, a figure, what more there is to say)"""
    outcomes = view.outcomes
    failed = sum(alike.items for alike in outcomes.failed)
    share = f"{failed / outcomes.items:.1%} of all items" if outcomes.items else ""
    cut_off = (
        f"{outcomes.cut_off:,} cut off by length" if outcomes.cut_off else f"of {outcomes.items:,} items"
    )
    days = [line for line in view.days if line.cost]
    more = change(days[-2].cost, days[-1].cost) if len(days) > 1 else ""
    tiles = [
        ("answered", f"{outcomes.ok:,}", cut_off),
        ("failed", f"{failed:,}", share),
    ]
    if days:
        tiles.append(
            (
                f"cost on {days[-1].keys[0]}",
                _short(days[-1].cost),
                f"{more} on the day before" if more else "",
            )
        )
    tiles.append(("cost of all tries", _short(view.all.cost), f"exactly {money(view.all.cost)}"))
    tiles.append(("a thousand answers", _short(view.per_thousand), "with all that was paid for besides"))
    if view.failed_tries:
        tiles.append(("paid for no answer", _short(view.failed_tries), "blocked, cut off or repeated tries"))
    return tiles


def _short(cost: dict[str, Decimal]) -> str:
    """Cents from a unit up, three digits below."""
    shown = [
        f"{currency} {value:,.2f}" if value >= 1 else f"{currency} {value:.3g}"
        if value >= Decimal("0.0001") else f"{currency} {about(float(value))}" if value else f"{currency} 0"
        for currency, value in sorted(cost.items())
    ]  # fmt: skip
    return ", ".join(shown) or "—"
