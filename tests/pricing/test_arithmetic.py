"""The arithmetic, visible."""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from decimal import Decimal

import pytest

from pipeline.pricing import NegativeCount, Priced, Rates, UnitPrice, price, total
from pipeline.pricing.rates import Unit
from pipeline.records import CountModality, Direction, Kind, Provenance, TokenCount

# A model that takes everything: input 0.25, audio in 0.50, cached 0.025 (audio 0.05), out 1.50, image out 30.
PRICES: dict[Unit, str] = {
    ("text", "input", "fresh"): "0.25",
    ("image", "input", "fresh"): "0.25",
    ("video", "input", "fresh"): "0.25",
    ("document", "input", "fresh"): "0.25",
    ("image+video", "input", "fresh"): "0.25",
    ("unattributed", "input", "fresh"): "0.25",
    ("audio", "input", "fresh"): "0.50",
    ("text", "input", "cached"): "0.025",
    ("image", "input", "cached"): "0.025",
    ("video", "input", "cached"): "0.025",
    ("image+video", "input", "cached"): "0.025",
    ("unattributed", "input", "cached"): "0.025",
    ("audio", "input", "cached"): "0.05",
    ("text", "output", "fresh"): "1.50",
    ("text", "output", "reasoning"): "1.50",
    ("unattributed", "output", "fresh"): "1.50",
}


def rates_of(prices: Mapping[Unit, str], *tiers: tuple[int, Mapping[Unit, str]]) -> Rates:
    def sheet(of: Mapping[Unit, str]) -> dict[Unit, UnitPrice]:
        return {unit: UnitPrice.of(Decimal(value)) for unit, value in of.items()}

    return Rates("USD", "a book", sheet(prices), tuple((start, sheet(of)) for start, of in tiers))


RATES = rates_of(PRICES)


def count(
    tokens: int,
    modality: CountModality = "text",
    direction: Direction = "input",
    kind: Kind = "fresh",
    provenance: Provenance = "reported",
) -> TokenCount:
    return TokenCount(modality, direction, kind, tokens, provenance)


def bounds(priced: Priced) -> tuple[Decimal | None, Decimal | None]:
    return priced.cost_low, priced.cost_high


EXAMPLE = (
    count(9),
    count(399, "audio"),
    count(1656, "image+video", provenance="derived"),
    count(230, "text", "output", provenance="derived"),
)


def test_the_example_costs_exactly_this() -> None:
    """9 x 0.25 + 399 x 0.50 + 1656 x 0.25 + 230 x 1.50, a million each = 0.00096075."""
    priced = price(EXAMPLE, RATES, ("image", "audio", "video"))
    assert [charge.cost for charge in priced.charges] == [
        Decimal("0.00000225"),
        Decimal("0.0001995"),
        Decimal("0.000414"),
        Decimal("0.000345"),
    ]
    assert priced.cost == Decimal("0.00096075")
    assert bounds(priced) == (Decimal("0.00096075"), Decimal("0.00096075"))


def test_a_charge_says_what_it_was_charged_by() -> None:
    charge = price([count(9)], RATES).charges[0]
    assert charge.count == count(9)
    assert (str(charge.price_per_mtok), charge.currency, charge.price_source) == ("0.250000", "USD", "a book")


def test_costs_have_the_scale_of_the_stores_columns() -> None:
    charge = price([count(9)], RATES).charges[0]
    assert charge.cost is not None
    assert charge.cost.as_tuple().exponent == -12


def test_cached_audio_is_billed_once() -> None:
    """1,000 audio in, 400 of them cached: 600 x $0.50/M + 400 x $0.05/M = $0.00032."""
    priced = price([count(600, "audio"), count(400, "audio", kind="cached")], RATES)
    assert priced.cost == Decimal("0.00032")


def test_reasoning_costs_what_output_costs() -> None:
    """200 + 700 at $1.50/M = $0.00135."""
    priced = price([count(200, "text", "output"), count(700, "text", "output", "reasoning")], RATES)
    assert priced.cost == Decimal("0.00135")


def test_unknown_is_not_free() -> None:
    priced = price([count(100, "image", "output"), count(10)], RATES)
    first = priced.charges[0]
    assert (first.cost, first.price_per_mtok, first.currency, first.price_source) == (None,) * 4
    assert priced.cost == Decimal("0.0000025")


def test_nothing_known_costs_an_unknown_amount() -> None:
    priced = price([count(100, "image", "output")], RATES)
    assert (priced.cost, *bounds(priced)) == (None, None, None)


