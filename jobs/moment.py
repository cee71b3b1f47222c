"""A moment of a run, for whoever watches it: how far it is, how fast, what holds it, what it has cost.

Made a few times a second of what the run knows anyway. `pilot_view` draws it; as a line or as JSON it is told
here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from jobs.wording import amount, counted, lasting, money
from pipeline.endpoints import LastError, Vitals
from pipeline.gate import Limit
from pipeline.plan import Plan
from pipeline.tally import Tally

WINDOW_S = 30.0
"""How fast it goes, and what holds it, is told of so long a time."""
HOLDS = 0.2
"""The share of that time from which a limit is said to hold a run."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The newest error of a class."""

    error_class: str
    count: int
    ago_s: float | None  # None: of an earlier session, or of a row that could not be asked
    sentence: str


@dataclass(frozen=True, slots=True)
class Moment:
    """``limited_s`` and ``throttled`` are this session's, counts and costs those of all sessions."""

    elapsed_s: float
    rows: int | None
    ok: int
    failed: int
    skipped: int
    not_attempted: int
    per_s: float
    held_by: Limit | None
    ceiling: str  # the same for a person: ``64 slots``
    slots: int
    in_use: int
    asleep: int
    held_for_s: float
    limited_s: dict[Limit, float]
    throttled: int
    cost: dict[str, Decimal]
    spent_on: dict[str, dict[str, Decimal]]  # by input modality, and ``output``
    budget: Decimal | None
    budget_per_day: Decimal | None
    troubles: tuple[Trouble, ...]  # the newest first

    @property
    def ended(self) -> int:
        return self.ok + self.failed + self.skipped + self.not_attempted

    @property
    def left(self) -> int | None:
        return None if self.rows is None else max(0, self.rows - self.ended)

    @property
    def eta_s(self) -> float | None:
        return self.left / self.per_s if self.left is not None and self.per_s > 0 else None

    def line(self) -> str:
        """As a line in a log."""
        rows = counted(self.ended if self.rows is None else self.rows, "row")
        of_all = "" if self.rows is None else f"{self.ended:,} of "
        held = f", held by {self.ceiling}" if self.held_by else ""
        skipped = f", {self.skipped:,} skipped" if self.skipped else ""
        throttled = f", {self.throttled:,} 429s" if self.throttled else ""
        eta = f", {lasting(self.eta_s)} left" if self.eta_s is not None else ""
        return (
            f"{of_all}{rows}: {self.ok:,} ok, {self.failed:,} failed{skipped}; "
            f"{self.per_s:,.1f}/s{held}{throttled}; {money(self.cost)} spent{eta}"
        )

    def facts(self) -> dict[str, Any]:
        """As a line of JSON."""
        return {
            "rows": self.rows,
            "ok": self.ok,
            "failed": self.failed,
            "skipped": self.skipped,
            "not_attempted": self.not_attempted,
            "left": self.left,
            "elapsed_s": round(self.elapsed_s, 1),
            "per_s": round(self.per_s, 2),
            "eta_s": None if self.eta_s is None else round(self.eta_s),
            "held_by": self.held_by,
            "slots": self.slots,
            "in_use": self.in_use,
            "asleep": self.asleep,
            "limited_s": {limit: round(seconds, 1) for limit, seconds in self.limited_s.items()},
            "throttled": self.throttled,
            "cost": {currency: amount(cost) for currency, cost in sorted(self.cost.items())},
            "spent_on": {
                what: {currency: amount(cost) for currency, cost in sorted(costs.items())}
                for what, costs in self.spent_on.items()
            },
            "budget": None if self.budget is None else f"{self.budget:f}",
            "budget_per_day": None if self.budget_per_day is None else f"{self.budget_per_day:f}",
            "errors": {trouble.error_class: trouble.count for trouble in self.troubles},
        }


