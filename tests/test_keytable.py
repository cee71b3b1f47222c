"""A key table is a dict that is smaller: the first to claim a key keeps it."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from pipeline.keytable import KeyTable

# Few distinct ones, so that they meet; and ones that fall into the same slot of the smallest table.
KEYS = st.one_of(
    st.integers(1, 2**64 - 1),
    st.integers(1, 40),
    st.integers(1, 40).map(lambda number: number << 12),
    st.just(2**64 - 1),
)
NUMBERS = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(KEYS, NUMBERS), max_size=300), KEYS)
def test_it_claims_and_tells_as_a_dict_would(claims: list[tuple[int, int]], other: int):
    table, model = KeyTable(), dict[int, int]()
    for key, number in claims:
        assert table.get(key) == model.get(key)
        assert table.claim(key, number) == model.setdefault(key, number)
        assert table.get(key) == model[key]
    assert len(table) == len(model)
    assert table.get(other) == model.get(other)


@given(st.lists(st.tuples(st.one_of(st.just(0), KEYS), NUMBERS), max_size=300))
def test_filling_is_claiming_all_but_zeros(claims: list[tuple[int, int]]):
    table, model = KeyTable(), dict[int, int]()
    table.fill(array("Q", [key for key, _ in claims]), array("I", [number for _, number in claims]))
    for key, number in claims:
        if key:
            model.setdefault(key, number)
    assert len(table) == len(model)
    assert {key: table.get(key) for key in model} == model


def test_it_grows_past_its_first_size_and_forgets_nothing():
    """Ten times the first size. Keys are hashes, so scattered."""
    table = KeyTable()
    keys = [number * 0x9E3779B97F4A7C15 % 2**64 for number in range(1, 40_000)] * 2
    claimed = [table.claim(key, number) for number, key in enumerate(keys)]
    assert claimed == [number % 39_999 for number in range(len(keys))]
    assert len(table) == 39_999
    assert [table.get(key) for key in keys[:39_999]] == list(range(39_999))


def test_filled_at_once_and_then_claimed_it_is_the_same():
    table = KeyTable()
    table.claim(5, 1)
    table.fill(array("Q", range(1, 30_000)), array("I", range(1, 30_000)))
    assert (table.get(5), table.get(6), len(table)) == (1, 6, 29_999)
    assert table.claim(7, 99) == 7
