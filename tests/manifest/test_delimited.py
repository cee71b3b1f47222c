"""CSV and TSV: structure, lines, quotes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ManifestError
from pipeline.manifest import blocks, open_manifest
from pipeline.manifest.delimited import whole_records
from pipeline.records import Item
from tests.manifest.manifests import ids, read


def prompts(path: Path) -> list[str | None]:
    return [r.request.prompt if isinstance(r, Item) else None for r in read(path)]


def put(folder: Path, content: bytes | str, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(folder: Path, content: bytes | str, name: str = "m.csv") -> tuple[int | None, str]:
    with pytest.raises(ManifestError) as caught:
        open_manifest(str(put(folder, content, name)))
    return caught.value.line, str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "id,prompt\n1,a\n2,b\n",
        "id,prompt\n1,a\n2,b",
        "\ufeffid,prompt\r\n1,a\r\n2,b\r\n",
        "id,prompt\r\n1,a\n2,b\r\n\r\n\n  \n",
        "\n\nid,prompt\n\n1,a\n\n\r\n2,b\n",
        '"id","prompt"\n"1","a"\n2,"b"\n',
        " id , prompt \n1,a\n2,b\n",
    ],
)
def test_line_ends_marks_blank_lines_and_quotes_make_no_difference(tmp_path: Path, content: str) -> None:
    path = put(tmp_path, content)
    assert ids(read(path)) == ["1", "2"]
    assert prompts(path) == ["a", "b"]
    assert open_manifest(str(path)).rows_total == 2


def test_a_quoted_cell_may_hold_separators_lines_and_quotes(tmp_path: Path) -> None:
    path = put(tmp_path, 'id,prompt\n1,"a, ""b""\r\n\nc"\n2,""""\n')
    assert prompts(path) == ['a, "b"\r\n\nc', '"']


def test_a_header_may_be_quoted_over_two_lines(tmp_path: Path) -> None:
    path = put(tmp_path, '"my\nnote",prompt\nx,a\ny\n')
    assert refusal(tmp_path, path.read_bytes()) == (4, f"{path}, line 4: 1 cell, where the header has 2")


def test_a_tsv_may_end_in_empty_cells(tmp_path: Path) -> None:
    assert prompts(put(tmp_path, "prompt\tid\tx\na\t1\t\nb\t\t\n", "m.tsv")) == ["a", "b"]


def test_unnamed_columns_are_numbered(tmp_path: Path) -> None:
    assert open_manifest(str(put(tmp_path, ",prompt,\n0,a,\n"))).columns == ("column_1", "prompt", "column_3")


def test_a_single_columns_blank_line_is_an_empty_cell_but_not_at_the_end(tmp_path: Path) -> None:
    assert prompts(put(tmp_path, "prompt\r\na\r\n\r\n\nb\n\n\n")) == ["a", None, None, "b"]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("id,prompt\n1,a\n2\n", 3, "1 cell, where the header has 2"),
        ("id,prompt\n1,a,b\n", 2, "3 cells, where the header has 2"),
        ('id,prompt\n"1\n\n",a\n\n2\n', 6, "1 cell"),
        ('id,prompt\n1,"a\n2,b\n3,c\n', 2, "never ends"),
        ('id,prompt\n1,"a\n2,"b"\n', 2, "text after a closing quote"),
        ('id,prompt\n1,a\n2,5" wide\n3,b\n', 3, "a quote inside a cell that does not begin with one"),
        ('id,prompt\n1,5" wide and 4" high\n', 2, "a quote inside a cell"),
        ('id,prompt\n1, "a"\n', 2, "a quote inside a cell"),
        ('id,prompt\n1,"a"b\n', 2, "text after a closing quote"),
        ('id,prompt\n1,"a" \n', 2, "text after a closing quote"),
        ("id,prompt\n1,a\n" + "2,b\n" * 400_000 + "3\n", 400_003, "1 cell"),
        (b"id,prompt\n1,a\n\n2,\xe7\x8c\xff\n", 4, "byte 0xe7 is not UTF-8"),
        (b'id,prompt\n1,"a\n\xff"\n', 3, "byte 0xff is not UTF-8"),
        (b"id,pr\xffompt\n", 1, "byte 0xff is not UTF-8"),
        ("id;prompt\n1;a\n", 1, "separated by semicolons; save it with commas"),
        ("id\tprompt\n1\ta\n", 1, "separated by tabs; name it .tsv"),
        ("id,prompt\r1,a\r2,b\r", None, "its lines end in CR alone"),
    ],
)
def test_structural_damage_is_found_with_its_line(
    tmp_path: Path, content: bytes | str, line: int | None, words: str
) -> None:
    found, said = refusal(tmp_path, content)
    assert words in said
    assert found == line