def to_ask(tally: Tally, limit: int | None) -> tuple[int | None, int]:
    """How many rows a session is about, and how many of them it let be: those beyond ``--limit`` are passed
    over at the end, and are no part of how far it is."""
    total = tally.rows_total
    if total is None or limit is None or limit >= total:
        return total, tally.not_attempted
    return limit, max(0, tally.not_attempted - (total - limit))


class Watch:
    """Makes moments of one session, and remembers the last half minute of them."""

    def __init__(
        self, plan: Plan, vitals: Callable[[], Vitals], tally: Tally, clock: Callable[[], float]
    ) -> None:
        self._plan = plan
        self._vitals = vitals
        self._tally = tally
        self._clock = clock
        self._began_s = clock()
        self._window: deque[tuple[float, int, dict[Limit, float]]] = deque()

    def moment(self) -> Moment:
        tally, vitals, now_s = self._tally, self._vitals(), self._clock()
        met = vitals.limits_met
        seconds = dict(met.limited_s)
        window = self._window
        rows, not_attempted = to_ask(tally, self._plan.limit)
        asked = tally.ended - tally.not_attempted
        window.append((now_s, asked, seconds))
        while len(window) > 2 and window[1][0] <= now_s - WINDOW_S:
            window.popleft()
        since_s, asked_before, before = window[0]
        for_s = max(now_s - since_s, 1e-6)
        longest = max(seconds, key=lambda limit: seconds[limit] - before[limit])
        is_held = seconds[longest] - before[longest] >= HOLDS * for_s
        held_by = longest if is_held and len(window) > 1 else None
        return Moment(
            elapsed_s=now_s - self._began_s,
            rows=rows,
            ok=tally.ok,
            failed=tally.failed,
            skipped=tally.skipped,
            not_attempted=not_attempted,
            per_s=(asked - asked_before) / for_s,
            held_by=held_by,
            ceiling=self._ceiling(held_by, vitals.slots),
            slots=vitals.slots,
            in_use=vitals.in_use,
            asleep=vitals.asleep,
            held_for_s=vitals.held_for_s,
            limited_s=seconds,
            throttled=met.throttled,
            cost=tally.cost,
            spent_on=_spent_on(tally),
            budget=self._plan.budget,
            budget_per_day=self._plan.budget_per_day,
            troubles=self._troubles(vitals.errors, now_s),
        )

    def _ceiling(self, held_by: Limit | None, slots: int) -> str:
        if held_by is None:
            return "nothing here"
        if held_by == "slots":
            return f"{slots:,} slots"
        if held_by in ("rpm", "tpm"):
            told = sum(getattr(one, held_by) or 0 for one in self._plan.endpoints)
            if not told:  # learned from 429s, or read from headers
                return "the pace it accepts" if held_by == "rpm" else "the tokens it grants"
            return f"{told:,} {'requests' if held_by == 'rpm' else 'tokens'} a minute"
        return {"hold": "a 429", "outage": "an outage", "budget": "the budget"}[held_by]

    def _troubles(self, errors: Mapping[str, LastError], now_s: float) -> tuple[Trouble, ...]:
        tally = self._tally
        newest = sorted(errors.items(), key=lambda named: -named[1].at_s)
        met = [Trouble(name, one.count, now_s - one.at_s, one.sentence) for name, one in newest]
        earlier = [
            Trouble(name, count, None, tally.first_errors[name][1])
            for name, count in tally.errors.most_common()
            if name not in errors
        ]
        return (*met, *earlier)


def _spent_on(tally: Tally) -> dict[str, dict[str, Decimal]]:
    """The dearest first, within each currency's name."""
    spent: dict[str, dict[str, Decimal]] = {}
    for (modality, direction, _), line in tally.usage.items():
        of_kind = spent.setdefault(modality if direction == "input" else "output", {})
        for currency, cost in line.cost.items():
            of_kind[currency] = of_kind.get(currency, Decimal(0)) + cost
    dearest = sorted(spent.items(), key=lambda named: -max(named[1].values(), default=Decimal(0)))
    return {name: costs for name, costs in dearest if costs}


def told_at() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
