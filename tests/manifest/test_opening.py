"""What makes a manifest as a whole readable, or not; and that the format makes no difference."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import ManifestError
from pipeline.manifest import open_manifest
from pipeline.records import Item
from tests.manifest.manifests import DEFAULTS, ids, read

ENDINGS = (".csv", ".tsv", ".parquet", ".ndjson", ".jsonl", ".arrow", ".ipc", ".feather")

FRAME = pl.DataFrame(
    {
        "id": ["号1", "b", "b", None, None],
        "image_url": [
            "https://h.example/a.jpg",
            '["https://h.example/1","https://h.example/2"]',
            None,
            "ftp://x/y",
            None,
        ],
        "prompt": ["说,\n“看”", None, 'p "q"', None, "only"],
        "max_tokens": ["5", None, None, None, None],
        "note": ["x", "y", "", "z", None],
    }
)


def write(frame: pl.DataFrame, path: Path) -> Path:
    match path.suffix:
        case ".csv":
            frame.write_csv(path)
        case ".tsv":
            frame.write_csv(path, separator="\t")
        case ".parquet":
            frame.write_parquet(path)
        case ".ndjson" | ".jsonl":
            frame.write_ndjson(path)
        case _:
            frame.write_ipc(path)
    return path


def refusal(path: Path | str) -> str:
    with pytest.raises(ManifestError) as caught:
        open_manifest(str(path))
    return str(caught.value)


def put(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- formats ---


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_yields_the_same_items(tmp_path: Path, ending: str) -> None:
    expected = [repr(record) for record in read(write(FRAME, tmp_path / "m.csv"))]
    found = read(write(FRAME, tmp_path / f"m{ending}"))
    assert [repr(record) for record in found] == expected
    assert ids(found)[:3] == ["号1", "b", "b#2"]
    assert [type(record) is Item for record in found] == [True, True, False, False, True]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_manifest_tells_its_columns_rows_and_digest(tmp_path: Path, ending: str) -> None:
    path = write(FRAME, tmp_path / f"m{ending}")
    manifest = open_manifest(str(path))
    assert manifest.columns == tuple(FRAME.columns)
    assert manifest.rows_total == 5
    assert manifest.paths == (path,)
    assert manifest.digest == open_manifest(str(path)).digest


@pytest.mark.parametrize("ending", ENDINGS)
def test_frames_hold_all_columns_with_row_numbers(tmp_path: Path, ending: str) -> None:
    frame = pl.concat(open_manifest(str(write(FRAME, tmp_path / f"m{ending}"))).frames())
    assert frame.columns == ["row", *FRAME.columns]
    assert frame["row"].to_list() == [1, 2, 3, 4, 5]
    assert frame.schema["row"] == pl.UInt64
    assert frame["prompt"].to_list() == FRAME["prompt"].to_list()


def test_an_ending_is_read_in_any_case(tmp_path: Path) -> None:
    assert read(put(tmp_path / "M.CSV", "prompt\np\n"))


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".arrow"])
def test_a_manifest_without_rows_is_no_error(tmp_path: Path, ending: str) -> None:
    manifest = open_manifest(str(write(FRAME.head(0), tmp_path / f"m{ending}")))
    assert manifest.rows_total == 0
    assert list(manifest.read(DEFAULTS)) == []
    assert sum(frame.height for frame in manifest.frames()) == 0


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".ndjson", ".arrow"])
def test_batches_are_bounded_and_rows_count_on(tmp_path: Path, ending: str) -> None:
    rows = 25_000
    frame = pl.DataFrame({"prompt": ["p"] * rows, "id": [f"i{n}" for n in range(rows)]})
    batches = list(open_manifest(str(write(frame, tmp_path / f"m{ending}"))).read(DEFAULTS))
    assert max(map(len, batches)) <= 2_000
    assert [record.row for batch in batches for record in batch] == list(range(1, rows + 1))
    assert [record.id for batch in batches for record in batch] == frame["id"].to_list()


# --- globs ---


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".ndjson", ".arrow"])
def test_a_glob_is_one_manifest_in_order_of_names(tmp_path: Path, ending: str) -> None:
    write(pl.DataFrame({"id": ["c", "a"], "prompt": ["3", "4"]}), tmp_path / f"part-2{ending}")
    write(pl.DataFrame({"prompt": ["1", "2"], "id": ["a", "b"]}), tmp_path / f"part-1{ending}")
    manifest = open_manifest(str(tmp_path / f"part-*{ending}"))
    found = [record for batch in manifest.read(DEFAULTS) for record in batch]
    assert [(record.row, record.id) for record in found] == [(1, "a"), (2, "b"), (3, "c"), (4, "a#2")]
    frame = pl.concat(manifest.frames())
    assert frame["row"].to_list() == [1, 2, 3, 4]
    assert frame["id"].to_list() == ["a", "b", "c", "a"]
    assert manifest.rows_total == 4


def test_a_glob_takes_one_format_only(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", "prompt\np\n")
    put(tmp_path / "b.tsv", "prompt\np\n")
    assert "b.tsv: is TSV by its ending" in refusal(tmp_path / "*")


def test_files_of_a_glob_must_have_the_same_columns(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", "prompt,x\np,1\n")
    put(tmp_path / "b.csv", "prompt,y\np,1\n")
    said = refusal(tmp_path / "*.csv")
    assert "b.csv: has other columns than" in said
    assert said.endswith("it lacks 'x' and also has 'y'")


def test_a_glob_that_matches_nothing_says_so(tmp_path: Path) -> None:
    assert refusal(tmp_path / "*.csv").endswith("no file matches")


def test_a_file_whose_name_holds_brackets_is_a_file(tmp_path: Path) -> None:
    for ending in (".csv", ".parquet", ".arrow"):
        assert len(read(write(FRAME, tmp_path / f"m[1]{ending}"))) == 5


def test_local_paths_of_a_glob_begin_in_each_files_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        put(tmp_path / name / "a.jpg", b"x")
        put(tmp_path / name / "m.csv", "image_url\na.jpg\n")
    found = [record for record in read(tmp_path / "*" / "m.csv") if isinstance(record, Item)]
    assert [record.request.media[0].url for record in found] == [
        str(tmp_path / n / "a.jpg") for n in ("one", "two")
    ]


# --- bad files ---


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.csv", "", "is empty"),
        ("m.csv", "\ufeff\r\n\n", "is empty"),
        ("m.ndjson", "", "is empty"),
        ("m.ndjson", "\n\n", "is empty"),
        ("m.parquet", "", "is empty"),
        ("m.arrow", "", "is empty"),
        ("m.xlsx", "x", "its ending is none we read; a manifest ends in .csv"),
        ("m", "x", "its ending is none we read"),
        ("m.csv", b"PAR1....", "is not CSV, as its ending says; it looks like Parquet"),
        ("m.ndjson", b"ARROW1..", "it looks like Arrow IPC"),
        ("m.csv", b"PK\x03\x04..", "Excel workbook"),
        ("m.csv", gzip.compress(b"prompt\np\n"), "gzip (unpack it first)"),
        ("m.csv", "prompt\np\n".encode("utf-16"), "UTF-16"),
        ("m.csv", "prompt,id\np,1\n".encode("utf-16-le"), "UTF-16"),
        ("m.csv", '{"prompt": "p"}\n', "it looks like NDJSON"),
        ("m.csv", "<!DOCTYPE html><html>", "it looks like HTML"),
        ("m.parquet", "id,prompt\n1,p\n", "is not Parquet, as its ending says; it looks like CSV"),
        ("m.arrow", '{"prompt": "p"}\n', "it looks like NDJSON"),
        ("m.feather", b"PAR1....PAR1", "it looks like Parquet"),
        ("m.ndjson", "id,prompt\n1,p\n", "is not NDJSON, as its ending says; it looks like CSV"),
        ("m.parquet", b"PAR1 and no end", "is cut short"),
        ("m.arrow", b"ARROW1\0\0 and no end", "is cut short"),
        ("m.parquet", b"PAR1 nonsense PAR1", "is a damaged Parquet file"),
        ("m.arrow", b"ARROW1\0\0 nonsense ARROW1", "is a damaged Arrow IPC file"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(
    tmp_path: Path, name: str, content: bytes | str, words: str
) -> None:
    said = refusal(put(tmp_path / name, content))
    assert words in said
    assert said.startswith(str(tmp_path / name))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.csv").endswith("gone.csv: no such file")
    (tmp_path / "d.csv").mkdir()
    assert "is a folder" in refusal(tmp_path / "d.csv")


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_a_cut_or_damaged_file_is_found_when_it_is_opened(tmp_path: Path, ending: str) -> None:
    path = write(pl.DataFrame({"prompt": [f"{n**9:x}" for n in range(9999)]}), tmp_path / f"m{ending}")
    whole = path.read_bytes()
    put(path, whole[:-100])
    assert "is cut short" in refusal(path)
    if ending == ".parquet":
        middle = len(whole) // 8
        put(path, whole[:middle] + b"\xff" * 500 + whole[middle + 500 :])
        assert "is a damaged Parquet file near row" in refusal(path)


# --- columns ---


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".ndjson", ".arrow"])
@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("image", "image_url"),
        ("img_url", "image_url"),
        ("imageurl", "image_url"),
        ("ImageURL", "image_url"),
        ("image_urls", "image_url"),
        ("Prompt", "prompt"),
        ("URL", "url"),
        ("vidoe_url", "video_url"),
    ],
)
def test_a_near_miss_of_a_column_is_recognized(tmp_path: Path, ending: str, column: str, meant: str) -> None:
    said = refusal(write(pl.DataFrame({"id": ["1"], column: ["x"]}), tmp_path / f"m{ending}"))
    assert f"found 'id', {column!r}; expected one of image_url, audio_url, video_url, url or prompt." in said
    assert f"Did you mean {meant!r} by {column!r}?" in said


def test_a_column_in_other_letters_is_noted(tmp_path: Path) -> None:
    manifest = open_manifest(str(put(tmp_path / "m.csv", "image_url,Prompt,note\nhttps://h/a,p,x\n")))
    assert manifest.notes == ("the column 'Prompt' is not read; name it 'prompt' if it is meant",)


def test_a_column_that_comes_twice_is_refused(tmp_path: Path) -> None:
    assert "the column 'prompt' is there twice" in refusal(
        put(tmp_path / "m.csv", "prompt,id,prompt\np,1,q\n")
    )


# --- frames ---


def test_a_manifests_own_row_column_steps_aside(tmp_path: Path) -> None:
    (frame,) = open_manifest(str(put(tmp_path / "m.csv", "row,prompt\n7,p\n"))).frames()
    assert frame.to_dicts() == [{"row": 1, "row_": "7", "prompt": "p"}]


def test_csv_frames_keep_the_text_as_it_stands(tmp_path: Path) -> None:
    (frame,) = open_manifest(str(put(tmp_path / "m.csv", "prompt,zip\np,007\n"))).frames()
    assert frame["zip"].to_list() == ["007"]


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".ndjson", ".arrow"])
def test_a_columns_name_is_never_a_pattern(tmp_path: Path, ending: str) -> None:
    names = ["prompt", "^p.*$", "*", "a b", "列"]
    path = write(pl.DataFrame({name: ["x"] for name in names}), tmp_path / f"m{ending}")
    assert pl.concat(open_manifest(str(path)).frames()).columns == ["row", *names]


def test_types_that_differ_between_files_widen(tmp_path: Path) -> None:
    write(pl.DataFrame({"prompt": ["a"], "n": [1]}), tmp_path / "1.parquet")
    write(pl.DataFrame({"prompt": ["b"], "n": [2.5]}), tmp_path / "2.parquet")
    assert pl.concat(open_manifest(str(tmp_path / "*.parquet")).frames())["n"].to_list() == [1.0, 2.5]


def test_types_that_have_nothing_in_common_are_refused(tmp_path: Path) -> None:
    write(pl.DataFrame({"prompt": ["a"], "n": [[1]]}), tmp_path / "1.parquet")
    write(pl.DataFrame({"prompt": ["b"], "n": [{"x": 1}]}), tmp_path / "2.parquet")
    manifest = open_manifest(str(tmp_path / "*.parquet"))
    with pytest.raises(ManifestError, match=r"2\.parquet: its columns have other types"):
        list(manifest.frames())


# --- changes ---


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    path = put(tmp_path / "m.csv", "prompt\np\n")
    before = open_manifest(str(path)).digest
    assert open_manifest(str(put(tmp_path / "n.csv", "prompt\np\n"))).digest == before
    assert open_manifest(str(put(path, "prompt\nq\n"))).digest != before


@pytest.mark.parametrize("use", [lambda m: list(m.read(DEFAULTS)), lambda m: list(m.frames())])
def test_a_file_that_changed_after_its_scan_is_not_read(
    tmp_path: Path, use: Callable[[object], object]
) -> None:
    path = put(tmp_path / "m.csv", "prompt\np\n")
    manifest = open_manifest(str(path))
    put(path, "prompt\np,q\n")
    with pytest.raises(ManifestError, match="changed after it was checked"):
        use(manifest)