def test_no_rates_leave_every_charge_unknown_in_order() -> None:
    priced = price(EXAMPLE, None)
    assert [charge.count for charge in priced.charges] == list(EXAMPLE)
    assert all(charge.cost is None for charge in priced.charges)
    assert (priced.cost, *bounds(priced)) == (None, None, None)


def test_no_counts_are_no_charges_and_no_known_cost() -> None:
    assert price([], RATES) == Priced((), None, None, None)


def test_a_price_of_zero_is_known() -> None:
    priced = price([count(10)], rates_of({("text", "input", "fresh"): "0"}))
    assert priced.cost == 0
    assert priced.charges[0].currency == "USD"


def test_a_count_below_zero_is_a_bug_that_surfaces() -> None:
    with pytest.raises(NegativeCount, match="-1 text input tokens"):
        price([count(5), count(-1)], RATES)
    with pytest.raises(NegativeCount):
        price([count(-1)], None)


def test_unattributed_input_is_bounded_by_what_was_sent() -> None:
    """1,000 that are text at 0.25 or audio at 0.50: 0.00025 at least, 0.0005 at most."""
    priced = price([count(1000, "unattributed", provenance="derived")], RATES, ("audio",))
    charge = priced.charges[0]
    assert (charge.cost, charge.cost_low, charge.cost_high) == (
        Decimal("0.00025"),
        Decimal("0.00025"),
        Decimal("0.0005"),
    )
    assert bounds(priced) == (Decimal("0.00025"), Decimal("0.0005"))


def test_unattributed_input_beside_an_image_is_certain_where_both_cost_the_same() -> None:
    priced = price([count(1000, "unattributed", provenance="derived")], RATES, ("image",))
    assert bounds(priced) == (Decimal("0.00025"), Decimal("0.00025"))


def test_unattributed_input_beside_a_video_may_be_its_soundtrack() -> None:
    priced = price([count(1000, "unattributed", provenance="derived")], RATES, ("video",))
    assert bounds(priced) == (Decimal("0.00025"), Decimal("0.0005"))


def test_a_soundtrack_is_no_audio_to_a_model_without_an_audio_rate() -> None:
    deaf = rates_of({unit: value for unit, value in PRICES.items() if unit[0] != "audio"})
    priced = price([count(1000, "unattributed", provenance="derived")], deaf, ("video",))
    assert bounds(priced) == (Decimal("0.00025"), Decimal("0.00025"))


def test_a_bound_is_unknown_where_a_rate_it_needs_is() -> None:
    """Audio was sent, and this model's audio has no listed price."""
    deaf = rates_of({unit: value for unit, value in PRICES.items() if unit[0] != "audio"})
    priced = price([count(1000, "unattributed", provenance="derived"), count(10)], deaf, ("audio",))
    charge = priced.charges[0]
    assert (charge.cost, charge.cost_low, charge.cost_high) == (Decimal("0.00025"), None, None)
    assert bounds(priced) == (None, None)
    assert priced.cost == Decimal("0.0002525")


def test_image_and_video_are_bounded_by_their_two_rates() -> None:
    """1,000 that are image at 0.60 or video at 0.25."""
    rates = rates_of({**PRICES, ("image", "input", "fresh"): "0.60"})
    priced = price([count(1000, "image+video", provenance="derived")], rates, ("image", "video"))
    assert bounds(priced) == (Decimal("0.00025"), Decimal("0.0006"))


def test_output_that_no_completion_total_holds_is_text_or_what_else_the_model_makes() -> None:
    """1,000 at 1.50, or at 30 if they were an image."""
    maker = rates_of({**PRICES, ("image", "output", "fresh"): "30"})
    counts = [count(1000, "unattributed", "output", provenance="derived")]
    assert bounds(price(counts, RATES)) == (Decimal("0.0015"), Decimal("0.0015"))
    assert bounds(price(counts, maker)) == (Decimal("0.0015"), Decimal("0.03"))


def test_spread_cached_tokens_are_bounded_by_the_cheapest_and_dearest_placing() -> None:
    """600 text at 0.25, 400 audio at 0.50, 500 of all cached; text saves 0.225, audio 0.45 a million.

    Spread: 300 x 0.25 + 300 x 0.025 + 200 x 0.50 + 200 x 0.05 = 192.5 millionths.
    Lowest: all 400 audio cached, 100 text: 400 x 0.05 + 100 x 0.025 + 500 x 0.25 = 147.5.
    Highest: 500 text cached: 500 x 0.025 + 100 x 0.25 + 400 x 0.50 = 237.5.
    """
    counts = [
        count(300, provenance="estimated"),
        count(300, kind="cached", provenance="estimated"),
        count(200, "audio", provenance="estimated"),
        count(200, "audio", kind="cached", provenance="estimated"),
    ]
    priced = price(counts, RATES, ("audio",))
    assert priced.cost == Decimal("0.0001925")
    assert bounds(priced) == (Decimal("0.0001475"), Decimal("0.0002375"))


