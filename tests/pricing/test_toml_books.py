"""A price book of one's own: what its entries say, when they hold, and what is said of a wrong one."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.errors import PriceBookError
from pipeline.pricing import Layered, ListPrices, Rates, TomlBook, price
from pipeline.records import CountModality, Direction, Kind, TokenCount

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "data/prices/gateway-example.toml"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HEAD = 'currency = "EUR"\n'


def book(tmp_path: Path, text: str) -> TomlBook:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + text, "utf-8")
    return TomlBook.read(path)


def rates(tmp_path: Path, entry: str, at: datetime = NOON) -> Rates:
    found = book(tmp_path, f'[[price]]\nmodels = ["m"]\n{entry}').rates("m", at)
    assert found is not None
    return found


def count(
    modality: CountModality, tokens: int, direction: Direction = "input", kind: Kind = "fresh"
) -> TokenCount:
    return TokenCount(modality, direction, kind, tokens, "reported")


def text_price(found: TomlBook, model: str) -> str:
    held = found.rates(model, NOON)
    assert held is not None
    return unit(held, "text")


def unit(found: Rates, modality: CountModality, direction: Direction = "input", kind: Kind = "fresh") -> str:
    priced = found.base.get((modality, direction, kind))
    return "-" if priced is None else f"{priced.per_mtok.normalize():f}"


# The worked example


def test_the_example_reply_in_yuan():
    """9 text, 399 audio and 1,656 image and video in, 230 out, at 5.04 yuan for each dollar of the list:
    (9 x 1.26 + 399 x 2.52 + 1,656 x 1.26 + 230 x 7.56) / 1,000,000 = CNY 0.00484218."""
    found = TomlBook.read(EXAMPLE).rates("gemini-3.1-flash-lite-preview", NOON)
    counts = [
        count("text", 9),
        count("audio", 399),
        TokenCount("image+video", "input", "fresh", 1656, "derived"),
        count("text", 230, "output"),
    ]
    priced = price(counts, found, ["image", "audio", "video"])
    assert priced.cost == Decimal("0.00484218")
    assert (priced.cost_low, priced.cost_high) == (priced.cost, priced.cost)
    assert {charge.currency for charge in priced.charges} == {"CNY"}
    assert priced.charges[0].price_source == "gateway-example, gemini-3.1-flash-lite* (checked 2026-11-23)"


def test_above_a_tier_the_whole_reply_is_dearer():
    """200,001 in: 2.50 x 5.04 = 12.60 a million; 10 out: 15 x 5.04 = 75.60 a million."""
    found = TomlBook.read(EXAMPLE).rates("gemini-2.5-pro", NOON)
    priced = price([count("text", 200_001), count("text", 10, "output")], found)
    assert priced.cost == Decimal("200001") * Decimal("12.60") / 10**6 + Decimal("75.60") * 10 / 10**6
    priced = price([count("text", 200_000)], found)
    assert priced.cost == Decimal("200000") * Decimal("6.30") / 10**6


def test_a_fee_is_a_charge_of_its_own_and_adds_up_with_the_tokens():
    """1,000 in at 0.30 x 7.2, 1,290 image tokens out at 30 x 7.2, and 0.01 x 7.2 for the reply:
    0.00216 + 0.27864 + 0.072 = 0.3528."""
    found = TomlBook.read(EXAMPLE).rates("an-image-model", NOON)
    priced = price([count("text", 1000), count("image", 1290, "output")], found)
    assert priced.cost == Decimal("0.3528")
    assert sum(charge.cost or 0 for charge in priced.charges) == priced.cost
    fee = priced.charges[-1]
    assert (fee.count.kind, fee.count.tokens, fee.cost, fee.price_per_mtok) == (
        "request",
        0,
        Decimal("0.072"),
        None,
    )


def test_a_reply_without_usage_costs_its_fee():
    assert price([], TomlBook.read(EXAMPLE).rates("an-image-model", NOON)).cost == Decimal("0.072")
    assert price([], TomlBook.read(EXAMPLE).rates("gemini-2.5-pro", NOON)).cost is None


# What an entry says


def test_a_plain_number_is_the_price_of_every_input(tmp_path: Path):
    found = rates(tmp_path, "input = 0.5")
    assert [
        unit(found, m) for m in ("text", "image", "audio", "video", "document", "image+video", "unattributed")
    ] == ["0.5"] * 7


def test_a_plain_number_for_output_is_that_of_text_alone(tmp_path: Path):
    found = rates(tmp_path, "output = 2")
    assert [unit(found, m, "output") for m in ("text", "unattributed", "image", "audio")] == [
        "2",
        "2",
        "-",
        "-",
    ]
    assert unit(found, "text", "output", "reasoning") == "2", "which costs what text costs, unless it says"


def test_what_is_not_named_has_no_price(tmp_path: Path):
    found = rates(tmp_path, "input = { text = 1 }")
    assert unit(found, "audio") == "-"
    priced = price([count("text", 10), count("audio", 10)], found)
    assert [charge.cost for charge in priced.charges] == [Decimal("0.00001"), None]


def test_other_is_every_input_that_is_not_named(tmp_path: Path):
    found = rates(tmp_path, "input = { audio = 4, other = 1 }")
    assert [unit(found, m) for m in ("audio", "text", "video")] == ["4", "1", "1"]


def test_no_price_for_cached_tokens_means_no_discount(tmp_path: Path):
    found = rates(tmp_path, "input = { text = 1, audio = 4 }\ncached = { text = 0.1 }")
    assert unit(found, "text", kind="cached") == "0.1"
    assert unit(found, "audio", kind="cached") == "4"
    assert unit(found, "text", kind="cache_write_5m") == "-", "that costs more, and nobody knows how much"


def test_what_may_be_image_or_video_costs_the_dearer_and_the_bounds_say_so(tmp_path: Path):
    found = rates(tmp_path, "input = { image = 2, video = 5 }")
    counts = [TokenCount("image+video", "input", "fresh", 1_000_000, "derived")]
    priced = price(counts, found, ["image", "video"])
    assert (priced.cost_low, priced.cost, priced.cost_high) == (2, 5, 5)


def test_the_multiplier_of_an_entry_goes_before_that_of_the_book(tmp_path: Path):
    text = (
        'multiplier = "0.5"\n[[price]]\nmodels=["a"]\ninput=1\n[[price]]\nmodels=["b"]\ninput=1\nmultiplier=3'
    )
    found = book(tmp_path, text)
    assert [text_price(found, m) for m in ("a", "b")] == ["0.5", "3"]


# Which entry holds


def test_days_are_utc_and_both_included(tmp_path: Path):
    text = '[[price]]\nmodels = ["m"]\nvalid_from = 2026-06-01\nvalid_to = "2026-06-30"\ninput = 1'
    found = book(tmp_path, text)
    days = [(5, 31, 23), (6, 1, 0), (6, 30, 23), (7, 1, 0)]
    assert [found.rates("m", datetime(2026, m, d, h, tzinfo=UTC)) is not None for m, d, h in days] == [
        False,
        True,
        True,
        False,
    ]


def test_of_entries_that_hold_the_first_does(tmp_path: Path):
    text = '[[price]]\nmodels = ["m-1*", "m-2"]\ninput = 1\n[[price]]\nmodels = ["m-*"]\ninput = 2'
    found = book(tmp_path, text)
    assert [text_price(found, m) for m in ("m-10", "m-2", "m-3")] == [
        "1",
        "1",
        "2",
    ]
    assert found.rates("n", NOON) is None


def test_what_the_book_does_not_know_the_list_prices(tmp_path: Path):
    layered = Layered((book(tmp_path, '[[price]]\nmodels = ["m"]\ninput = 1'), ListPrices()))
    mine, listed = layered.rates("m", NOON), layered.rates("gemini-3.1-flash-lite-preview", NOON)
    assert mine is not None
    assert listed is not None
    assert (mine.currency, listed.currency) == ("EUR", "USD")
    assert layered.identity().name == "mine"


# A book that is wrong


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "price holds no entries; begin each with [[price]]"),
        ("prices = 1", "there is no 'prices' here; there are checked, currency, "),
        ("[[price]]\ninput = 1", "[[price]] 1: models is a list of names or patterns"),
        ('[[price]]\nmodels = ["m"]', "[[price]] 1: input is missing: an entry needs a price for something"),
        ('[[price]]\nmodels = ["m"]\ninput = "cheap"', "[[price]] 1: input is no price: 'cheap'"),
        ('[[price]]\nmodels = ["m"]\ninput = -1', "[[price]] 1: input is no price: -1"),
        ('[[price]]\nmodels = ["m"]\ninput = nan', "[[price]] 1: input is no price"),
        ('[[price]]\nmodels = ["m"]\ninput = { audoi = 1 }', "[[price]] 1: input: there is no 'audoi' here"),
        (
            '[[price]]\nmodels = ["m"]\noutput = { other = 1 }',
            "[[price]] 1: output: there is no 'other' here",
        ),
        ('[[price]]\nmodels = ["m"]\ninput = { audio = true }', "[[price]] 1: input.audio is no price: True"),
        (
            '[[price]]\nmodels = ["m"]\ninput = 1\nvalid_to = "soon"',
            "[[price]] 1: valid_to is no day: 'soon'",
        ),
        (
            '[[price]]\nmodels = ["m"]\ninput = 1\nvalid_from = 2026-02-02\nvalid_to = 2026-02-01',
            "[[price]] 1: valid_to lies before valid_from (2026-02-02)",
        ),
        (
            '[[price]]\nmodels = ["m"]\ninput = 1\n[[price.tier]]\ninput = 2',
            "[[price]] 1: [[price.tier]] 1: above_input_tokens is a whole number from 1 up",
        ),
        (
            '[[price]]\nmodels = ["m"]\ninput = 1\n[[price.tier]]\nabove_input_tokens = 9\n'
            "[[price.tier]]\nabove_input_tokens = 9",
            "[[price]] 1: [[price.tier]] 2: above_input_tokens is not above that of the tier before",
        ),
        ("[[price]", "is not TOML"),
    ],
)
def test_a_book_that_is_wrong_says_what_and_where(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(PriceBookError) as caught:
        book(tmp_path, text)
    assert str(caught.value).startswith(f"price book {tmp_path / 'mine.toml'}: {sentence}")


def test_a_currency_is_three_capital_letters(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('currency = "yuan"\n[[price]]\nmodels = ["m"]\ninput = 1', "utf-8")
    with pytest.raises(PriceBookError, match='three capital letters, as in currency = "CNY"'):
        TomlBook.read(path)


def test_a_missing_book_is_a_sentence(tmp_path: Path):
    with pytest.raises(PriceBookError, match=r"cannot be read \(No such file or directory\)"):
        TomlBook.read(tmp_path / "none.toml")
