"""Whatever the counts: order, length, exactness, and bounds that hold."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pricing import Rates, UnitPrice, price, total
from pipeline.pricing.rates import Unit
from pipeline.records import (
    MEDIA_MODALITIES,
    CountModality,
    Direction,
    Kind,
    Provenance,
    TokenCount,
)

counts = st.lists(
    st.builds(
        TokenCount,
        modality=st.sampled_from(get_args(CountModality)),
        direction=st.sampled_from(get_args(Direction)),
        kind=st.sampled_from(get_args(Kind)),
        tokens=st.integers(0, 2**53),
        provenance=st.sampled_from(get_args(Provenance)),
    ),
    max_size=8,
)
units = st.tuples(
    st.sampled_from(get_args(CountModality)),
    st.sampled_from(get_args(Direction)),
    st.sampled_from(get_args(Kind)),
)
prices = st.decimals(0, 1000, places=6).map(UnitPrice.of)
sheets: st.SearchStrategy[dict[Unit, UnitPrice]] = st.dictionaries(units, prices, max_size=60)
rates = st.builds(Rates, currency=st.just("USD"), source=st.just("a book"), base=sheets)
sent = st.sets(st.sampled_from(MEDIA_MODALITIES))


@settings(deadline=None, max_examples=400)
@given(counts=counts, rates=st.none() | rates, sent=sent)
def test_charges_keep_order_and_length_and_add_up(
    counts: list[TokenCount], rates: Rates | None, sent: set[str]
) -> None:
    priced = price(counts, rates, sent)
    assert [charge.count for charge in priced.charges] == counts
    assert priced.cost == total(charge.cost for charge in priced.charges)
    for charge in priced.charges:
        known = [charge.price_per_mtok, charge.cost, charge.currency, charge.price_source]
        assert len({value is None for value in known}) == 1
        if charge.cost is not None and charge.price_per_mtok is not None:
            assert charge.cost * 10**6 == charge.price_per_mtok * charge.count.tokens


@settings(deadline=None, max_examples=200)
@given(counts=counts, rates=rates, sent=sent)
def test_pricing_twice_gives_the_same(counts: list[TokenCount], rates: Rates, sent: set[str]) -> None:
    assert price(counts, rates, sent) == price(counts, rates, sent)


@settings(deadline=None, max_examples=200)
@given(counts=counts, rates=rates)
def test_where_nothing_was_allocated_the_bounds_are_the_cost(counts: list[TokenCount], rates: Rates) -> None:
    certain = [
        count
        for count in counts
        if count.modality not in ("unattributed", "image+video") and count.provenance != "estimated"
    ]
    priced = price(certain, rates)
    assert priced.cost_low == priced.cost == priced.cost_high


MODALITIES: tuple[CountModality, ...] = ("text", "image", "audio")


@settings(deadline=None, max_examples=150)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    cached=st.integers(1, 18),
    fresh=st.lists(prices, min_size=3, max_size=3),
    read=st.lists(prices, min_size=3, max_size=3),
)
def test_the_bounds_of_a_spread_are_the_best_and_the_worst_of_all_placings(
    sizes: list[int], cached: int, fresh: list[UnitPrice], read: list[UnitPrice]
) -> None:
    """Every placing of the cached tokens is tried; the greedy bounds must meet the extremes."""
    cached = min(cached, sum(sizes))
    placings = [
        placing
        for placing in itertools.product(*(range(size + 1) for size in sizes))
        if sum(placing) == cached
    ]
    book: dict[Unit, UnitPrice] = {}
    for modality, f, r in zip(MODALITIES, fresh, read, strict=True):
        book[modality, "input", "fresh"] = f
        book[modality, "input", "cached"] = r
    found = Rates("USD", "a book", book)

    def as_counts(placing: tuple[int, ...], provenance: Provenance) -> list[TokenCount]:
        return [
            TokenCount(modality, "input", kind, tokens, provenance)
            for modality, size, in_cache in zip(MODALITIES, sizes, placing, strict=True)
            for kind, tokens in _kinds(size, in_cache)
        ]

    costs = [price(as_counts(placing, "reported"), found).cost for placing in placings]
    known = [cost for cost in costs if cost is not None]
    priced = price(as_counts(placings[0], "estimated"), found)
    assert (priced.cost_low, priced.cost_high) == (min(known), max(known))


def _kinds(size: int, in_cache: int) -> list[tuple[Kind, int]]:
    return [("fresh", size - in_cache), ("cached", in_cache)]


@settings(deadline=None)
@given(value=st.decimals(0, 10**6, allow_nan=False, allow_infinity=False, places=12))
def test_a_unit_price_and_its_micros_are_one_number(value: Decimal) -> None:
    unit = UnitPrice.of(value)
    assert unit.per_mtok * 10**6 == unit.micros
    assert abs(unit.per_mtok - value) <= Decimal("0.0000005")
