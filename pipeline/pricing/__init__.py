"""Pricing: price books, and the arithmetic that charges every token once.

    rates.py        `Rates`: what one model's units cost at one moment, tiers included
    books.py        `PriceBook`, and `ListPrices`: genai-prices' dated list prices, offline
    toml_books.py   `TomlBook`: a file with the prices of a gateway or a contract
    arithmetic.py   `price`: counts × rates → charges, with bounds where something was allocated

Money is integers and `Decimal`, never float. Unknown is None, never zero. Refuses the network: prices
come with the package, or from a file. Counts come from `pipeline.dialects`; charges go to the ledger.
"""

from __future__ import annotations

from pipeline.pricing.arithmetic import NegativeCount, Priced, money, price, total, trillionths
from pipeline.pricing.books import BookIdentity, Layered, ListPrices, PriceBook
from pipeline.pricing.rates import Rates, UnitPrice
from pipeline.pricing.toml_books import TomlBook

__all__ = [
    "BookIdentity",
    "Layered",
    "ListPrices",
    "NegativeCount",
    "PriceBook",
    "Priced",
    "Rates",
    "TomlBook",
    "UnitPrice",
    "money",
    "price",
    "total",
    "trillionths",
]
