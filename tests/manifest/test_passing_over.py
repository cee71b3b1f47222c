"""Rows of earlier sessions are passed over: the others keep the ids they had."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.manifest import open_manifest
from pipeline.records import BadRow, Item
from tests.manifest.manifests import DEFAULTS, ids, ndjson

# Few distinct ids, so that they repeat; ones that look like ids given here; no ids; ids that are none.
ID = st.sampled_from(
    [
        *["a", "b", "a#2", "a#3", "b#2", " a", "a\nb", "0123456789abcdef", "0123456789abcdef#2"],
        *["", "  ", "\t", None, 7, 7.0, True, ["a"], {"a": 1}],
    ]
)
URL = st.sampled_from(["https://h.example/1", "https://h.example/2", "no url", None, ["https://h.example/1"]])
PROMPT = st.sampled_from([None, "", "what?", 5])
ROW = st.fixed_dictionaries({}, optional={"id": ID, "image_url": URL, "prompt": PROMPT})


def read(path: Path, passed: bytearray | None = None) -> dict[int, Item | BadRow]:
    batches = open_manifest(str(path)).read(DEFAULTS, passed)
    return {row.row: row for batch in batches for row in batch}


def told(row: Item | BadRow) -> tuple[object, ...]:
    return (row.id, row.row, row.request if isinstance(row, Item) else str(row.error))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(ROW, st.booleans()), min_size=1, max_size=25))
def test_the_rows_that_are_left_are_what_they_were(rows: list[tuple[dict[str, object], bool]]):
    if not any({"image_url", "prompt"} & row.keys() for row, _ in rows):
        return  # nothing to ask about: no manifest
    with TemporaryDirectory() as folder:
        path = ndjson(Path(folder), *(row for row, _ in rows))
        whole = read(path)
        passed = bytearray([0, *(is_passed for _, is_passed in rows)])
        left = read(path, passed)
    assert left.keys() == {number for number in whole if not passed[number]}
    assert {number: told(row) for number, row in left.items()} == {
        number: told(whole[number]) for number in left
    }


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("ab#2é猫 \t0", max_size=4), min_size=1, max_size=12),
    st.lists(st.text("ab#2é猫 \t0", max_size=4), min_size=1, max_size=12),
)
def test_ids_of_whole_files_that_are_passed_over_stay_taken(before: list[str], after: list[str]):
    """Blocks that are passed over as a whole take a shorter way."""
    with TemporaryDirectory() as folder:
        for name, column in (("1", before), ("2", after)):
            frame = pl.DataFrame({"id": column, "prompt": ["what?"] * len(column)})
            frame.write_parquet(Path(folder) / f"{name}.parquet")
        path = Path(folder) / "*.parquet"
        whole = read(path)
        left = read(path, bytearray([0, *[1] * len(before), *[0] * len(after)]))
    assert {number: told(row) for number, row in left.items()} == {
        number: told(row) for number, row in whole.items() if number > len(before)
    }


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "ndjson", "arrow"])
def test_in_every_format_the_rows_that_are_left_are_what_they_were(tmp_path: Path, ending: str):
    """Some thousand rows, so that blocks are passed over as a whole, in part and not at all."""
    count = 9_000
    frame = pl.DataFrame(
        {
            "id": [f"i{number % 7_000}" for number in range(count)],
            "image_url": [f"https://h.example/{number % 50}" for number in range(count)],
        }
    )
    path = tmp_path / f"m.{ending}"
    {
        "csv": frame.write_csv,
        "tsv": lambda to: frame.write_csv(to, separator="\t"),
        "parquet": frame.write_parquet,
        "ndjson": frame.write_ndjson,
        "arrow": frame.write_ipc,
    }[ending](path)
    whole = read(path)
    passed = bytearray([0, *(row < 6_000 and row not in range(4_500, 4_510) for row in range(1, count + 1))])
    left = read(path, passed)
    assert [told(row) for row in left.values()] == [
        told(whole[number]) for number in whole if not passed[number]
    ]
    assert ids(left.values())[-1].endswith("#2")


def test_rows_without_ids_keep_the_numbers_of_their_repetitions(tmp_path: Path):
    path = ndjson(tmp_path, *({"image_url": "https://h.example/a.jpg"} for _ in range(4)))
    whole = read(path)
    left = read(path, bytearray([0, 1, 0, 1, 0]))
    assert [row.id for row in left.values()] == [whole[2].id, whole[4].id]
    assert whole[2].id.endswith("#2")
    assert whole[4].id.endswith("#4")


def test_with_all_rows_passed_over_there_is_none_left(tmp_path: Path):
    path = ndjson(tmp_path, *({"id": f"i{row}", "prompt": "what?"} for row in range(3)))
    assert read(path, bytearray([0, 1, 1, 1])) == {}
