"""List prices, as the installed genai-prices has them."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from importlib.metadata import version

import pytest
from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.types import ModelInfo, ModelPrice, Provider, Tier, TieredPrices

from pipeline.dialects import DIALECTS
from pipeline.pricing import ListPrices, Rates, price
from pipeline.pricing.books import _sheet, _starts
from pipeline.records import CountModality, Direction, Kind, TokenCount
from tests.dialects.made import EXAMPLE, recorded

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
BOOK = ListPrices()


def rates(model: str, at: datetime = NOON) -> Rates:
    found = BOOK.rates(model, at)
    assert found is not None
    return found


def per_mtok(
    model: str,
    modality: CountModality,
    direction: Direction = "input",
    kind: Kind = "fresh",
    tokens: int = 1,
) -> str | None:
    unit = rates(model).sheet(tokens).get((modality, direction, kind))
    return None if unit is None else f"{unit.per_mtok.normalize():f}"


def test_the_example_from_bytes_to_money() -> None:
    """9 x 0.25 + 399 x 0.50 + 1656 x 0.25 + 230 x 1.50, a million each = 0.00096075."""
    reply = DIALECTS["newapi"].parse(recorded("newapi_example"), EXAMPLE)
    assert reply.usage is not None
    assert reply.model is not None
    priced = price(reply.usage.counts, rates(reply.model), ("image", "audio", "video"))
    assert [charge.cost for charge in priced.charges] == [
        Decimal("0.00000225"),
        Decimal("0.0001995"),
        Decimal("0.000414"),
        Decimal("0.000345"),
    ]
    assert priced.cost == priced.cost_low == priced.cost_high == Decimal("0.00096075")
    assert {charge.currency for charge in priced.charges} == {"USD"}


def test_the_source_names_the_book_its_version_and_the_entry() -> None:
    assert rates("gemini-3.1-flash-lite-preview").source == (
        f"genai-prices {version('genai-prices')}, google/gemini-3.1-flash-lite"
    )


@pytest.mark.parametrize(
    "model",
    [
        "gemini-3.1-flash-lite",
        "google/gemini-3.1-flash-lite",
        "models/gemini-3.1-flash-lite-preview",
        "a-gateway/google/gemini-3.1-flash-lite",
    ],
)
def test_a_gateways_prefix_is_stripped(model: str) -> None:
    assert rates(model) == rates("gemini-3.1-flash-lite")


@pytest.mark.parametrize("model", ["embedded", "", "/", "a/b/c", "no-such-model", "我的模型"])
def test_a_model_that_is_not_listed_has_no_rates(model: str) -> None:
    assert BOOK.rates(model, NOON) is None
    assert BOOK.rates(model, NOON) is None  # and so the second time


def test_audio_without_a_rate_of_its_own_is_unknown() -> None:
    """genai-prices itself would bill it as text, at $2.50."""
    assert per_mtok("gpt-4o-audio-preview", "text") == "2.5"
    assert per_mtok("gpt-4o-audio-preview", "audio") is None
    assert per_mtok("gpt-4o-audio-preview", "audio", kind="cached") is None
    assert per_mtok("gpt-4o-audio-preview", "audio", "output") is None


def test_audio_has_its_own_rates_where_they_are_listed() -> None:
    model = "gemini-3.1-flash-lite"
    assert per_mtok(model, "audio") == "0.5"
    assert per_mtok(model, "audio", kind="cached") == "0.05"
    assert per_mtok(model, "text", kind="cached") == "0.025"


@pytest.mark.parametrize("modality", ["image", "video", "document", "image+video", "unattributed"])
def test_media_without_a_unit_of_their_own_cost_the_input_rate(modality: CountModality) -> None:
    assert per_mtok("gemini-3.1-flash-lite", modality) == "0.25"
    assert per_mtok("gemini-3.1-flash-lite", modality, kind="cached") == "0.025"


def test_media_with_a_unit_of_their_own_cost_that() -> None:
    assert per_mtok("gpt-image-1", "text") == "5"
    assert per_mtok("gpt-image-1", "image") == "10"
    assert per_mtok("gpt-image-1", "image", kind="cached") == "2.5"


def test_output_images_have_their_own_rate_or_none() -> None:
    assert per_mtok("gemini-2.5-flash-image", "image", "output") == "30"
    assert per_mtok("gemini-2.5-flash-image", "text", "output") == "2.5"
    assert per_mtok("gemini-2.5-flash", "image", "output") is None


def test_where_no_discount_is_listed_there_is_none() -> None:
    listed = _sheet(ModelPrice(input_mtok=Decimal(2), input_image_mtok=Decimal(3)), None)
    assert listed["text", "input", "cached"].per_mtok == 2
    assert listed["image", "input", "cached"].per_mtok == 3
    assert ("audio", "input", "cached") not in listed


def test_cache_writes_have_the_price_of_their_lifetime() -> None:
    model = "claude-sonnet-4-5"
    assert per_mtok(model, "text", kind="cache_write_5m") == "3.75"
    assert per_mtok(model, "text", kind="cache_write_1h") == "6"
    assert per_mtok(model, "image", kind="cache_write_5m") == "3.75"
    assert per_mtok("gemini-2.5-flash", "text", kind="cache_write_5m") is None


def test_a_general_cache_write_price_does_not_serve_the_hour() -> None:
    listed = _sheet(ModelPrice(input_mtok=Decimal(2), cache_write_mtok=Decimal("2.5")), None)
    assert listed["text", "input", "cache_write_5m"].per_mtok == Decimal("2.5")
    assert ("text", "input", "cache_write_1h") not in listed


def test_tiers_are_a_cliff_at_their_start() -> None:
    """gemini-2.5-pro: 1.25 in and 10 out up to 200,000 input tokens, 2.50 and 15 for all of them above."""
    model = "gemini-2.5-pro"
    assert per_mtok(model, "text", tokens=200_000) == "1.25"
    assert per_mtok(model, "text", tokens=200_001) == "2.5"
    assert per_mtok(model, "text", "output", tokens=200_001) == "15"
    counts = [TokenCount("text", "input", "fresh", 200_001, "reported")]
    assert price(counts, rates(model)).cost == Decimal("0.5000025")


def test_units_with_tiers_of_different_starts_keep_their_own() -> None:
    listed = ModelPrice(
        input_mtok=TieredPrices(base=Decimal(1), tiers=[Tier(100, Decimal(2)), Tier(300, Decimal(3))]),
        output_mtok=TieredPrices(base=Decimal(10), tiers=[Tier(200, Decimal(20))]),
    )
    assert _starts(listed) == [100, 200, 300]
    found = [
        (sheet["text", "input", "fresh"].per_mtok, sheet["text", "output", "fresh"].per_mtok)
        for sheet in (_sheet(listed, start) for start in (None, *_starts(listed)))
    ]
    assert found == [(1, 10), (2, 10), (2, 20), (3, 20)]


def test_prices_change_with_the_day_in_utc() -> None:
    """o3 cost 10 in until 2025-06-09, and 2 from 2025-06-10 on."""
    model = "o3"
    before = datetime(2025, 6, 9, 23, 59, tzinfo=UTC)
    after = before + timedelta(minutes=1)
    assert rates(model, before).base["text", "input", "fresh"].per_mtok == 10
    assert rates(model, after).base["text", "input", "fresh"].per_mtok == 2
    beijing = timezone(timedelta(hours=8))
    assert rates(model, before.astimezone(beijing)) == rates(model, before)
    assert rates(model, after.astimezone(beijing)) == rates(model, after)


def test_prices_that_change_within_a_day_are_looked_up_each_time() -> None:
    """deepseek-chat was half price from 16:30 to 00:30 UTC, until 2025-09-05."""
    day = datetime(2025, 7, 1, 12, tzinfo=UTC)
    book = ListPrices()
    noon = book.rates("deepseek-chat", day)
    night = book.rates("deepseek-chat", day.replace(hour=20))
    assert noon is not None
    assert night is not None
    assert noon.base["text", "input", "fresh"].micros > night.base["text", "input", "fresh"].micros
    assert book.rates("deepseek-chat", day.replace(hour=13)) == noon


def test_a_days_rates_are_looked_up_once() -> None:
    book = ListPrices()
    assert book.rates("gpt-4o", NOON) is book.rates("gpt-4o", NOON + timedelta(hours=3))


def test_the_list_is_loaded_only_when_a_price_is_asked_for() -> None:
    code = "import pipeline.pricing, sys; pipeline.pricing.ListPrices(); print('genai_prices' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def all_models() -> list[tuple[Provider, ModelInfo, ModelPrice]]:
    return [(provider, model, model.get_prices(NOON)) for provider in providers for model in provider.models]


@pytest.mark.parametrize("tokens", [(1000, 0), (1000, 400), (300_000, 100_000)])
def test_plain_text_costs_what_genai_prices_says_for_every_model_of_the_list(tokens: tuple[int, int]) -> None:
    """An independent calculation over the whole list: fresh, cached and output text, tiers included."""
    prompt, cached = tokens
    compared = 0
    for _, _, listed in all_models():
        if (
            listed.input_mtok is None
            or listed.output_mtok is None
            or getattr(listed, "requests_kcount", None)
        ):
            continue
        found = Rates("USD", "", _sheet(listed, None), tuple((s, _sheet(listed, s)) for s in _starts(listed)))
        exact = [unit for unit in found.sheet(prompt).values() if unit.per_mtok]
        if not exact or listed.cache_read_mtok is None:
            continue
        counts = [
            TokenCount("text", "input", "fresh", prompt - cached, "reported"),
            TokenCount("text", "input", "cached", cached, "reported"),
            TokenCount("text", "output", "fresh", 500, "reported"),
        ]
        theirs = listed.calc_price(Usage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=500))[
            "total_price"
        ]
        ours = price(counts, found).cost
        assert ours is not None
        # Ours are fixed to 6 decimals a million tokens: at most half a millionth off for each token.
        assert abs(ours - theirs) <= Decimal("5E-13") * (prompt + 500)
        compared += 1
    assert compared > 300
