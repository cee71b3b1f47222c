"""What a run may spend, and by which prices: options that every command that spends shares."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from jobs.options import Fault, option


class Money(click.ParamType[Decimal]):
    """An amount in the currency of the prices."""

    name = "AMOUNT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        try:
            amount = Decimal(str(value).strip())
        except ArithmeticError:
            amount = Decimal("NaN")
        if not amount.is_finite() or not 0 < amount < 10**12:
            raise Fault(f"{param.opts[0] if param else 'amount'} {value!r}: an amount such as 5.00")
        return amount


def spending_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A value of None means that the person said nothing."""
    for decorate in (
        option(
            "--stop-if-unseen",
            type=click.FloatRange(0, 1, min_open=True),
            metavar="SHARE",
            help="Halt once so large a share of the answers did not see the media that were sent.",
        ),
        option(
            "--budget-per-day",
            type=Money(),
            help="What all runs in the store may cost in a day (--timezone); exit code 4 when it is reached.",
        ),
        option(
            "--budget",
            type=Money(),
            help="What this run may cost, in the currency of its prices; exit code 4 when it is reached.",
        ),
        option(
            "--price-book",
            type=click.Path(path_type=Path),
            help="Your own prices (TOML), before the list's; see data/prices.",
        ),
    ):
        command = decorate(command)
    return command
