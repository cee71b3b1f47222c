"""What a run has come to so far: counted from what was recorded, read by progress, summary and run.json.

Counts are made of the rows themselves, so that a run that is resumed, or settled after a crash, counts the
same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

import orjson
import polars as pl

from pipeline.store.rows import ATTEMPT_COLUMN, COST_COLUMN, RESULT_COLUMN, Entry

UsageKey = tuple[str, str, str]
"""modality, direction, kind"""

_STATUS = RESULT_COLUMN["status"]
_ID = RESULT_COLUMN["item_id"]
_ERROR_CLASS = RESULT_COLUMN["error_class"]
_ERROR_MESSAGE = RESULT_COLUMN["error_message"]
_TOTAL_TOKENS = RESULT_COLUMN["total_tokens"]
_MEDIA = RESULT_COLUMN["media"]
_STATE = ATTEMPT_COLUMN["state"]
_MODALITY = COST_COLUMN["modality"]
_PRICED = (COST_COLUMN["tokens"], COST_COLUMN["cost"], COST_COLUMN["currency"], COST_COLUMN["model"])


UNSEEN_KEPT = 20


@dataclass(slots=True)
class UsageLine:
    """Tokens of one modality, direction and kind, with what they cost where that is known."""

    tokens: int = 0
    unpriced_tokens: int = 0
    cost: dict[str, Decimal] = field(default_factory=dict)  # by currency, for currencies are never added


@dataclass(slots=True)
class Bills:
    """Replies of one model that were priced: what one typically costs."""

    replies: int = 0
    cost: Decimal = Decimal(0)


@dataclass(slots=True)
class Tally:
    """Counts of one run. Money is exact; what has no price is counted in ``unpriced_tokens``."""

    rows_total: int | None = None
    ok: int = 0
    failed: int = 0
    skipped: int = 0
    not_attempted: int = 0
    duplicates: int = 0  # of the ok and failed ones
    attempts: int = 0
    possibly_billed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    first_errors: dict[str, tuple[str, str]] = field(default_factory=dict)  # class → (item id, sentence)
    usage: dict[UsageKey, UsageLine] = field(default_factory=dict)
    unpriced: Counter[str] = field(default_factory=Counter)  # tokens without a price, by model
    without_usage: int = 0  # answered ok, but the endpoint told no usage
    unseen: Counter[str] = field(default_factory=Counter)  # answered ok, and did not see this modality
    unseen_items: dict[str, None] = field(default_factory=dict)  # the first of them, in order
    bills: dict[str, Bills] = field(default_factory=dict)  # by model

    @property
    def ended(self) -> int:
        return self.ok + self.failed + self.skipped + self.not_attempted

    @property
    def cost(self) -> dict[str, Decimal]:
        """What is known to have been spent, by currency."""
        spent: dict[str, Decimal] = {}
        for line in self.usage.values():
            _add_money(spent, line.cost)
        return spent

    def typical_cost(self, model: str) -> Decimal | None:
        """The mean cost of this model's priced replies so far, None before the first: what an attempt of
        unknown fate may have cost."""
        bills = self.bills.get(model)
        return (bills.cost / bills.replies).quantize(Decimal("1E-12")) if bills else None

    def add(self, entry: Entry) -> None:
        for attempt in entry.attempts:
            self.attempts += 1
            self.possibly_billed += attempt[_STATE] == "possibly_billed"
        if entry.costs:
            self._add_costs(entry.costs)
        result: Any = entry.result
        if result is None:
            return
        if result[_STATUS] == "ok":
            self.ok += 1
            self.without_usage += result[_TOTAL_TOKENS] is None
            self._add_unseen(result)
        else:
            self.failed += 1
            error_class = result[_ERROR_CLASS]
            self.errors[error_class] += 1
            self.first_errors.setdefault(error_class, (result[_ID], result[_ERROR_MESSAGE]))

    def add_duplicates(self, results: pl.DataFrame) -> None:
        """Results of rows that share another's outcome: they count as rows, and cost nothing."""
        self.duplicates += results.height
        for status, error_class, item_id, message in results.select(
            "status", "error_class", "item_id", "error_message"
        ).iter_rows():
            if status == "ok":
                self.ok += 1
            else:
                self.failed += 1
                self.errors[error_class] += 1
                self.first_errors.setdefault(error_class, (item_id, message))

    def totals(self) -> dict[str, object]:
        """As run.json and ``--json`` tell it."""
        return {
            "rows": self.rows_total,
            "ok": self.ok,
            "failed": self.failed,
            "skipped": self.skipped,
            "not_attempted": self.not_attempted,
            "duplicates": self.duplicates,
            "attempts": self.attempts,
            "possibly_billed": self.possibly_billed,
            "cost": {currency: f"{cost:f}" for currency, cost in sorted(self.cost.items())},
        }

    def merge(self, other: Tally) -> None:
        """Add another session's or part's counts, except rows_total and what is at rest."""
        self.ok += other.ok
        self.failed += other.failed
        self.duplicates += other.duplicates
        self.attempts += other.attempts
        self.possibly_billed += other.possibly_billed
        self.errors.update(other.errors)
        self.unpriced.update(other.unpriced)
        self.without_usage += other.without_usage
        self.unseen.update(other.unseen)
        self._note_unseen(other.unseen_items)
        for error_class, first in other.first_errors.items():
            self.first_errors.setdefault(error_class, first)
        for key, line in other.usage.items():
            mine = self.usage.setdefault(key, UsageLine())
            mine.tokens += line.tokens
            mine.unpriced_tokens += line.unpriced_tokens
            _add_money(mine.cost, line.cost)
        for model, bills in other.bills.items():
            known = self.bills.setdefault(model, Bills())
            known.replies += bills.replies
            known.cost += bills.cost

    def encode(self) -> bytes:
        return orjson.dumps(
            {
                "ok": self.ok,
                "failed": self.failed,
                "duplicates": self.duplicates,
                "attempts": self.attempts,
                "possibly_billed": self.possibly_billed,
                "errors": self.errors,
                "first_errors": self.first_errors,
                "unpriced": self.unpriced,
                "without_usage": self.without_usage,
                "unseen": self.unseen,
                "unseen_items": list(self.unseen_items),
                "usage": [
                    [*key, line.tokens, line.unpriced_tokens, {c: str(cost) for c, cost in line.cost.items()}]
                    for key, line in self.usage.items()
                ],
                "bills": {model: [bills.replies, str(bills.cost)] for model, bills in self.bills.items()},
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        told = orjson.loads(body)
        tally = cls(
            ok=told["ok"],
            failed=told["failed"],
            duplicates=told["duplicates"],
            attempts=told["attempts"],
            possibly_billed=told["possibly_billed"],
            errors=Counter(told["errors"]),
            first_errors={name: (item, sentence) for name, (item, sentence) in told["first_errors"].items()},
            unpriced=Counter(told["unpriced"]),
            without_usage=told["without_usage"],
            unseen=Counter(told.get("unseen", {})),
            unseen_items=dict.fromkeys(told.get("unseen_items", [])),
        )
        for modality, direction, kind, tokens, unpriced_tokens, cost in told["usage"]:
            money = {currency: Decimal(text) for currency, text in cost.items()}
            tally.usage[modality, direction, kind] = UsageLine(tokens, unpriced_tokens, money)
        for model, (replies, text) in told["bills"].items():
            tally.bills[model] = Bills(replies, Decimal(text))
        return tally

    def _add_unseen(self, result: Any) -> None:
        missing = {modality for modality, _, seen in result[_MEDIA] if seen == "no"}
        if missing:
            self.unseen.update(missing)
            self._note_unseen([result[_ID]])

    def _note_unseen(self, items: Iterable[str]) -> None:
        for item_id in items:
            if len(self.unseen_items) >= UNSEEN_KEPT:
                break
            self.unseen_items[item_id] = None

    def _add_costs(self, costs: list[Any]) -> None:
        tokens_at, cost_at, currency_at, model_at = _PRICED
        reply_cost: Decimal | None = None
        for row in costs:
            key = (row[_MODALITY], row[_MODALITY + 1], row[_MODALITY + 2])
            line = self.usage.get(key)
            if line is None:
                line = self.usage[key] = UsageLine()
            tokens = row[tokens_at]
            line.tokens += tokens
            text = row[cost_at]
            if text is None:
                line.unpriced_tokens += tokens
                self.unpriced[row[model_at]] += tokens
            else:
                cost = Decimal(text)
                currency = row[currency_at]
                line.cost[currency] = line.cost[currency] + cost if currency in line.cost else cost
                reply_cost = cost if reply_cost is None else reply_cost + cost
        if reply_cost is not None:
            bills = self.bills.setdefault(costs[-1][model_at], Bills())
            bills.replies += 1
            bills.cost += reply_cost


def _add_money(total: dict[str, Decimal], more: dict[str, Decimal]) -> None:
    for currency, cost in more.items():
        total[currency] = total.get(currency, Decimal(0)) + cost
