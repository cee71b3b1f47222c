"""How amounts read to a person."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal


def amount(cost: Decimal) -> str:
    """Exact, without trailing zeros, at least cents: ``0.00096075``, ``12.50``, ``0.00``."""
    text = f"{cost:f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def money(cost: Mapping[str, Decimal]) -> str:
    """By currency, for currencies are never added: ``USD 0.00096075``; ``nothing priced`` where none is."""
    return (
        ", ".join(f"{currency} {amount(value)}" for currency, value in sorted(cost.items()))
        or "nothing priced"
    )


def change(before: Mapping[str, Decimal], after: Mapping[str, Decimal]) -> str:
    """How much more or less, where both are in one same currency: ``+12%``; else, or if the same, nothing."""
    if list(before) != list(after) or len(before) != 1:
        return ""
    ((currency, was),) = before.items()
    more = f"{(after[currency] - was) / was:+.0%}" if was else ""
    return "" if more in ("+0%", "-0%") else more


def counted(count: int, what: str, many: str | None = None) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{count:,} {what if count == 1 else many or what + 's'}"


def about(cost: float) -> str:
    """An estimate, in two significant digits: ``0.00096``, ``12``."""
    return f"{Decimal(f'{cost:.1e}'):f}"


def rounded(cost: Decimal) -> Decimal:
    """To a hundredth of a cent; what is less keeps two significant digits, for it is not nothing."""
    return round(cost, 4) if cost >= Decimal("0.0001") else Decimal(about(float(cost)))


def lasting(seconds: float) -> str:
    """A span of time in its two largest units: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"
