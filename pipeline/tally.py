"""What a run has come to so far: counted as outcomes are recorded, read by progress and summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.errors import MediabatchError
from pipeline.records import Attempt, BadRow, NotAttempted, Outcome, TokenCount

UsageKey = tuple[str, str, str]
"""modality, direction, kind"""


@dataclass(slots=True)
class UsageLine:
    """Tokens of one modality, direction and kind, with what they cost where that is known."""

    tokens: int = 0
    unpriced_tokens: int = 0
    cost: dict[str, Decimal] = field(default_factory=dict)  # by currency, for currencies are never added


@dataclass(slots=True)
class Tally:
    """Counts of one run. Money is exact; what has no price is counted in ``unpriced_tokens``."""

    rows_total: int | None = None
    ok: int = 0
    failed: int = 0
    not_attempted: int = 0
    attempts: int = 0
    possibly_billed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    first_errors: dict[str, tuple[str, str]] = field(default_factory=dict)  # class → (item id, sentence)
    usage: dict[UsageKey, UsageLine] = field(default_factory=dict)
    unpriced: Counter[str] = field(default_factory=Counter)  # tokens without a price, by model
    without_usage: int = 0  # answered ok, but the endpoint told no usage

    @property
    def ended(self) -> int:
        return self.ok + self.failed + self.not_attempted

    @property
    def cost(self) -> dict[str, Decimal]:
        """What is known to have been spent, by currency."""
        spent: dict[str, Decimal] = {}
        for line in self.usage.values():
            for currency, cost in line.cost.items():
                spent[currency] = spent.get(currency, Decimal(0)) + cost
        return spent

    def add(self, ended: Outcome | BadRow | NotAttempted) -> None:
        if isinstance(ended, Outcome):
            self._add_attempts(ended.attempts)
            if ended.error is None:
                self.ok += 1
                reply = ended.attempts[-1].reply
                self.without_usage += reply is None or reply.usage is None
            else:
                self._failed(ended.item.id, ended.error)
        elif isinstance(ended, BadRow):
            self._failed(ended.id, ended.error)
        else:
            self._add_attempts(ended.attempts)
            self.not_attempted += 1

    def _failed(self, item_id: str, error: MediabatchError) -> None:
        self.failed += 1
        self.errors[error.error_class] += 1
        self.first_errors.setdefault(error.error_class, (item_id, str(error)))

    def _add_attempts(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            self.attempts += 1
            self.possibly_billed += attempt.state == "possibly_billed"
            for charge in attempt.charges:
                line = self._line(charge.count)
                line.tokens += charge.count.tokens
                if charge.cost is None or charge.currency is None:
                    line.unpriced_tokens += charge.count.tokens
                    self.unpriced[attempt.model] += charge.count.tokens
                else:
                    line.cost[charge.currency] = line.cost.get(charge.currency, Decimal(0)) + charge.cost

    def _line(self, count: TokenCount) -> UsageLine:
        key = (count.modality, count.direction, count.kind)
        line = self.usage.get(key)
        if line is None:
            line = self.usage[key] = UsageLine()
        return line
