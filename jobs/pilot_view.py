"""What a pilot needs at a glance: a moment of a run in a few lines that fit the terminal, whatever its width.

A line is made of pieces, the most important first; those that do not fit are left out whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from jobs.moment import Moment
from jobs.wording import amount, lasting, money

TROUBLES_SHOWN = 3
BAR = 24
_BETWEEN = Text(" · ", style="dim")


class PilotView:
    """A moment, to be drawn by rich."""

    def __init__(self, moment: Moment, *, now: datetime) -> None:
        self._moment = moment
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        for line in (self._far(width), self._pace(width), self._spent(width), *self._troubles(width)):
            if line.plain:
                yield line

    def _far(self, width: int) -> Text:
        moment = self._moment
        ended = f"{moment.ended:,}"
        eta = ""
        if moment.eta_s is not None and moment.left:
            at = self._now + timedelta(seconds=moment.eta_s)
            eta = f"{lasting(moment.eta_s)} left, until {at:%H:%M}"
        pieces = [
            Text(f"{ended} of {moment.rows:,}" if moment.rows is not None else ended, style="bold"),
            Text(f"{moment.ok:,} ok", style="green"),
            Text(f"{moment.failed:,} failed", style="red" if moment.failed else "dim"),
            Text(f"{moment.left:,} to go" if moment.left is not None else ""),
            Text(eta),
            Text(f"{moment.skipped:,} skipped" if moment.skipped else "", style="dim"),
        ]
        line = _fitted(pieces, width)
        room = width - line.cell_len - 2
        if moment.rows and room >= BAR // 2:
            line.append("  ")
            line.append_text(_bar(moment.ended / moment.rows, min(BAR, room)))
        return line

    def _pace(self, width: int) -> Text:
        moment = self._moment
        held = f"held by {moment.ceiling}"
        if moment.held_for_s >= 1.0:
            held += f" ({moment.held_for_s:.0f} s more)"
        asleep = f", {moment.asleep:,} asleep" if moment.asleep else ""
        waited = ", ".join(
            f"{limit} {lasting(seconds)}" for limit, seconds in moment.limited_s.items() if seconds >= 0.5
        )
        is_odd = moment.held_by in ("hold", "outage", "budget")
        return _fitted(
            [
                Text(f"{moment.per_s:,.1f}/s", style="bold"),
                Text(held, style="yellow" if is_odd else "cyan"),
                Text(f"{moment.in_use:,} of {moment.slots:,} slots{asleep}"),
                Text(f"{moment.throttled:,} 429s", style="yellow" if moment.throttled else "dim"),
                Text(f"so far {waited}" if waited else "", style="dim"),
            ],
            width,
        )

    def _spent(self, width: int) -> Text:
        moment = self._moment
        spent = money(moment.cost) if moment.cost else "nothing spent yet"
        if moment.budget is not None:
            spent += f" of {moment.budget:f}"
        if moment.budget_per_day is not None:
            spent += f" ({moment.budget_per_day:f} a day for all runs)"
        parts = [Text(f"{what} {_short(costs)}") for what, costs in moment.spent_on.items()]
        return _fitted([Text(spent, style="bold"), *parts], width)

    def _troubles(self, width: int) -> list[Text]:
        lines = []
        for trouble in self._moment.troubles[:TROUBLES_SHOWN]:
            ago = "" if trouble.ago_s is None else f", {lasting(trouble.ago_s)} ago"
            line = Text.assemble(
                (f"{trouble.error_class} {trouble.count:,}", "red"), (ago, "dim"), f": {trouble.sentence}"
            )
            line.no_wrap = True
            line.truncate(width, overflow="ellipsis")
            lines.append(line)
        return lines


def _fitted(pieces: Sequence[Text], width: int) -> Text:
    """The pieces that fit, in their order."""
    line = Text(no_wrap=True)
    for piece in pieces:
        between = _BETWEEN if line.plain else Text()
        if piece.plain and line.cell_len + between.cell_len + piece.cell_len <= width:
            line.append_text(between)
            line.append_text(piece)
    return line


def _bar(share: float, width: int) -> Text:
    done = min(width, int(share * width))
    return Text.assemble(("━" * done, "green"), ("─" * (width - done), "dim"))


def _short(costs: dict[str, Decimal]) -> str:
    """In four significant digits: the exact sum stands beside it."""
    rounded = {}
    for currency, cost in costs.items():
        digits = 3 - cost.adjusted() if cost else 2
        rounded[currency] = round(cost, max(2, digits))
    return ", ".join(amount(cost) for cost in rounded.values())
