"""Looks and replies → bands."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.estimating.experience import Reply, Unit
from pipeline.estimating.figures import Band, Basis, Foretold, Sample, foretell, together
from pipeline.estimating.fits import Look
from pipeline.pricing import Rates, UnitPrice

TEXT, IMAGE = Unit("text", "input", "fresh"), Unit("image", "input", "fresh")
BOTH = Unit("image+video", "input", "fresh")
OUT = Unit("text", "output", "fresh")
RATES = Rates(
    "USD",
    "made",
    {
        ("text", "input", "fresh"): UnitPrice.of(Decimal(1)),
        ("image", "input", "fresh"): UnitPrice.of(Decimal(2)),
        ("text", "output", "fresh"): UnitPrice.of(Decimal(10)),
    },
)


def look(text: int = 10, image: int | None = 1000, *, longest: int = 400, **images: int) -> Look:
    media = {} if image is None else {"image": image}
    return Look(text, media, images, 0 if image is None else 1, longest)  # type: ignore[arg-type]


def reply(image: int = 500, *, text: int = 10, out: int = 50, name: Unit = IMAGE) -> Reply:
    return Reply("1-key", ("image",), {TEXT: text, name: image, OUT: out}, 1.0)


def likely(told: Foretold, unit: Unit) -> float:
    return told.lines[unit].tokens.likely


def test_before_any_reply_the_rules_tell_and_the_answer_is_a_quarter_of_the_longest() -> None:
    told = foretell([Sample(30, [look(), look()])], Basis(), RATES)
    assert likely(told, TEXT) == 30 * 10
    assert likely(told, IMAGE) == 30 * 1000
    assert told.lines[OUT].tokens == Band(30 * 10, 30 * 100, 30 * 400)


def test_the_cost_is_the_tokens_at_their_prices() -> None:
    """30 x (10 x 1 + 1,000 x 2 + 100 x 10) a million = 0.0903."""
    told = foretell([Sample(30, [look()])], Basis(), RATES)
    assert told.cost.likely == pytest.approx(0.0903)
    assert told.unpriced == 0


def test_tokens_without_a_price_are_counted_apart_and_cost_nothing_known() -> None:
    told = foretell([Sample(30, [look()])], Basis(), None)
    assert told.cost == Band(0, 0, 0)
    assert told.unpriced == 30 * 1110
    assert told.lines[IMAGE].cost is None


def test_an_endpoint_that_counts_by_the_very_rules_leaves_no_doubt_about_the_input() -> None:
    told = foretell([Sample(30, [look()])], Basis(exact=True), RATES)
    assert told.lines[IMAGE].tokens == Band(30_000, 30_000, 30_000)


def test_replies_say_what_the_endpoint_counts_for_each_token_of_the_rules() -> None:
    """500 where the rules say 1,000: half, also for an image of 3,000."""
    basis = Basis([(reply(), look())] * 20)
    told = foretell([Sample(7, [look(image=3000)])], basis, RATES)
    assert likely(told, IMAGE) == pytest.approx(7 * 1500)
    assert told.lines[IMAGE].tokens.high == pytest.approx(7 * 1500)
    assert likely(told, OUT) == pytest.approx(7 * 50)


def test_what_the_endpoint_does_not_tell_apart_is_told_by_its_name() -> None:
    basis = Basis([(reply(name=BOTH), look())] * 20)
    told = foretell([Sample(7, [look()])], basis, RATES)
    assert likely(told, BOTH) == pytest.approx(7 * 500)
    assert IMAGE not in told.lines


def test_replies_that_all_failed_without_a_token_tell_nothing() -> None:
    failed = Reply("1-key", ("image",), {}, 1.0)
    told = foretell([Sample(7, [look()])], Basis([(failed, look())] * 20), RATES)
    assert told == foretell([Sample(7, [look()])], Basis(), RATES)


def test_a_modality_that_the_endpoint_does_not_count_counts_nothing() -> None:
    silent = Reply("1-key", ("image",), {TEXT: 10, OUT: 50}, 1.0)
    other = Unit("video", "input", "fresh")
    named = Reply("1-key", ("image",), {TEXT: 10, other: 7, OUT: 50}, 1.0)
    told = foretell([Sample(7, [look()])], Basis([(silent, look()), (named, look())] * 10), RATES)
    assert IMAGE not in told.lines


def test_images_go_by_the_rules_that_fit_the_replies() -> None:
    """Flat by the model's own rules, 258 a tile by the other family's: the replies are 258 a tile."""
    pairs = [
        (reply(258 * tiles), look(image=1120, flat=1120, tiled=258 * tiles)) for tiles in (1, 2, 4, 9) * 5
    ]
    told = foretell([Sample(10, [look(image=1120, flat=1120, tiled=258 * 6)])], Basis(pairs), RATES)
    assert likely(told, IMAGE) == pytest.approx(10 * 258 * 6)


def test_where_no_media_could_be_looked_at_replies_tell_what_such_requests_come_to() -> None:
    blind = Look(10, None, {}, 1, 400)
    told = foretell([Sample(7, [blind])], Basis([(reply(), None)] * 20), RATES)
    assert likely(told, IMAGE) == pytest.approx(7 * 500)


def test_what_is_no_medium_costs_nothing() -> None:
    fails = Look(10, {}, {}, 1, 400, fails=True)
    told = foretell([Sample(2, [fails, look()])], Basis(exact=True), RATES)
    assert likely(told, IMAGE) == 1000
    assert likely(told, OUT) == 100


def test_more_replies_make_the_band_narrower() -> None:
    def width(replies: int) -> float:
        pairs = [(reply(out=out), look()) for out in (20, 80) * (replies // 2)]
        band = foretell([Sample(1000, [look()])], Basis(pairs), RATES).lines[OUT].tokens
        return band.high - band.low

    assert width(400) < width(50) / 2 < width(8) / 4


def test_a_small_sample_of_media_that_differ_makes_the_band_wider() -> None:
    basis = Basis([(reply(), look())] * 50)
    few = foretell([Sample(1000, [look(image=n) for n in (100, 1900)])], basis, RATES)
    many = foretell([Sample(1000, [look(image=n) for n in (100, 1900) * 50])], basis, RATES)
    assert few.cost.high - few.cost.low > 3 * (many.cost.high - many.cost.low)


def test_errors_that_have_nothing_to_do_with_each_other_add_up_as_squares() -> None:
    """3 and 4 below are 5 together."""
    assert together([Band(7, 10, 13), Band(16, 20, 24)]) == Band(25, 30, 35)


def test_a_tier_prices_the_request_that_reaches_it_and_no_other() -> None:
    """Above 2,000 input tokens text in costs 3 instead of 1: 3,000 x 3 + 1,000 x 1 a million."""
    base = {("text", "input", "fresh"): UnitPrice.of(Decimal(1))}
    dear = {("text", "input", "fresh"): UnitPrice.of(Decimal(3))}
    rates = Rates("USD", "made", base, ((2000, dear),))  # type: ignore[arg-type]
    looks = [look(3000, None), look(1000, None)]
    told = foretell([Sample(2, looks)], Basis(exact=True), rates)
    line = told.lines[TEXT]
    assert line.cost is not None
    assert line.cost.likely == pytest.approx(0.010)


def test_a_fee_for_each_reply_is_a_line_of_its_own() -> None:
    rates = Rates("CNY", "made", RATES.base, fee=5 * 10**9)
    told = foretell([Sample(30, [look()])], Basis(), rates)
    assert told.cost.likely == pytest.approx(0.0903 + 30 * 0.005)
