"""NDJSON: lines, and one schema for frames."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ManifestError
from pipeline.manifest import open_manifest
from tests.manifest.manifests import ids, ndjson, read, records


def put(folder: Path, content: bytes | str) -> Path:
    path = folder / "m.ndjson"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def frame(folder: Path, *rows: object) -> pl.DataFrame:
    return pl.concat(open_manifest(str(ndjson(folder, *rows))).frames())


def test_line_ends_marks_and_blank_lines_make_no_difference(tmp_path: Path) -> None:
    path = put(tmp_path, '\ufeff{"id":1,"prompt":"a"}\r\n\r\n \n{"prompt":"b","id":2}\n\n  \n')
    assert ids(read(path)) == ["1", "2"]
    assert open_manifest(str(path)).columns == ("id", "prompt")


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ('{"prompt":"a"}\n\n{"prompt":\n', 3, "is no JSON"),
        ('{"prompt":"a"}\n[1]\n', 2, "holds a JSON array, not a JSON object"),
        ('{"prompt":"a"}\n5\n', 2, "holds a number, not a JSON object"),
        ('[{"prompt":"a"}]\n', 1, "write one object a line"),
        ('{\n"prompt":"a"\n}\n', 1, "write each on one line"),
        ('{"prompt":"a"}{"prompt":"b"}\n', 1, "is no JSON"),
        ('{"prompt":NaN}\n', 1, "is no JSON"),
        (b'{"prompt":"a"}\n{"prompt":"\xff"}\n', 2, "byte 0xff is not UTF-8"),
        ('{"prompt":"a"}\n' * 200_000 + "x\n", 200_001, "is no JSON"),
    ],
)
def test_a_broken_line_is_found_with_its_number(
    tmp_path: Path, content: bytes | str, line: int, words: str
) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        open_manifest(str(put(tmp_path, content)))
    assert caught.value.line == line


def test_columns_are_the_keys_of_all_lines(tmp_path: Path) -> None:
    path = ndjson(tmp_path, {"a": 1, "prompt": "p"}, {}, {"prompt": "q", "b": 2})
    assert open_manifest(str(path)).columns == ("a", "prompt", "b")
    assert len(records(tmp_path, {"a": 1, "prompt": "p"}, {}, {"prompt": "q", "b": 2})) == 3


def test_one_kind_of_value_keeps_its_type_in_frames(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "i": 1, "f": 1, "b": True, "l": ["x"], "n": None},
        {"prompt": "q", "i": None, "f": 1.5, "b": False, "l": [], "n": None},
    ]
    found = frame(tmp_path, *rows)
    assert found.drop("row").to_dicts() == rows
    assert found.schema["i"] == pl.Int64
    assert found.schema["f"] == pl.Float64
    assert found.schema["l"] == pl.List(pl.String)
    assert found.schema["n"] == pl.String


def test_mixed_and_nested_values_are_text_in_frames(tmp_path: Path) -> None:
    values = [1, "1", True, [1, "x"], {"a": "猫"}, None, 2**63, 0.5]
    found = frame(tmp_path, *[{"prompt": "p", "v": value} for value in values])
    assert found["v"].to_list() == ["1", "1", "true", '[1,"x"]', '{"a":"猫"}', None, str(2**63), "0.5"]


def test_numbers_that_no_common_type_holds_exactly_are_text(tmp_path: Path) -> None:
    found = frame(tmp_path, {"prompt": "p", "a": 2**53 + 1, "b": 2**63}, {"prompt": "p", "a": 0.5, "b": 1})
    assert found["a"].to_list() == [str(2**53 + 1), "0.5"]
    assert found["b"].to_list() == [str(2**63), "1"]


def test_frames_have_one_schema_over_blocks_and_files(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
    ndjson(tmp_path / "1", *[{"prompt": "p" * 100, "v": 1}] * 20_000)
    ndjson(tmp_path / "2", {"prompt": "p", "v": "x", "w": 1})
    frames = list(open_manifest(str(tmp_path / "*" / "m.ndjson")).frames())
    assert len(frames) > 2
    assert {tuple(f.schema.items()) for f in frames} == {tuple(frames[0].schema.items())}
    assert pl.concat(frames)["v"][-2:].to_list() == ["1", "x"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "row", ""]), json_values), max_size=6))
def test_any_json_becomes_frames(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    assert frame(tmp_path, *rows, {"prompt": "p"}).height == len(rows) + 1
