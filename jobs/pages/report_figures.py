"""The pictures of `report --html`: which figures go into each, and what it shows in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from markupsafe import Markup

from jobs.pages import charts
from jobs.pages.runs import Newest
from jobs.pages.tables import SERIES, currencies, series_of
from jobs.report_view import View
from jobs.wording import amount
from pipeline.report import Line, folded

_DAYS_AS_DAYS: Final = 100
_DAYS_AS_WEEKS: Final = 700
_RUNS_SHOWN: Final = 90
_MODELS_SHOWN: Final = 12
_DAY, _MODEL, _MODALITY, _DIRECTION = range(4)  # of the view's cube


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture with what its colours mean: (series, word) each."""

    picture: Markup
    legend: Sequence[tuple[str, str]] = ()


def _legend(names: Sequence[str]) -> list[tuple[str, str]]:
    words = {"output": "output", "image+video": "image or video", "unattributed": "nobody says what"}
    return [(name.replace("+", "-"), words.get(name, f"{name} in")) for name in names]


def spend_by_day(view: View) -> list[Figure]:
    """One for each currency."""
    lines = folded(view.cube, (_DAY, _DIRECTION, _MODALITY))
    label, days = _calendar([line.keys[0] for line in lines])
    figures = []
    for currency in currencies(line.cost for line in lines):
        sums: dict[tuple[str, str], Decimal] = {}
        for line in lines:
            key = label(line.keys[0]), series_of(line.keys[1], line.keys[2])
            sums[key] = sums.get(key, Decimal(0)) + line.cost.get(currency, Decimal(0))
        names = [name for name in SERIES if any(key[1] == name and cost for key, cost in sums.items())]
        rows = [
            {"day": day, "series": name, "amount": float(cost), "place": SERIES.index(name)}
            for (day, name), cost in sums.items()
        ]
        spec = charts.stacked_days(rows, days, names, currency)
        total = sum((line.cost.get(currency, Decimal(0)) for line in lines), Decimal(0))
        told = f"{currency} {amount(total)} in all, {days[0]} to {days[-1]}; the table has the figures."
        figures.append(
            Figure(charts.drawn(spec, f"Cost by day and modality, {currency}", told), _legend(names))
        )
    return figures


def outcomes_by_day(view: View, lines: Sequence[Line]) -> Figure | None:
    of_days = [line for line in folded(lines, (_DAY,)) if line.items and line.keys[0]]
    if not of_days:
        return None
    label, days = _calendar([line.keys[0] for line in of_days])
    sums: dict[tuple[str, str], int] = {}
    for line in of_days:
        failed = line.failed or 0
        for name, count in (("failed", failed), ("ok", (line.items or 0) - failed)):
            key = label(line.keys[0]), name
            sums[key] = sums.get(key, 0) + count
    rows = [
        {"day": day, "series": name, "amount": count, "place": int(name == "ok")}
        for (day, name), count in sums.items()
    ]
    spec = charts.stacked_days(rows, days, ["failed", "ok"], "items")
    told = "Items that ended in runs, answered and failed; an item counts in every run in which it ended."
    picture = charts.drawn(spec, "Outcomes by day", told)
    return Figure(picture, [("ok", "answered"), ("failed", "failed")])


def costs_by_model(view: View, lines: Sequence[Line]) -> list[Figure]:
    """One for each currency in which two models or more have answers with a price."""
    both = folded([*folded(view.cube, (_MODEL,)), *folded(lines, (_MODEL,))])
    figures = []
    for currency in currencies(line.cost for line in both):
        each = {
            line.keys[0] or "—": float(line.cost[currency] / answered)
            for line in both
            if currency in line.cost and (answered := (line.items or 0) - (line.failed or 0)) > 0
        }
        dearest_first = sorted(each.items(), key=lambda one: -one[1])[:_MODELS_SHOWN]
        if len(dearest_first) > 1:
            few = "; ".join(f"{name} {currency} {cost:.3g}" for name, cost in dearest_first[:3])
            told = f"What an answered item cost, with all tries that were paid for: {few}"
            title = f"Cost of an answer by model, {currency}"
            spec = charts.model_bars(
                [{"name": name, "amount": cost} for name, cost in dearest_first], f"{currency} an answer"
            )
            figures.append(Figure(charts.drawn(spec, title, told)))
    return figures


def course_figures(newest: Newest | None) -> list[tuple[str, Figure]]:
    if newest is None or newest.course is None:
        return []
    course, clock = newest.course, newest.clock
    speed = f"{course.answered:,} answers in {course.elapsed_s:,.3g} s; each point is {course.span_s:g} s."
    slow = f"Median of each {course.span_s:g} s, and what nineteen of twenty answers stayed below."
    return [
        (
            "Throughput",
            Figure(
                charts.drawn(charts.throughput(course, clock), "Throughput over the run", speed),
                [("ok", "answers"), ("failed", "tries that were none")],
            ),
        ),
        (
            "Latency",
            Figure(
                charts.drawn(charts.latency(course, clock), "Latency over the run", slow),
                [("median", "median"), ("slow", "19 of 20 below")],
            ),
        ),
    ]


def beside_estimates(view: View) -> list[Figure]:
    figures = []
    told = [(facts, (facts.get("estimate") or {}).get("cost") or {}) for facts in view.runs]
    for currency in sorted({currency for _, cost in told for currency in cost}):
        rows: list[dict[str, Any]] = []
        for facts, cost in told[-_RUNS_SHOWN:]:
            actual = (facts.get("totals", {}).get("cost") or {}).get(currency)
            if currency in cost and actual is not None:
                ends = {end: float(cost[currency][end]) for end in ("low", "likely", "high")}
                at = datetime.fromisoformat(facts["started_at"]).astimezone(view.scope.timezone)
                rows.append({"run": f"{at.day} {at:%b %H:%M}", **ends, "actual": float(actual)})
        if rows:
            within = sum(row["low"] <= row["actual"] <= row["high"] for row in rows)
            title = f"Estimate against actual cost, {currency}"
            sentence = f"{within} of {len(rows)} runs came to what lies within their estimate's band."
            legend = [("band", "low to high"), ("likely", "likely"), ("accent", "what it came to")]
            figures.append(Figure(charts.drawn(charts.estimates(rows, currency), title, sentence), legend))
    return figures


def _calendar(found: Sequence[str | None]) -> tuple[Callable[[str | None], str], list[str]]:
    """(day → its label, all labels without gaps): days; past a hundred weeks, past two years months."""
    known = sorted(date.fromisoformat(day) for day in found if day)
    if not known:
        return (lambda day: "—"), ["—"]
    first, last = known[0], known[-1]
    length = (last - first).days + 1
    with_year = first.year != last.year

    def label(day: str | None) -> str:
        if day is None:
            return "—"
        at = date.fromisoformat(day)
        if length > _DAYS_AS_WEEKS:
            return f"{at:%Y-%m}"
        if length > _DAYS_AS_DAYS:
            at -= timedelta(days=at.weekday())
        return f"{at:%Y-%m-%d}" if with_year and length > _DAYS_AS_DAYS else f"{at.day} {at:%b}"

    every = [label((first + timedelta(days=number)).isoformat()) for number in range(length)]
    return label, list(dict.fromkeys(every))
