"""History by another price book: the same counts, other prices; by the same book, nothing changes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pricing import Layered, ListPrices, PriceBook, TomlBook, price
from pipeline.records import TokenCount
from pipeline.report.repricing import repriced
from pipeline.store.schemas import COSTS, RESULTS

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
TIERED = """
currency = "CNY"
[[price]]
models = ["tiered"]
input = { text = 1, image = 3 }
output = 10
per_request = 0.5
  [[price.tier]]
  above_input_tokens = 100
  input = { text = 2, audio = 7 }
"""
MODELS = ["tiered", "gemini-3.1-flash-lite-preview", "gemini-2.5-pro", "nobody-sells-this"]
UNITS = [
    ("text", "input", "fresh"),
    ("text", "input", "cached"),
    ("audio", "input", "fresh"),
    ("image", "input", "fresh"),
    ("image+video", "input", "fresh"),
    ("unattributed", "input", "fresh"),
    ("text", "output", "fresh"),
    ("text", "output", "reasoning"),
]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> PriceBook:
    path = tmp_path_factory.mktemp("books") / "mine.toml"
    path.write_text(TIERED, "utf-8")
    return Layered((TomlBook.read(path), ListPrices()))


def rows_of(number: int, model: str, counts: list[TokenCount], by: PriceBook) -> list[tuple[object, ...]]:
    """What the store gets of one reply."""
    charges = price(counts, by.rates(model, NOON)).charges
    return [
        (
            *("r1", "j", f"i{number}", 1, NOON, model, "e"),
            *(charge.count.modality, charge.count.direction, charge.count.kind, charge.count.tokens),
            *(
                charge.price_per_mtok,
                charge.cost,
                charge.currency,
                charge.count.provenance,
                charge.price_source,
            ),
        )
        for charge in charges
    ]


def frame(rows: list[tuple[object, ...]]) -> pl.LazyFrame:
    keys = {"date": pl.lit(NOON.date()), "run": pl.lit("r1")}
    return pl.DataFrame(rows, schema=COSTS, orient="row").with_columns(**keys).lazy()


NO_RESULTS = pl.LazyFrame(schema=RESULTS)
ORDER = ["item_id", "modality", "direction", "kind"]

count = st.tuples(st.sampled_from(UNITS), st.integers(1, 200)).map(
    lambda told: TokenCount(*told[0], told[1], "reported")  # type: ignore[arg-type]
)
replies = st.lists(
    st.tuples(
        st.sampled_from(MODELS),
        st.lists(
            count, min_size=1, max_size=6, unique_by=lambda one: (one.modality, one.direction, one.kind)
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(replies)
def test_repricing_by_the_same_book_changes_nothing(
    book: PriceBook, replies: list[tuple[str, list[TokenCount]]]
):
    rows = [
        row for number, (model, counts) in enumerate(replies) for row in rows_of(number, model, counts, book)
    ]
    costs = frame(rows)
    again = repriced(costs, NO_RESULTS, book)
    assert again.collect().sort(ORDER).equals(costs.collect().sort(ORDER))


def test_a_reply_is_priced_by_the_tier_of_all_its_input(book: PriceBook):
    """60 text + 41 image are 101 in: 60 x 2 + 41 x 3, and 10 out x 10, a million, and 0.5 for the reply."""
    counts = [
        TokenCount("text", "input", "fresh", 60, "reported"),
        TokenCount("image", "input", "fresh", 41, "reported"),
        TokenCount("text", "output", "fresh", 10, "reported"),
    ]
    told = repriced(frame(rows_of(1, "tiered", counts, ListPrices())), NO_RESULTS, book).collect()
    assert told["cost"].sum() == Decimal("0.000343") + Decimal("0.5")
    assert told["tokens"].sum() == 111
    assert set(told["currency"]) == {"CNY"}


def test_what_the_book_does_not_know_is_priced_by_the_model_that_answered(book: PriceBook):
    counts = [TokenCount("text", "input", "fresh", 100, "reported")]
    costs = frame(rows_of(1, "an-alias", counts, book))
    assert costs.collect()["cost"].to_list() == [None]
    answered = pl.LazyFrame(
        [{"run_id": "r1", "job": "j", "item_id": "i1", "model": "gemini-2.5-pro"}], schema_overrides={}
    )
    told = repriced(costs, answered, book).collect()
    assert told["cost"].to_list() == [Decimal("0.000125")]
    assert told["model"].to_list() == ["an-alias"]


def test_a_fee_of_the_old_book_goes_and_the_counts_stay(book: PriceBook, tmp_path: Path):
    path = tmp_path / "plain.toml"
    path.write_text('currency = "EUR"\n[[price]]\nmodels = ["tiered"]\ninput = { text = 4 }', "utf-8")
    counts = [
        TokenCount("text", "input", "fresh", 10, "reported"),
        TokenCount("audio", "input", "fresh", 5, "reported"),
    ]
    told = repriced(frame(rows_of(1, "tiered", counts, book)), NO_RESULTS, TomlBook.read(path)).collect()
    found = told.sort("tokens").select("modality", "kind", "tokens", "cost", "currency").rows()
    assert found == [
        ("audio", "fresh", 5, None, None),
        ("text", "fresh", 10, Decimal("0.00004"), "EUR"),
    ]