def test_output_stays_outside_the_placing_of_cached_input() -> None:
    """As above, plus 1,000 out at 1.50 on all three."""
    counts = [
        count(300, provenance="estimated"),
        count(300, kind="cached", provenance="estimated"),
        count(200, "audio", provenance="estimated"),
        count(200, "audio", kind="cached", provenance="estimated"),
        count(1000, "text", "output"),
    ]
    priced = price(counts, RATES, ("audio",))
    assert (priced.cost, *bounds(priced)) == (
        Decimal("0.0016925"),
        Decimal("0.0016475"),
        Decimal("0.0017375"),
    )


def test_a_spread_over_modalities_of_one_price_is_certain() -> None:
    counts = [
        count(30, provenance="estimated"),
        count(30, kind="cached", provenance="estimated"),
        count(20, "image", provenance="estimated"),
        count(20, "image", kind="cached", provenance="estimated"),
    ]
    priced = price(counts, RATES, ("image",))
    assert bounds(priced) == (priced.cost, priced.cost)


def test_a_spread_that_may_hold_cached_audio_of_unknown_price_has_no_bounds() -> None:
    rates = rates_of({unit: value for unit, value in PRICES.items() if unit != ("audio", "input", "cached")})
    counts = [
        count(30, kind="cached", provenance="estimated"),
        count(20, "audio", provenance="estimated"),
    ]
    priced = price(counts, rates, ("audio",))
    assert priced.cost is not None
    assert bounds(priced) == (None, None)


TIERED = rates_of(
    {("text", "input", "fresh"): "1.25", ("text", "output", "fresh"): "10"},
    (200_000, {("text", "input", "fresh"): "2.50", ("text", "output", "fresh"): "15"}),
    (500_000, {("text", "input", "fresh"): "5", ("text", "output", "fresh"): "20"}),
)


@pytest.mark.parametrize(
    ("prompt", "cost"),
    [
        (0, "0.00001"),  # 1 x 10
        (200_000, "0.25001"),  # 200,000 x 1.25 + 1 x 10
        (200_001, "0.5000175"),  # 200,001 x 2.50 + 1 x 15: all of them, not the last one
        (500_000, "1.250015"),
        (500_001, "2.500025"),
    ],
)
def test_a_tier_prices_the_whole_reply(prompt: int, cost: str) -> None:
    counts = [count(prompt), count(1, "text", "output")]
    assert price(counts, TIERED).cost == Decimal(cost)


def test_cached_tokens_count_towards_the_tier() -> None:
    rates = rates_of(
        {("text", "input", "fresh"): "1", ("text", "input", "cached"): "0.1"},
        (100, {("text", "input", "fresh"): "2", ("text", "input", "cached"): "0.2"}),
    )
    assert price([count(60), count(60, kind="cached")], rates).cost == Decimal("0.000132")


def test_no_ambient_decimal_context_changes_a_cost() -> None:
    with decimal.localcontext() as context:
        context.prec = 2
        context.rounding = decimal.ROUND_UP
        context.traps[decimal.Inexact] = True
        priced = price([count(123_456_789), count(987_654_321, "audio")], RATES)
        added = total(charge.cost for charge in priced.charges)
    assert priced.cost == Decimal("524.6913577500")
    assert added == priced.cost


def test_the_largest_count_is_priced_to_the_last_digit() -> None:
    """2**53 x 0.333333 / 10**6."""
    rates = rates_of({("text", "input", "fresh"): "0.333333"})
    assert price([count(2**53)], rates).cost == Decimal(2**53 * 333_333).scaleb(-12)


def test_a_unit_price_is_fixed_to_six_decimals() -> None:
    unit = UnitPrice.of(Decimal("0.041666666666666664"))
    assert (str(unit.per_mtok), unit.micros) == ("0.041667", 41_667)
    assert UnitPrice.of(Decimal("0.0000005")).micros == 0  # half to even
    assert UnitPrice.of(Decimal("1E+2")).micros == 100_000_000


@pytest.mark.parametrize("value", ["-1", "NaN", "Infinity"])
def test_what_is_no_price_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="not a price"):
        UnitPrice.of(Decimal(value))


def test_a_total_is_of_what_is_known() -> None:
    assert total([Decimal("0.1"), None, Decimal("0.2")]) == Decimal("0.3")
    assert total([None, None]) is None
    assert total([]) is None
