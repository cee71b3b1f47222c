"""The tables of `report`, for a person on a terminal or in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.wording import money
from pipeline.report import Dear, Line, Outcomes, folded

DAYS_SHOWN = 14
COUNTS = ("items", "failed", "attempts", "possibly_billed")
"""What a line counts besides tokens, where its keys can tell it."""


def outcome_table(outcomes: Outcomes) -> Table:
    table = plain_table("latest outcomes")
    table.add_column("outcome")
    table.add_column("items", justify="right")
    table.add_column("for instance", overflow="fold")
    cut_off = f"{outcomes.cut_off:,} cut off (finish_reason length)" if outcomes.cut_off else ""
    table.add_row("ok", f"{outcomes.ok:,}", cut_off, style="green" if outcomes.ok else "")
    for alike in outcomes.failed:
        instance = Text(f"{alike.item_id}: {alike.message}")
        table.add_row(f"failed: {alike.error_class}", f"{alike.items:,}", instance, style="red")
    if outcomes.not_answered:
        table.add_row(
            "not answered", f"{outcomes.not_answered:,}", "set aside by a run that stopped", style="yellow"
        )
    table.add_section()
    table.add_row("all", f"{outcomes.items:,}")
    return table


def spend_table(title: str, keys: Sequence[str], lines: Sequence[Line], all_of: Line | None) -> Table:
    table = plain_table(title)
    for key in keys:
        table.add_column(key)
    table.add_column("tokens", justify="right")
    table.add_column("cost", justify="right")
    for line in lines:
        table.add_row(*_shown(line), f"{line.tokens:,}", _cost(line))
    if all_of is not None:
        table.add_section()
        blanks = [""] * (len(keys) - 1)
        table.add_row("all", *blanks, f"{all_of.tokens:,}", _cost(all_of), style="bold")
    return table


def dearest_table(items: Sequence[Dear]) -> Table:
    table = plain_table("dearest items")
    table.add_column("item", overflow="fold")
    table.add_column("model", overflow="fold")
    for name in ("status", "tries", "tokens", "cost"):
        table.add_column(name, justify="left" if name == "status" else "right")
    for one in items:
        tokens = "—" if one.tokens is None else f"{one.tokens:,}"
        cost = money({one.currency or "?": one.cost})
        table.add_row(one.item_id, one.model or "—", one.status, f"{one.attempts:,}", tokens, cost)
    return table


def last_days(lines: Sequence[Line]) -> list[Line]:
    """The newest days as they are, and what came before them as one line a model."""
    days = sorted({line.keys[0] or "" for line in lines})[-DAYS_SHOWN:]
    earlier = [
        Line(("before", *line.keys[1:]), line.tokens, line.unpriced_tokens, line.cost)
        for line in lines
        if (line.keys[0] or "") not in days
    ]
    return [*folded(earlier), *(line for line in lines if (line.keys[0] or "") in days)]


def by_table(keys: Sequence[str], lines: Sequence[Line]) -> Table:
    table = plain_table(None)
    for key in keys:
        table.add_column(key, overflow="fold")
    counts = COUNTS if any(line.items is not None for line in lines) else ()
    for name in counts:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("tokens", justify="right")
    table.add_column("cost", justify="right")
    (whole,) = folded(lines, ()) or [Line(())]
    for line in lines:
        table.add_row(*_shown(line), *_counted(line, counts), f"{line.tokens:,}", _cost(line))
    table.add_section()
    blanks = [""] * (len(keys) - 1)
    table.add_row("all", *blanks, *_counted(whole, counts), f"{whole.tokens:,}", _cost(whole), style="bold")
    return table


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False, emoji=False)


def plain_table(title: str | None) -> Table:
    return Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")


def _shown(line: Line) -> Iterable[str]:
    return [key or "—" for key in line.keys]


def _counted(line: Line, names: Iterable[str]) -> list[str]:
    return [f"{getattr(line, name) or 0:,}" for name in names]


def _cost(line: Line) -> str:
    if not line.cost:
        return "unknown" if line.tokens else "—"
    unpriced = f" + {line.unpriced_tokens:,} tokens unpriced" if line.unpriced_tokens else ""
    return money(line.cost) + unpriced
