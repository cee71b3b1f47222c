"""Nights with far more items than money, 500 at a time, on virtual time: does the budget hold?

``python -m tests.budget_nights --seeds 1000`` plays so many of each kind, and tells how near
the cap they came.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal

import anyio

from pipeline.budget import Budget, Cap, Ceilings
from pipeline.gate import GateClosed
from pipeline.pricing import BookIdentity, Rates, UnitPrice, trillionths
from pipeline.records import Item, Media, Request, Usage
from tests.rehearsing import on_virtual_time

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
IN, OUT = Decimal("0.25"), Decimal("1.50")
LEAST = Decimal("0.95")
MOST = {0: Decimal(1), 1: Decimal("1.01")}
"""Of the budget, by images a request: of a text an upper bound is known, of media it is learned."""


class Book:
    """One model, ``m``, at 0.25 in and 1.50 out for a million tokens."""

    def __init__(self, currency: str = "USD", out: Decimal = OUT) -> None:
        self._rates = Rates(
            currency,
            "made",
            {
                ("text", "input", "fresh"): UnitPrice.of(IN),
                ("image", "input", "fresh"): UnitPrice.of(IN),
                ("text", "output", "fresh"): UnitPrice.of(out),
            },
        )

    def rates(self, model: str, at: datetime) -> Rates | None:
        return self._rates if model == "m" else None

    def identity(self) -> BookIdentity:
        raise NotImplementedError


def item(row: int, *, model: str = "m", images: int = 0, max_tokens: int = 1000) -> Item:
    media = tuple(Media("image", f"https://media.example/{row}-{n}.png") for n in range(images))
    return Item(f"i{row}", row, Request(model, "p" * 36, media, {"max_tokens": max_tokens}))


def usage(tokens_in: int, tokens_out: int) -> Usage:
    return Usage(tokens_in, tokens_out, tokens_in + tokens_out, (), "{}")


def budget(limit: Decimal) -> Budget:
    cap = Cap(trillionths(limit), 0)
    return Budget([cap], Ceilings([(Book(), frozenset())], "USD", lambda: NOON), lambda: NOON)


async def night(seed: int, *, images: int, slots: int = 500) -> tuple[Decimal, Decimal]:
    """(the budget, what was billed) of a night that has far more items than money."""
    rng = random.Random(seed)
    cents = rng.choice([300, 500, 2000])
    under_test = budget(Decimal(cents) / 100)
    is_over = anyio.Event()
    under_test.on_spent = is_over.set
    billed = Decimal(0)
    rows = iter(range(1, 10**6))
    longest_s = rng.choice([2.0, 30.0])

    async def work() -> None:
        nonlocal billed
        while True:
            try:
                hold = await under_test.hold(item(next(rows), images=images))
            except GateClosed:
                return
            await anyio.sleep(rng.uniform(0.1, longest_s))
            tokens_in = rng.randint(60, 100) + images * rng.randint(200, 3000)
            tokens_out = rng.randint(1, 1000)
            cost = (tokens_in * IN + tokens_out * OUT) / 10**6
            fate = rng.random()
            if fate < 0.02:  # broken off: billed, and we hear nothing of it
                billed += cost
                under_test.settle(hold, "possibly_billed", None)
            elif fate < 0.04:
                under_test.settle(hold, "not_billed", None)
            else:
                billed += cost
                under_test.settle(hold, "billed", cost, usage(tokens_in, tokens_out))

    with anyio.fail_after(100_000):
        async with anyio.create_task_group() as tasks:
            for _ in range(slots):
                tasks.start_soon(work)
    assert is_over.is_set()
    return Decimal(cents) / 100, billed


def holds(limit: Decimal, billed: Decimal, images: int) -> bool:
    return LEAST * limit <= billed <= MOST[images] * limit


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=1000, help="how many nights of each kind")
    seeds = options.parse_args().seeds
    bad = 0
    for images in MOST:
        began_s = time.perf_counter()
        shares = []
        for seed in range(seeds):
            limit, billed = played(seed, images)
            shares.append(billed / limit)
            if not holds(limit, billed, images):
                bad += 1
                print(f"seed {seed}, {images} images: {billed / limit:.4f} of the budget")
        print(
            f"{seeds:,} nights, 500 at a time, {images} images a request: {min(shares):.4f} to "
            f"{max(shares):.4f} of the budget billed, {time.perf_counter() - began_s:.0f} s",
            flush=True,
        )
    return 1 if bad else 0


def played(seed: int, images: int) -> tuple[Decimal, Decimal]:
    found: list[tuple[Decimal, Decimal]] = []

    @on_virtual_time
    async def one() -> None:
        found.append(await night(seed, images=images))

    one()
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
