"""Days as a person says them: ``2026-11-23``, or ``7d`` for a week ago."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from jobs.options import Fault

Ago = date | timedelta


class Day(click.ParamType[Ago]):
    """A day, or so many days ago."""

    name = "DAY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Ago:
        text = str(value).strip()
        try:
            if text.endswith("d"):
                return timedelta(days=int(text[:-1]))
            return date.fromisoformat(text)
        except (ValueError, OverflowError):
            raise Fault(
                f"{param.opts[0] if param else 'day'} {value!r}: a day such as 2026-11-23, or 7d"
            ) from None


def days_from(since: Ago | None, until: Ago | None, timezone: ZoneInfo) -> tuple[date | None, date | None]:
    today = datetime.now(timezone).date()
    first, last = (today - day if isinstance(day, timedelta) else day for day in (since, until))
    if first is not None and last is not None and last < first:
        raise Fault(f"--until {last} lies before --since {first}")
    return first, last
