"""A budget under concurrency: never more than the cap, nearly all of it, and no stall. On virtual time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import anyio
import pytest

from pipeline.budget import Budget, Cap, Ceilings
from pipeline.errors import CurrencyDiffers, Unpriced
from pipeline.gate import GateClosed
from pipeline.pricing import money, trillionths
from tests.budget_nights import IN, NOON, Book, holds, item, played, usage
from tests.rehearsing import on_virtual_time


def budget(limit: str, *, spent: str = "0", now: Callable[[], datetime] = lambda: NOON) -> Budget:
    cap = Cap(trillionths(Decimal(limit)), trillionths(Decimal(spent)))
    return Budget([cap], Ceilings([(Book(), frozenset())], "USD", now), now)


def spent_by(under_test: Budget) -> Decimal:
    return money(under_test.caps[0].spent)


CEILING = Decimal("0.001525")
"""36 bytes of prompt and 64 tokens around it x 0.25, 1,000 tokens out x 1.50, a million."""


# What is set aside


@on_virtual_time
async def test_what_a_text_can_cost_at_most_is_set_aside_and_becomes_what_it_cost():
    under_test = budget("1")
    hold = await under_test.hold(item(1))
    assert money(hold.amount) == CEILING
    under_test.settle(hold, "billed", Decimal("0.0002"))
    assert spent_by(under_test) == Decimal("0.0002")


@on_virtual_time
async def test_what_may_have_been_billed_counts_as_much_as_was_set_aside():
    under_test = budget("1")
    under_test.settle(await under_test.hold(item(1)), "possibly_billed", None)
    assert spent_by(under_test) == CEILING
    under_test.settle(await under_test.hold(item(2)), "not_billed", None)
    assert spent_by(under_test) == CEILING, "what was not billed costs nothing"
    under_test.settle(await under_test.hold(item(3)), "billed", None)
    assert spent_by(under_test) == 2 * CEILING, "billed, and nobody said how much"


@on_virtual_time
async def test_media_come_to_what_similar_ones_came_to():
    """The first goes with the longest context there is; then twice what one came to, 1.5 times of four."""
    under_test = budget("10")
    first = await under_test.hold(item(1, images=1))
    assert money(first.amount) == CEILING + 1_048_576 * IN / 10**6
    for row, reply in enumerate((1000, 900, 800, 1100), 2):
        under_test.settle(first, "billed", Decimal("0.0001"), usage(reply, 1000))
        first = await under_test.hold(item(row, images=1))
        if row == 2:
            assert money(first.amount) == CEILING + 2000 * IN / 10**6
    assert money(first.amount) == CEILING + 1650 * IN / 10**6


@on_virtual_time
async def test_where_nothing_like_it_was_answered_and_the_budget_is_small_it_goes_alone():
    under_test = budget("0.01")
    went: list[int] = []

    async def ask(row: int) -> None:
        hold = await under_test.hold(item(row, images=1))
        went.append(row)
        await anyio.sleep(10)
        under_test.settle(hold, "billed", Decimal("0.0002"), usage(500, 10))

    async with anyio.create_task_group() as tasks:
        for row in range(1, 6):
            tasks.start_soon(ask, row)
        await anyio.sleep(5)
        assert len(went) == 1
        await anyio.sleep(10)
        assert sorted(went) == [1, 2, 3, 4, 5]


@on_virtual_time
async def test_a_model_without_a_price_or_in_another_currency_cannot_be_held():
    under_test = budget("1")
    with pytest.raises(Unpriced, match="no price is known for model 'other'"):
        await under_test.hold(item(7, model="other"))
    in_euros = Ceilings([(Book("EUR"), frozenset())], "USD", lambda: NOON)
    euros = Budget([Cap(trillionths(Decimal(1)), 0)], in_euros, lambda: NOON)
    with pytest.raises(CurrencyDiffers, match="is priced in EUR, the budget in USD"):
        await euros.hold(item(7))


@on_virtual_time
async def test_of_several_endpoints_that_serve_the_model_the_dearest_counts():
    books = [
        (Book(), frozenset({"m"})),
        (Book(out=Decimal(3)), frozenset[str]()),
        (Book("EUR"), frozenset({"n"})),
    ]
    under_test = Budget([Cap(trillionths(Decimal(1)), 0)], Ceilings(books, "USD", lambda: NOON), lambda: NOON)
    assert money((await under_test.hold(item(1))).amount) == CEILING + Decimal("0.0015")


# The end of a budget


@on_virtual_time
async def test_it_is_spent_once_nothing_is_under_way_and_the_next_does_not_fit():
    under_test = budget("0.0031")
    told: list[str] = []
    under_test.on_spent = lambda: told.append("spent")
    holds = [await under_test.hold(item(1)), await under_test.hold(item(2))]

    async def third() -> None:
        with pytest.raises(GateClosed):
            await under_test.hold(item(3))
        told.append("closed")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(third)
        await anyio.sleep(1)
        under_test.settle(holds[0], "billed", CEILING)
        await anyio.sleep(1)
        assert told == [], "the other may turn out to be cheap"
        under_test.settle(holds[1], "billed", CEILING)
    assert told == ["spent", "closed"]


@on_virtual_time
async def test_nobody_overtakes_and_who_gives_up_leaves_the_line():
    under_test = budget("0.002")
    first = await under_test.hold(item(1))
    order: list[int] = []

    async def ask(row: int) -> None:
        hold = await under_test.hold(item(row, max_tokens=1000 if row == 3 else 10))
        order.append(row)
        under_test.settle(hold, "billed", Decimal("0.00001"))

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(1):
            await under_test.hold(item(2))
        for row in (3, 4, 5):
            tasks.start_soon(ask, row)
            await anyio.sleep(1)
        assert order == [], "the fourth is small, and waits behind the third"
        under_test.settle(first, "billed", Decimal("0.00001"))
    assert order == [3, 4, 5]


@on_virtual_time
async def test_a_days_budget_begins_anew_with_the_day():
    zone = ZoneInfo("Asia/Shanghai")
    clock = {"now": datetime(2026, 6, 1, 15, 59, tzinfo=UTC)}  # 23:59 there

    def now() -> datetime:
        return clock["now"]

    cap = Cap(
        trillionths(Decimal("0.002")), trillionths(Decimal("0.0004")), zone, datetime(2026, 6, 1).date()
    )
    under_test = Budget([cap], Ceilings([(Book(), frozenset())], "USD", now), now)
    under_test.settle(await under_test.hold(item(1)), "billed", Decimal("0.001"))
    assert cap.spent == trillionths(Decimal("0.0014"))
    clock["now"] += timedelta(minutes=2)
    under_test.settle(await under_test.hold(item(2)), "billed", Decimal("0.001"))
    assert (cap.spent, cap.day) == (trillionths(Decimal("0.001")), datetime(2026, 6, 2).date())


# Nights


@pytest.mark.parametrize("images", [0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_with_500_at_a_time_the_cap_holds_and_nearly_all_of_it_is_spent(seed: int, images: int):
    """Never above where a bound is known, at most a hundredth where media are learned; at least 95%."""
    limit, billed = played(seed, images)
    assert holds(limit, billed, images), f"{billed / limit:.4f} of the budget"


@on_virtual_time
async def test_whoever_waits_for_room_in_the_budget_is_limited_by_it():
    """There is room for one: the second waits until the first has ended, five seconds later."""
    under_test = budget("0.0020")
    first = await under_test.hold(item(1))

    async def second() -> None:
        under_test.settle(await under_test.hold(item(2)), "not_billed", None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second)
        await anyio.sleep(5.0)
        assert under_test.limited.now == "budget"
        under_test.settle(first, "not_billed", None)
    assert under_test.limited.until(anyio.current_time()) == {"budget": pytest.approx(5.0)}
