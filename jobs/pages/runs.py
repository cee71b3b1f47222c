"""Runs on the page: the newest one's course and what limited it, and all of them beside their estimates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from jobs.pages.tables import Cell, Column, Table, currencies, failed_cell
from jobs.report_view import View
from jobs.wording import lasting
from pipeline.report import Course, course_of

_LIMITS: Final = {
    "slots": "the slots were all taken: the endpoint's own pace, or --concurrency",
    "rpm": "requests a minute (--rpm)",
    "tpm": "tokens a minute (--tpm)",
    "hold": "a hold: the endpoint had asked everybody to wait",
    "outage": "an outage: nobody answered",
    "budget": "the budget: nothing was sure to fit",
}

_LEAST_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Newest:
    """The run whose course is drawn."""

    facts: dict[str, Any]
    course: Course | None
    timezone: ZoneInfo

    @property
    def run_id(self) -> str:
        return str(self.facts["run_id"])

    @property
    def told(self) -> str:
        """State, pace, and what told it to slow down, in a line."""
        parts = [str(self.facts.get("state", "done"))]
        if self.course is not None:
            pace = self.course.answered / self.course.elapsed_s
            took_s = self.course.elapsed_s
            took = f"{took_s:.1f} s" if took_s < 10 else lasting(took_s)
            parts.append(f"{self.course.answered:,} answers in {took}")
            parts.append(f"{pace:,.3g} a second")
            throttled = sum(one.throttled for one in self.course.moments)
            if throttled:
                times = "once" if throttled == 1 else f"{throttled:,} times"
                parts.append(f"told to slow down {times} (429)")
        return ", ".join(parts)

    def clock(self, instant: datetime) -> str:
        """The wall clock of the report's zone, in the form of an instant in UTC: pictures know no zones."""
        return instant.astimezone(self.timezone).replace(tzinfo=None).isoformat() + "Z"

    def limits(self) -> Table | None:
        """For how long items waited for what; None where the run does not say."""
        limited_s = (self.facts.get("pace") or {}).get("limited_s") or {}
        if not limited_s:
            return None
        table = Table(
            "What limited it", [Column("limit"), Column("seconds", "number"), Column("means", "long")]
        )
        whole = sum(limited_s.values())
        for name, seconds in sorted(limited_s.items(), key=lambda one: -one[1]):
            if seconds >= _LEAST_S:
                share = seconds / whole if whole else None
                table.add(name, Cell(f"{seconds:,.1f}", str(seconds), share), _LIMITS.get(name, ""))
        return table if table.rows else None


def newest_of(view: View, run_id: str | None) -> Newest | None:
    """The run of that name, else the newest one in which something came back; None where there is none."""
    for facts in reversed(view.runs):
        if run_id not in (None, facts["run_id"]):
            continue
        course = course_of(view.scope, facts["run_id"])
        if course is not None or run_id is not None:
            return Newest(facts, course, view.scope.timezone)
    return None


def run_rows(view: View) -> Table:
    """All runs, newest first, as their run.json tells them."""
    totals = [facts.get("totals") or {} for facts in view.runs]
    costs = currencies(
        [{name: Decimal(text) for name, text in (one.get("cost") or {}).items()} for one in totals]
    )
    has_estimates = any((facts.get("estimate") or {}).get("cost") for facts in view.runs)
    has_pace = any((facts.get("pace") or {}).get("limited_s") for facts in view.runs)
    table = Table(
        "Runs",
        [Column("run"), Column("started"), Column("took", "number"), Column("state"),
         Column("answered", "number"), Column("failed", "number"), Column("skipped", "number"),
         Column("not asked", "number"),
         *(Column(f"cost, {currency}", "money") for currency in costs),
         *([Column("estimated"), Column("off", "number")] if has_estimates else []),
         *([Column("limited by")] if has_pace else [])],
    )  # fmt: skip
    for facts, one in zip(reversed(view.runs), reversed(totals), strict=True):
        state = facts.get("state", "done")
        table.add(
            facts["run_id"],
            f"{datetime.fromisoformat(facts['started_at']).astimezone(view.scope.timezone):%Y-%m-%d %H:%M}",
            _took(facts),
            Cell(state, is_bad=state != "done"),
            one.get("ok"),
            failed_cell(one.get("failed")),
            one.get("skipped"),
            one.get("not_attempted"),
            *(Decimal(cost[name]) if name in (cost := one.get("cost") or {}) else None for name in costs),
            *(_beside_estimate(facts, one) if has_estimates else []),
            *([_limit(facts)] if has_pace else []),
        )  # fmt: skip
    return table.cut().aligned()


def _took(facts: dict[str, Any]) -> Cell | None:
    if not facts.get("finished_at"):
        return None
    took = datetime.fromisoformat(facts["finished_at"]) - datetime.fromisoformat(facts["started_at"])
    return Cell(lasting(took.total_seconds()), f"{took.total_seconds():.1f}")


def _beside_estimate(facts: dict[str, Any], totals: dict[str, Any]) -> list[Cell | None]:
    """What was foretold, and by how much it was off."""
    foretold = (facts.get("estimate") or {}).get("cost") or {}
    bands, offs = [], []
    for currency, band in sorted(foretold.items()):
        low, likely, high = (float(band[end]) for end in ("low", "likely", "high"))
        bands.append(f"{currency} {likely:.3g} ({low:.3g} to {high:.3g})")
        actual = (totals.get("cost") or {}).get(currency)
        if likely and actual is not None and facts.get("state", "done") == "done":
            off = float(actual) / likely - 1
            offs.append(
                Cell(f"{off:+.0%}".replace("-0%", "+0%"), repr(off), is_bad=not low <= float(actual) <= high)
            )
    return [Cell("; ".join(bands)) if bands else None, offs[0] if len(offs) == 1 else None]


def _limit(facts: dict[str, Any]) -> str | None:
    limited_s = (facts.get("pace") or {}).get("limited_s") or {}
    name = max(limited_s, key=limited_s.__getitem__, default=None)
    return name if name is not None and limited_s[name] else None
