"""The default view of `report`: how every item stands, what all of it has cost, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from rich.text import Text

from jobs.report_tables import COUNTS, console, dearest_table, last_days, outcome_table, spend_table
from jobs.wording import about, amount, change, counted, money
from pipeline.report import (
    Dear,
    Line,
    Outcomes,
    PossiblyBilled,
    Scope,
    by_minute,
    dearest,
    failed_tries,
    folded,
    outcomes_in,
    reported,
    spent,
)
from pipeline.report import possibly_billed as billed_perhaps
from pipeline.store.places import Place

DEAREST = 5
MILLIONTH = Decimal("0.000001")
_KEYS = ("day", "model", "modality", "direction")
_DAY, _MODEL, _MODALITY, _DIRECTION = range(4)


class View:
    """The default view, gathered."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.runs = scope.runs()
        self.outcomes: Outcomes = outcomes_in(scope)
        self.cube = cube = spent(scope, _KEYS)  # day, model, modality, direction
        self.by_modality = folded(cube, (_DIRECTION, _MODALITY))
        self.by_day = folded(cube, (_DAY, _MODEL))
        (self.all,) = folded(cube, ()) or [Line(())]
        self.unpriced = [line for line in folded(cube, (1,)) if line.unpriced_tokens]
        self.possibly: list[PossiblyBilled] = billed_perhaps(scope)
        self.reported = reported(scope)
        self.failed_tries = failed_tries(scope)
        self.by_minute = by_minute(folded(cube, (_MODEL, _DIRECTION, _MODALITY)))
        self.days = folded(cube, (_DAY,))

    @cached_property
    def dearest(self) -> list[Dear]:
        return dearest(self.scope, DEAREST)

    @property
    def per_thousand(self) -> dict[str, Decimal]:
        """What a thousand answered items cost, with all that was paid for besides."""
        items = self.outcomes.ok
        return {currency: cost * 1000 / items for currency, cost in self.all.cost.items()} if items else {}

    @property
    def unfinished(self) -> list[dict[str, Any]]:
        """Runs with something left to do: what one that stopped had set aside may have been asked since."""
        return [
            facts
            for facts in self.runs
            if facts.get("state", "done") != "done"
            and (facts["run_id"] in self.outcomes.left_by or not _is_at_rest(facts))
        ]

    def show(self) -> None:
        screen = console()
        outcomes = self.outcomes
        rehearsed = "; rehearsals, nothing of this was spent" if self.scope.rehearsals else ""
        screen.print(f"{named(self.scope)}: {counted(len(self.runs), 'run')}{_named_days(self)}{rehearsed}")
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
                    f"media of {counted(outcomes.unseen, 'answered item')}: the endpoint dropped them; list "
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
        if self.dearest:
            screen.print(dearest_table(self.dearest))
        screen.print(f"all tries  {money(self.all.cost)}; the latest answers alone {money(outcomes.cost)}")
        for aside in self.asides():
            screen.print(aside, soft_wrap=True)
        if self.reported is not None:
            screen.print(
                f"the endpoint itself reports {amount(self.reported.reported)} for "
                f"{counted(self.reported.replies, 'reply', 'replies')}; by the price book they cost "
                f"{money(self.reported.cost)}",
                soft_wrap=True,
            )
        for one in self.possibly:
            screen.print(
                f"possibly billed  {counted(one.attempts, 'attempt')} of {one.model} broke off once sent, "
                f"and may have cost {_possible(one)}; not in these costs",
                soft_wrap=True,
            )

    def asides(self) -> Iterator[str]:
        """What else there is to say of the money, in sentences."""
        if self.failed_tries:
            yield f"of that, tries that were no answer cost {money(self.failed_tries)}"
        if self.per_thousand:
            yield f"a thousand answered items cost {_about(self.per_thousand)}"
        for modality, (minutes, costs) in self.by_minute.items():
            if costs:
                some = f"{minutes:,.1f} minutes, by its tokens"
                yield f"a minute of {modality} costs {_about(costs)} (some {some})"
        if len(self.days) > 1:
            before, last = self.days[-2:]
            more = change(before.cost, last.cost)
            if more:
                than = f"{before.keys[0]} ({money(before.cost)})"
                yield f"{last.keys[0]} cost {money(last.cost)}, {more} on {than}"

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
            "cost_of_failed_tries": _money_json(self.failed_tries),
            "cost_per_1000_answered": {
                currency: amount(cost.quantize(MILLIONTH)) for currency, cost in self.per_thousand.items()
            },
            "by_minute": {
                modality: {
                    "minutes": float(round(minutes, 3)),
                    "cost": {currency: amount(cost.quantize(MILLIONTH)) for currency, cost in costs.items()},
                }
                for modality, (minutes, costs) in self.by_minute.items()
            },
            "dearest": [{**asdict(one), "cost": amount(one.cost)} for one in self.dearest],
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
            "by_modality": [line_json(("direction", "modality"), line) for line in self.by_modality],
            "by_day": [line_json(("day", "model"), line) for line in self.by_day],
        }


def line_json(keys: Sequence[str], line: Line) -> dict[str, Any]:
    counts = {name: getattr(line, name) for name in COUNTS if getattr(line, name) is not None}
    return {
        **dict(zip(keys, line.keys, strict=True)),
        **counts,
        "tokens": line.tokens,
        "unpriced_tokens": line.unpriced_tokens,
        "cost": _money_json(line.cost),
    }


def _money_json(cost: dict[str, Decimal]) -> dict[str, str]:
    return {currency: amount(value) for currency, value in sorted(cost.items())}


def _possible(one: PossiblyBilled) -> str:
    if one.possible_cost is None:
        return "an unknown amount"
    return f"{one.currency or 'some'} {amount(one.possible_cost)}"


def named(scope: Scope) -> str:
    what = f"job {scope.job}" if scope.job else "all jobs"
    return what if scope.run_id is None else f"run {scope.run_id} of {what}"


def days_named(view: View) -> str:
    """``2026-03-05``, or ``2026-03-05 to 2026-03-06``; nothing where there is no run."""
    days = sorted({_facts_day(facts, view.scope.timezone) for facts in view.runs})
    if not days:
        return ""
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _named_days(view: View) -> str:
    days = days_named(view)
    return f", {days}" if days else ""


def _facts_day(facts: dict[str, Any], timezone: ZoneInfo) -> str:
    """The day on which a run started."""
    return f"{datetime.fromisoformat(facts['started_at']).astimezone(timezone):%Y-%m-%d}"


def _is_at_rest(facts: dict[str, Any]) -> bool:
    """Whether what it has not attempted is on record."""
    return facts["state"] != "running" and ("finished_at" in facts or "settled_at" in facts)


def _unfinished(scope: Scope, facts: dict[str, Any]) -> str:
    state = facts.get("state")
    how = "running, or killed" if state == "running" else str(state)
    return f"run {facts['run_id']} ({how}): {resume_command(scope, facts)}"


def resume_command(scope: Scope, facts: dict[str, Any]) -> str:
    return f"mediabatch resume {facts['run_id']}{scope_words(scope.out, facts['job'])}"


def scope_words(out: Place, job: str | None) -> str:
    """The options that name a store and a job, where they are not the usual ones."""
    of_out = "" if str(out) == "out" else f" --out {shlex.quote(str(out))}"
    return of_out + ("" if job in (None, "default") else f" --job {shlex.quote(str(job))}")


def _about(cost: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{currency} {about(float(value))}" for currency, value in cost.items())
