"""Pricing: price books, and the arithmetic that charges every token once.

    rates.py        `Rates`: what one model's units cost at one moment, tiers included
    books.py        `PriceBook`, and `ListPrices`: genai-prices' dated list prices, offline
    arithmetic.py   `price`: counts × rates → charges, with bounds where something was allocated

Money is integers and `Decimal`, never float. Unknown is None, never zero. Refuses the network: prices
come with the package, or from a file. Counts come from `pipeline.dialects`; charges go to the ledger.
"""

from __future__ import annotations

from pipeline.pricing.arithmetic import NegativeCount, Priced, price, total
from pipeline.pricing.books import BookIdentity, ListPrices, PriceBook
from pipeline.pricing.rates import Rates, UnitPrice

__all__ = [
    "BookIdentity",
    "ListPrices",
    "NegativeCount",
    "PriceBook",
    "Priced",
    "Rates",
    "UnitPrice",
    "price",
    "total",
]
