"""Recorded replies → counts → money, with the arithmetic visible.

Prices in USD a million tokens: text, image and video in 0.25, audio in 0.50, cached a tenth of that; text out
1.50, images out 30.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.dialects import DIALECTS
from pipeline.pricing import Priced, Rates, UnitPrice, price
from pipeline.records import CountModality, Kind, MediaModality, Reply
from tests.dialects.made import recorded, request_of

ALL: tuple[MediaModality, ...] = ("image", "audio", "video")
PLAIN: tuple[CountModality, ...] = ("text", "image", "video", "image+video", "unattributed")


def _sheet() -> dict[tuple[CountModality, str, Kind], UnitPrice]:
    sheet: dict[tuple[CountModality, str, Kind], UnitPrice] = {}
    for modality in PLAIN:
        sheet[modality, "input", "fresh"] = UnitPrice.of(Decimal("0.25"))
        sheet[modality, "input", "cached"] = UnitPrice.of(Decimal("0.025"))
    sheet["audio", "input", "fresh"] = UnitPrice.of(Decimal("0.50"))
    sheet["audio", "input", "cached"] = UnitPrice.of(Decimal("0.05"))
    sheet["text", "output", "fresh"] = UnitPrice.of(Decimal("1.50"))
    sheet["text", "output", "reasoning"] = UnitPrice.of(Decimal("1.50"))
    sheet["image", "output", "fresh"] = UnitPrice.of(Decimal(30))
    return sheet


RATES = Rates("USD", "made", _sheet())  # type: ignore[arg-type]


def priced(name: str, *sent: MediaModality) -> Priced:
    reply: Reply = DIALECTS["newapi"].parse(recorded(name), request_of(*sent))
    assert reply.usage is not None
    return price(reply.usage.counts, RATES, sent)


@pytest.mark.parametrize(
    ("name", "sent", "millionths"),
    [
        pytest.param(
            "newapi_example",
            ALL,
            "9*0.25 + 399*0.50 + 1656*0.25 + 230*1.50",
            id="the example: nobody names the video",
        ),
        pytest.param(
            "newapi_cached",
            ALL,
            "5*0.25 + 4*0.025 + 201*0.50 + 198*0.05 + 834*0.25 + 822*0.025 + 230*1.50",
            id="1,024 cached tokens, spread over what was sent",
        ),
        pytest.param(
            "newapi_reasoning",
            ("image",),
            "8*0.25 + 1120*0.25 + 200*1.50 + 700*1.50",
            id="700 of the 900 completion tokens are reasoning, and are in it already",
        ),
        pytest.param("newapi_image_output", (), "20*0.25 + 20*1.50 + 1290*30", id="an image in the answer"),
        pytest.param(
            "xai_reasoning_apart",
            ("image",),
            "96*0.25 + 1024*0.25 + 9*1.50 + 300*1.50",
            id="reasoning that the completion leaves out",
        ),
        pytest.param(
            "newapi_all_text",
            ("image",),
            "1300*0.25 + 52*1.50",
            id="all called text although an image was sent: priced on the total",
        ),
        pytest.param(
            "newapi_parts_above_whole",
            ("audio",),
            "300*0.25 + 10*1.50",
            id="parts above the whole: priced on the totals",
        ),
        pytest.param(
            "gemini_compat_thoughts",
            ("video",),
            "1100*0.25 + 50*1.50",
            id="300 thoughts without a name, for which this book has no price: not zero, unknown",
        ),
    ],
)
def test_a_recorded_reply_costs_exactly_this(
    name: str, sent: tuple[MediaModality, ...], millionths: str
) -> None:
    terms = [term.split("*") for term in millionths.split(" + ")]
    expected = sum(Decimal(tokens) * Decimal(rate) for tokens, rate in terms) / 10**6
    assert priced(name, *sent).cost == expected


def test_where_audio_was_sent_and_nothing_is_named_the_bounds_say_what_it_may_have_cost() -> None:
    """300 tokens of text at 0.25 or of audio at 0.50, and 10 out at 1.50: 0.00009 to 0.000165."""
    found = priced("newapi_parts_above_whole", "audio")
    assert (found.cost_low, found.cost_high) == (Decimal("0.00009"), Decimal("0.000165"))


def test_a_reply_without_usage_has_no_counts_and_so_no_known_cost() -> None:
    reply = DIALECTS["newapi"].parse(recorded("newapi_no_usage"), request_of("image"))
    assert reply.usage is None
    assert price((), RATES, ("image",)).cost is None
