"""What prices the answers of a run, endpoint by endpoint, and the budget that is held with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Self

from pipeline.budget import Budget, Cap, Ceilings
from pipeline.errors import UsageError
from pipeline.plan import Plan
from pipeline.pricing import BookIdentity, Layered, PriceBook, Rates, TomlBook, trillionths
from pipeline.store.spent import possibly_spent_in, spent_on
from pipeline.tally import Tally


@dataclass(frozen=True, slots=True)
class Prices:
    """What prices the answers of each endpoint: its own book, then the run's, then the list."""

    of_endpoint: Mapping[str, PriceBook]
    identities: tuple[BookIdentity, ...]

    @classmethod
    def of(cls, plan: Plan, listed: PriceBook) -> Self:
        """
        Raises:
            PriceBookError: a book is not what it should be.
        """
        paths = [path for path in (plan.price_book, *(one.price_book for one in plan.endpoints)) if path]
        books: dict[str, PriceBook] = {path: TomlBook.read(Path(path)) for path in dict.fromkeys(paths)}
        of_endpoint = {}
        for one in plan.endpoints:
            mine = tuple(books[path] for path in (one.price_book, plan.price_book) if path)
            of_endpoint[one.name] = Layered((*mine, listed)) if mine else listed
        return cls(of_endpoint, tuple(book.identity() for book in (*books.values(), listed)))

    def know(self, plan: Plan) -> bool:
        """Whether the run's model has a price wherever it is asked."""
        return all(
            self.of_endpoint[one.name].rates(plan.model, plan.started_at) is not None
            for one in plan.endpoints
            if not one.models or plan.model in one.models
        )

    def check_budget(self, plan: Plan) -> None:
        """
        Raises:
            UsageError: there is a budget, and what it is held with has no price, or prices in two currencies.
        """
        if plan.budget is None and plan.budget_per_day is None:
            return
        currency = self.currency(plan)
        for model in (plan.model, *plan.fallbacks.values()):
            for one in plan.endpoints:
                if one.models and model not in one.models:
                    continue
                rates = self.of_endpoint[one.name].rates(model, plan.started_at)
                if rates is None or currency is None:
                    raise UsageError(
                        f"a budget cannot be held: no price is known for model {model!r} at {one.name}; give "
                        "a --price-book"
                    )
                if rates.currency != currency:
                    raise UsageError(
                        f"a budget cannot be held: model {model!r} is priced in {rates.currency} at "
                        f"{one.name}, others in {currency}"
                    )

    def currency(self, plan: Plan) -> str | None:
        """That of the run's model where it is asked first."""
        rates = self.rates(plan, plan.model)
        return None if rates is None else rates.currency

    def rates(self, plan: Plan, model: str) -> Rates | None:
        """Those of a model where it is asked first; None where it has no price there, or nobody serves it."""
        for one in plan.endpoints:
            if not one.models or model in one.models:
                return self.of_endpoint[one.name].rates(model, plan.started_at)
        return None

    def budget(self, plan: Plan, tally: Tally, now: Callable[[], datetime]) -> Budget | None:
        """The budget of a run, with what was spent before; ``tally`` is of its earlier sessions.

        Raises:
            StoreError: the store cannot be read.
        """
        currency = self.currency(plan)
        if currency is None or (plan.budget is None and plan.budget_per_day is None):
            return None
        caps = []
        if plan.budget is not None:
            known = tally.cost.get(currency, Decimal(0))
            possible = possibly_spent_in(plan.out, plan.run_id)
            caps.append(Cap(trillionths(plan.budget), trillionths(known + possible)))
        if plan.budget_per_day is not None:
            today = now().astimezone(plan.timezone).date()
            spent = spent_on(plan.out, today, plan.timezone, currency, rehearsals=plan.is_rehearsal)
            caps.append(Cap(trillionths(plan.budget_per_day), trillionths(spent), plan.timezone, today))
        books = [(self.of_endpoint[one.name], frozenset(one.models)) for one in plan.endpoints]
        return Budget(caps, Ceilings(books, currency, now), now)
