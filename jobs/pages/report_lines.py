"""The tables of `report --html`: lines of the report as cells."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from jobs.pages.tables import SERIES, Cell, Column, Table, currencies, failed_cell, series_of
from jobs.report_view import View
from jobs.wording import amount
from pipeline.report import Line, dearest, folded, unseen_media

DEAREST = 25
_DAY, _MODEL, _MODALITY, _DIRECTION = range(4)  # of the view's cube


def by_modality_table(view: View) -> Table:
    costs = currencies([view.all.cost])
    table = Table(
        "Tokens and cost by modality",
        [Column("direction"), Column("modality"), Column("tokens", "number"),
         *(Column(f"cost, {currency}", "money") for currency in costs), Column("unpriced tokens", "number")],
    )  # fmt: skip
    for line in view.by_modality:
        direction, modality = line.keys
        swatch = series_of(direction, modality).replace("+", "-")
        table.add(
            direction,
            Cell(modality or "—", swatch=swatch),
            line.tokens,
            *(_with_share(line.cost.get(currency), view.all.cost.get(currency)) for currency in costs),
            line.unpriced_tokens or None,
        )
    every = [view.all.cost.get(currency) for currency in costs]
    table.add_total("all", None, view.all.tokens, *every, view.all.unpriced_tokens or None)
    return _without_empty(table.aligned())


def _with_share(cost: Decimal | None, whole: Decimal | None) -> Cell:
    if cost is None:
        return Cell("—")
    return Cell(amount(cost), amount(cost), float(cost / whole) if whole else None)


def by_day_table(view: View, lines: Sequence[Line]) -> Table:
    """A line a day and model: what was spent, and what came of it."""
    both = folded([*folded(view.cube, (_DAY, _MODEL)), *lines])
    both.sort(
        key=lambda line: line.keys[0] or "", reverse=True
    )  # the newest first; models stay in their order
    return _counted_table("By day and model", ("day", "model"), both)


def by_model_table(view: View, lines: Sequence[Line]) -> Table:
    both = folded([*folded(view.cube, (_MODEL,)), *folded(lines, (_MODEL,))])
    return _counted_table("By model", ("model",), both)


def _counted_table(name: str, keys: Sequence[str], lines: Sequence[Line]) -> Table:
    costs = currencies(line.cost for line in lines)
    table = Table(
        name,
        [*(Column(key) for key in keys), *(Column(f"cost, {currency}", "money") for currency in costs),
         *(Column(f"{currency} an answer", "number") for currency in costs), Column("ended", "number"),
         Column("failed", "number"), Column("attempts", "number"), Column("tokens", "number")],
    )  # fmt: skip
    for line in lines:
        table.add(*(key or "—" for key in line.keys), *_counts(line, costs))
    if len(lines) > 1:
        (whole,) = folded(lines, ())
        table.add_total("all", *[""] * (len(keys) - 1), *_counts(whole, costs))
    return table.cut().aligned()


def _counts(line: Line, costs: Sequence[str]) -> list[Any]:
    answered = (line.items or 0) - (line.failed or 0)
    each = [
        float(line.cost[currency] / answered) if answered and currency in line.cost else None
        for currency in costs
    ]
    return [
        *(line.cost.get(one) for one in costs),
        *each,
        line.items,
        failed_cell(line.failed),
        line.attempts,
        line.tokens,
    ]


def failure_table(view: View) -> Table:
    outcomes = view.outcomes
    table = Table(
        "What failed",
        [Column("error class"), Column("items", "number"), Column("for instance"), Column("it says", "long")],
    )
    failed = sum(alike.items for alike in outcomes.failed)
    for alike in outcomes.failed:
        count = Cell(f"{alike.items:,}", str(alike.items), alike.items / failed)
        table.add(alike.error_class, count, alike.item_id, alike.message)
    return table


def dearest_table(view: View) -> Table:
    found = dearest(view.scope, DEAREST)
    table = Table(
        "Dearest items",
        [Column("item"), Column("cost", "money"), Column("currency"), Column("tokens", "number"),
         Column("tries", "number"), Column("status"), Column("model"), Column("run")],
    )  # fmt: skip
    for one in found:
        table.add(
            *(
                one.item_id,
                one.cost,
                one.currency,
                one.tokens,
                one.attempts,
                one.status,
                one.model,
                one.run_id,
            )
        )
    return table.aligned()


def unseen_table(view: View) -> Table:
    table = Table(
        "Media that nobody saw",
        [Column("modality"), Column("model"), Column("endpoint"), Column("items", "number"),
         Column("for instance")],
    )  # fmt: skip
    for one in unseen_media(view.scope) if view.outcomes.unseen else []:
        swatch = one.modality if one.modality in SERIES else None
        table.add(Cell(one.modality, swatch=swatch), one.model, one.endpoint, one.items, one.item_id)
    return table


def _without_empty(table: Table) -> Table:
    """Without a last column in which nothing stands."""
    rows = [*table.rows, *([table.total] if table.total else [])]
    if any(row[-1].text != "—" for row in rows):
        return table
    table.columns = table.columns[:-1]
    table.rows = [row[:-1] for row in table.rows]
    table.total = table.total and table.total[:-1]
    return table
