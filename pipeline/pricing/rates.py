"""What one model's tokens cost at one moment, ready for the arithmetic.

Owns the shape in which every price book hands over its prices, fixed to 6 decimals; refuses to know where
they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal

from pipeline.records import CountModality, Direction, Kind

Unit = tuple[CountModality, Direction, Kind]

_MILLIONTH = Decimal("0.000001")
# Our own, so that no thread's ambient context changes a price.
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """A price per million tokens, to 6 decimals; ``micros`` is the same in millionths of the currency.

    So tokens × micros is a cost in units of 10⁻¹², exactly.
    """

    per_mtok: Decimal
    micros: int

    @classmethod
    def of(cls, per_mtok: Decimal) -> UnitPrice:
        """Fixed to 6 decimals, half to even.

        Raises:
            ValueError: the price is negative or no number.
        """
        if not per_mtok.is_finite() or per_mtok < 0:
            raise ValueError(f"not a price: {per_mtok}")
        fixed = per_mtok.quantize(_MILLIONTH, context=_CONTEXT)
        return cls(fixed, int(fixed.scaleb(6, context=_CONTEXT)))


Sheet = Mapping[Unit, UnitPrice]  # a unit that is not in it has no known price


@dataclass(frozen=True, slots=True)
class Rates:
    """One model's prices in one currency. ``source`` says which book and entry they are from.

    ``tiers``: by the input tokens above which a sheet holds, ascending. A tier's sheet prices the whole
    reply, not only the tokens above its start: the cliff that every vendor in the list uses.
    ``fee``: what a reply costs besides its tokens, in units of 10⁻¹².
    """

    currency: str
    source: str
    base: Sheet
    tiers: tuple[tuple[int, Sheet], ...] = ()
    fee: int = 0

    def sheet(self, input_tokens: int) -> Sheet:
        """The prices of a reply with that many input tokens, cached ones included."""
        for start, sheet in reversed(self.tiers):
            if input_tokens > start:
                return sheet
        return self.base