def test_a_tsv_with_commas_is_recognized(tmp_path: Path) -> None:
    assert "name it .csv" in refusal(tmp_path, "id,prompt\n1,a\n", "m.tsv")[1]


def test_a_record_without_end_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MAX_RECORD_BYTES", 3 << 20)
    line, said = refusal(tmp_path, 'id,prompt\n1,a\n2,"' + "x\n" * (4 << 20))
    assert line == 3
    assert "does not end within" in said


def test_a_record_of_many_blocks_is_one_record(tmp_path: Path) -> None:
    long = "x,\n" * (1 << 20)
    assert prompts(put(tmp_path, f'id,prompt\n1,"{long}"\n2,b\n')) == [long, "b"]


cells = st.text(alphabet=st.sampled_from('a,"\n\r\t; 图#[]')) | st.text() | st.none()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=20),
    st.sampled_from([(",", ".csv"), ("\t", ".tsv")]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["necessary", "always", "non_numeric"]),
)
def test_what_polars_writes_reads_back_row_by_row(
    tmp_path: Path,
    rows: list[tuple[str | None, str | None, str | None]],
    dialect: tuple[str, str],
    line_end: str,
    quoting: str,
) -> None:
    separator, ending = dialect
    frame = pl.DataFrame(rows, schema={"id": pl.String, "prompt": pl.String, "x": pl.String}, orient="row")
    path = tmp_path / f"m{ending}"
    frame.write_csv(path, separator=separator, line_terminator=line_end, quote_style=quoting)  # type: ignore[arg-type]
    manifest = open_manifest(str(path))
    found = read(path)
    assert manifest.rows_total == len(rows)
    assert [record.row for record in found] == list(range(1, len(rows) + 1))
    assert len(set(ids(found))) == len(rows)
    for record, (item_id, prompt, _) in zip(found, rows, strict=True):
        assert isinstance(record, Item) or not (prompt or "").strip() or record.id.startswith(item_id or "")
        if isinstance(record, Item):
            assert record.request.prompt == prompt
    frames = pl.concat(manifest.frames())
    assert frames["x"].fill_null("").to_list() == frame["x"].fill_null("").to_list()


@settings(deadline=None)
@given(
    st.lists(st.lists(st.text(alphabet=st.sampled_from('a,"\n')), min_size=2, max_size=2), max_size=8),
    st.integers(0),
)
def test_a_buffer_is_cut_at_its_last_whole_record(rows: list[list[str]], cut: int) -> None:
    text = io.StringIO(newline="")
    ends = [0]
    for row in rows:
        csv.writer(text, lineterminator="\n").writerow(row)
        ends.append(len(text.getvalue()))
    buffer = text.getvalue().encode()
    buffer = buffer[: cut % (len(buffer) + 1)]
    assert whole_records(buffer) == max(end for end in ends if end <= len(buffer))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_a_manifest_error(tmp_path: Path, content: bytes) -> None:
    path = put(tmp_path, b"prompt,id\n" + content)
    try:
        manifest = open_manifest(str(path))
    except ManifestError:
        return
    assert len(read(path)) == manifest.rows_total
