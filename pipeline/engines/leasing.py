"""A worker's share of what is global: what it asks for, by what its gates and its budget show, and what
becomes of what it is granted."""

from __future__ import annotations

from pipeline.budget import Budget
from pipeline.endpoints import Endpoint, Endpoints
from pipeline.engines.messages import (
    LEASE_S,
    Asks,
    Grant,
    Granted,
    Lease,
    MoneyAsks,
    MoneyGrant,
)
from pipeline.errors import RowError
from pipeline.gate.leased import Leased, Returned

AHEAD = 1.5
"""What is asked for, of what was used since the last time, so that it can grow."""
FORESEEN = 64
"""Attempts that wait for money, whose amounts are looked at."""
OWN_HOLD_S = 0.05
"""A hold that goes on for longer than one that was told is the gate's own."""


class Leases:
    """Of one worker."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._asked_s = 0.0
        self._held_until_s = [0.0] * len(list(endpoints))
        self._told_spent = 0
        self._set_aside_before = 0

    def ask(self) -> Lease:
        """What is needed from now on; what is not goes back at once."""
        now_s = self._asked_s = self._endpoints.clock()
        asks = [
            _asks(one, until_s, now_s)
            for one, until_s in zip(self._endpoints, self._held_until_s, strict=True)
        ]
        budget = self._endpoints.budget
        return Lease(asks, None if budget is None else self._money(budget))

    def granted(self, granted: Granted, late_s: float) -> None:
        """``late_s``: so much later than usual what is admitted goes."""
        expires_s = self._asked_s + LEASE_S - late_s
        for number, (endpoint, grant) in enumerate(zip(self._endpoints, granted.grants, strict=True)):
            self._held_until_s[number] = self._endpoints.clock() + grant.hold_s
            _take(endpoint, grant, self._asked_s, expires_s)
        budget = self._endpoints.budget
        if budget is not None and granted.money is not None:
            _take_money(budget, granted.money)

    def _money(self, budget: Budget) -> MoneyAsks:
        (cap,) = budget.caps
        amounts, guess = _amounts(budget)
        used, self._set_aside_before = budget.set_aside - self._set_aside_before, budget.set_aside
        left = cap.limit - cap.spent - budget.held
        wanted = max(sum(amounts), int(AHEAD * used))
        if not wanted or (amounts and left < amounts[0]):
            cap.limit -= left  # of no use here, and perhaps elsewhere
            left = 0
        spent, self._told_spent = cap.spent - self._told_spent, cap.spent
        least = amounts[0] if amounts else 0
        return MoneyAsks(
            spent, budget.held + left, max(0, wanted - left), least, guess, budget.ceilings.news()
        )


def _asks(endpoint: Endpoint, told_until_s: float, now_s: float) -> Asks:
    gate = endpoint.gate
    requests, tokens = gate.leased
    waiting = gate.waiting_tokens
    held_until_s = now_s + gate.held_for_s()
    wanted, requests_back = _wanted(requests, float(len(waiting)), now_s)
    tokens_wanted, tokens_back = _wanted(tokens, sum(waiting), now_s)
    return Asks(
        in_use=gate.in_use,
        waiting=len(waiting),
        slots=gate.slots.limit,
        requests=wanted,
        tokens=tokens_wanted,
        least_tokens=max(0.0, waiting[0] - tokens.left(now_s)) if waiting and tokens else 0.0,
        requests_back=requests_back,
        tokens_back=tokens_back,
        hold_s=gate.held_for_s() if held_until_s > max(told_until_s, now_s) + OWN_HOLD_S else 0.0,
        is_out=gate.probes,
    )


def _wanted(leased: Leased | None, waiting: float, now_s: float) -> tuple[float, Returned]:
    if leased is None:
        return 0.0, Returned()
    wanted = max(waiting, AHEAD * leased.taken)
    back = leased.give_back(now_s)
    return max(0.0, wanted - leased.left(now_s)), back


def _take(endpoint: Endpoint, grant: Grant, asked_s: float, expires_s: float) -> None:
    gate = endpoint.gate
    requests, tokens = gate.leased
    if requests is not None:
        requests.grant(grant.requests, asked_s, expires_s, grant.counted_at_s)
    if tokens is not None:
        tokens.grant(grant.tokens, asked_s, expires_s, grant.counted_at_s)
    if grant.hold_s > max(0.0, gate.held_for_s()):
        gate.hold(grant.hold_s)
    gate.probed_elsewhere(grant.is_probed_elsewhere)
    if grant.slots is not None:
        gate.allow(grant.slots)
    gate.granted()


def _take_money(budget: Budget, grant: MoneyGrant) -> None:
    (cap,) = budget.caps
    cap.limit += grant.amount
    budget.is_alone = grant.is_alone
    budget.ceilings.told(grant.known)
    budget.rouse()


def _amounts(budget: Budget) -> tuple[list[int], int]:
    """What those who wait need, and with how much the first could go alone."""
    amounts, guess = [], 0
    for item in budget.waiting(FORESEEN):
        try:
            amounts.append(budget.ceilings.of(item))
            if len(amounts) == 1:
                is_unknown = item.request.media and not budget.ceilings.replies_to(item.request)
                guess = budget.ceilings.guess(item) if is_unknown else amounts[0]
        except RowError:
            break  # it finds out itself
    return amounts, guess
