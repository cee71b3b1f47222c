"""`export`: every manifest row, in its order, with its latest answer beside it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from jobs.__main__ import cli
from pipeline.errors import BadInput, RowError
from pipeline.records import BadRow, Outcome
from tests.made import NOW, attempt, item, outcome, reply, write

ANSWER = [
    "item_id",
    "status",
    "text",
    "finish_reason",
    "model",
    "error_class",
    "error_message",
    "total_tokens",
    "cost",
    "currency",
    "run_id",
    "finished_at",
]
REFUSED = BadInput("the endpoint refuses this request", http_status=400)


def export(out: Path, *words: str | Path, code: int = 0) -> Result:
    arguments = ["export", *map(str, words), "--out", str(out)]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def answered(name: str, text: str, minutes: int = 0, endpoint: str = "x") -> Outcome:
    at = NOW + timedelta(minutes=minutes)
    return outcome(item(name), attempt(1, reply(text), at=at, endpoint=endpoint))


def manifest(folder: Path, frame: pl.DataFrame, ending: str = "csv") -> Path:
    path = folder / f"m.{ending}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "ndjson": frame.write_ndjson}[ending](path)
    return path


def three_rows(folder: Path, ending: str = "csv") -> Path:
    rows = {
        "id": ["c", "a", "b"],
        "prompt": ["Was?", "什么，“引号”", "line\nbreak"],
        "note": ["x", None, "z"],
    }
    return manifest(folder, pl.DataFrame(rows), ending)


def as_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """c and b are answered, a failed."""
    store = tmp_path / "store"
    failed = outcome(item("a"), attempt(error=REFUSED))
    write(store, answered("c", "猫"), failed, answered("b", 'x, "y"\nz'), manifest=three_rows(tmp_path))
    return store


def test_rows_keep_the_manifests_order_and_columns(out: Path, tmp_path: Path):
    result = export(out, tmp_path / "answers.csv")
    assert result.stdout == ""
    assert result.stderr == f"3 rows, 2 of them answered ok → {tmp_path / 'answers.csv'}\n"
    rows = as_csv((tmp_path / "answers.csv").read_text("utf-8"))
    assert list(rows[0]) == ["id", "prompt", "note", *ANSWER]
    assert [(row["id"], row["item_id"], row["status"], row["text"]) for row in rows] == [
        ("c", "c", "ok", "猫"),
        ("a", "a", "failed", ""),
        ("b", "b", "ok", 'x, "y"\nz'),
    ]
    assert rows[1]["prompt"] == "什么，“引号”"
    assert rows[1]["error_message"] == "the endpoint refuses this request"
    assert Decimal(rows[0]["cost"]) == Decimal("0.00034725")


def test_stdout_gets_the_bytes_and_stderr_the_count(out: Path):
    result = export(out)
    assert [row["text"] for row in as_csv(result.stdout)] == ["猫", "", 'x, "y"\nz']
    assert result.stderr == "3 rows, 2 of them answered ok\n"


def test_a_dash_is_stdout(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert export(out, "-").stdout == export(out).stdout
    assert json.loads(export(out, "-", "--format", "ndjson").stdout.splitlines()[0])["text"] == "猫"
    assert not Path("-").exists()


@pytest.mark.parametrize("ending", ["ndjson", "jsonl", "JSONL"])
def test_ndjson_tells_money_as_text(out: Path, tmp_path: Path, ending: str):
    """JSON numbers are floats to most readers."""
    export(out, tmp_path / f"answers.{ending}")
    rows = [json.loads(line) for line in (tmp_path / f"answers.{ending}").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == ["c", "a", "b"]
    assert rows[0]["cost"] == "0.000347250000"
    assert (rows[1]["text"], rows[1]["note"]) == (None, None)


def test_parquet_keeps_types(out: Path, tmp_path: Path):
    export(out, tmp_path / "answers.parquet")
    frame = pl.read_parquet(tmp_path / "answers.parquet")
    assert frame.columns == ["id", "prompt", "note", *ANSWER]
    assert frame.schema["cost"] == pl.Decimal(38, 12)
    assert frame["id"].to_list() == ["c", "a", "b"]


def test_a_format_may_be_said(out: Path, tmp_path: Path):
    export(out, tmp_path / "answers.txt", "--format", "ndjson")
    assert json.loads((tmp_path / "answers.txt").read_text("utf-8").splitlines()[0])["id"] == "c"
    assert json.loads(export(out, "--format", "ndjson").stdout.splitlines()[0])["text"] == "猫"


def test_the_latest_answers_of_all_runs_are_taken(out: Path, tmp_path: Path):
    path = tmp_path / "m.csv"
    later = NOW + timedelta(days=1)
    failed = outcome(item("c"), attempt(error=REFUSED, at=later))
    write(out, failed, answered("a", "late", 1500), run_id="r2", started_at=later, manifest=path)
    rows = as_csv(export(out).stdout)
    assert [(row["text"], row["run_id"]) for row in rows] == [
        ("猫", "r1"),
        ("late", "r2"),
        ('x, "y"\nz', "r1"),
    ]
    of_one_run = as_csv(export(out, "--run", "r2").stdout)
    assert [row["status"] for row in of_one_run] == ["failed", "ok", ""]


def test_the_newest_run_is_so_by_time_whatever_its_name(out: Path, tmp_path: Path):
    grown = tmp_path / "grown.csv"
    grown.write_text("id,prompt\nb,hm\nnew,hm\n")
    write(out, answered("new", "yes"), run_id="a-name", started_at=NOW + timedelta(hours=1), manifest=grown)
    assert [row["id"] for row in as_csv(export(out).stdout)] == ["b", "new"]


def test_a_rehearsal_counts_only_where_it_is_named(tmp_path: Path):
    store = tmp_path / "store"
    path = three_rows(tmp_path)
    write(store, answered("c", "rehearsed", endpoint="embedded"), endpoint="embedded", manifest=path)
    result = export(store)
    assert [row["text"] for row in as_csv(result.stdout)] == ["", "", ""]
    assert result.stderr.splitlines() == [
        "3 rows, 0 of them answered ok",
        "the newest run is a rehearsal; to export it: --run r1",
    ]
    assert as_csv(export(store, "--run", "r1").stdout)[0]["text"] == "rehearsed"


def test_rows_of_a_manifest_that_has_grown_stay_without_an_answer(out: Path, tmp_path: Path):
    with (tmp_path / "m.csv").open("a", encoding="utf-8") as file:
        file.write("d,new,\n")
    rows = as_csv(export(out).stdout)
    assert [(row["id"], row["status"]) for row in rows] == [
        ("c", "ok"),
        ("a", "failed"),
        ("b", "ok"),
        ("d", ""),
    ]


def test_rows_with_given_and_bad_ids_find_their_answers(tmp_path: Path):
    store, path = tmp_path / "store", tmp_path / "m.csv"
    path.write_text("id,prompt\none,a\none,b\n,c\n")
    bad = BadRow("one#2", 2, RowError(2, "the id 'one' came before"))
    write(store, answered("one", "first"), bad, manifest=path)
    rows = as_csv(export(store).stdout)
    assert [(row["id"], row["item_id"], row["status"]) for row in rows[:2]] == [
        ("one", "one", "ok"),
        ("one", "one#2", "failed"),
    ]
    assert rows[2]["item_id"]
    assert rows[2]["status"] == ""


@pytest.mark.parametrize(
    "columns",
    [
        ["text", "status", "cost"],
        ["text", "text_answer"],
        ["item_id", "item_id_answer", "item_id_answer_answer"],
        ["row", "row_", "row__"],
        ["row"],
        ["__item_id_", "run", "date", "place"],
        ["^.*$", "*", 'a "quoted" name', "a,b", "列"],
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_a_manifest_may_name_its_columns_as_it_likes(tmp_path: Path, columns: list[str], ending: str):
    store = tmp_path / "store"
    own = {"id": ["a", "b"], "prompt": ["p", "q"], **{name: [f"{name} 1", f"{name} 2"] for name in columns}}
    write(store, answered("a", "the answer"), manifest=manifest(tmp_path, pl.DataFrame(own), ending))
    export(store, tmp_path / "answers.parquet")
    frame = pl.read_parquet(tmp_path / "answers.parquet")
    assert frame.columns[: len(own)] == list(own)
    assert frame.select(pl.nth(range(len(own)))).to_dict(as_series=False) == own
    ours = frame.columns[len(own) :]
    assert [name.removesuffix("_answer").removesuffix("_answer") for name in ours[:3]] == [
        "item_id" if not ours[0].endswith("_answer" * 3) else "item_id_answer",
        "status",
        "text",
    ]
    assert frame[ours[2]].to_list() == ["the answer", None]


def with_lists(folder: Path, ending: str) -> Path:
    rows = {
        "id": ["a", "b", "c"],
        "image_url": [["https://h.example/1", "https://h.example/2"], [], None],
        "prompt": ["p", "q", "r"],
        'my "tags"': [["x, y", "猫"], None, []],
        "meta": [{"k": 1}, {"k": 2}, None],
    }
    return manifest(folder, pl.DataFrame(rows), ending)


@pytest.mark.parametrize("ending", ["parquet", "ndjson"])
def test_csv_writes_lists_as_a_manifests_cells_may_hold_them(tmp_path: Path, ending: str):
    store = tmp_path / "store"
    write(store, answered("a", "yes"), manifest=with_lists(tmp_path, ending))
    rows = as_csv(export(store).stdout)
    assert json.loads(rows[0]["image_url"]) == ["https://h.example/1", "https://h.example/2"]
    assert json.loads(rows[0]['my "tags"']) == ["x, y", "猫"]
    assert rows[1]['my "tags"'] == "", "null is an empty cell"
    assert rows[2]["image_url"] == ""


def test_parquet_and_ndjson_keep_lists(tmp_path: Path):
    store = tmp_path / "store"
    write(store, answered("a", "yes"), manifest=with_lists(tmp_path, "parquet"))
    export(store, tmp_path / "answers.parquet")
    assert pl.read_parquet(tmp_path / "answers.parquet")['my "tags"'].to_list() == [["x, y", "猫"], None, []]
    line = json.loads(export(store, "--format", "ndjson").stdout.splitlines()[0])
    assert line["image_url"] == ["https://h.example/1", "https://h.example/2"]


def test_a_manifest_without_rows_is_exported_as_its_header(tmp_path: Path):
    store, path = tmp_path / "store", tmp_path / "m.csv"
    path.write_text("id,prompt\n")
    write(store, manifest=path)
    result = export(store)
    assert result.stdout.strip() == ",".join(["id", "prompt", *ANSWER])
    assert result.stderr.startswith("0 rows, 0 of them answered ok")


def test_many_rows_keep_their_order(tmp_path: Path):
    """More than one batch of the manifest, answered in another order."""
    count = 6_000
    ids = [f"i{number * 7919 % count}" for number in range(count)]
    path = manifest(tmp_path, pl.DataFrame({"id": ids, "prompt": ["p"] * count}))
    store = tmp_path / "store"
    write(store, *(answered(f"i{number}", f"t{number}") for number in range(count)), manifest=path)
    rows = as_csv(export(store).stdout)
    assert [row["id"] for row in rows] == ids
    assert [row["text"] for row in rows] == [f"t{name[1:]}" for name in ids]


def test_a_folder_with_brackets_in_its_name_will_do(out: Path, tmp_path: Path):
    folder = tmp_path / "answers [2026] *"
    folder.mkdir()
    export(out, folder / "a.csv")
    assert [path.name for path in folder.iterdir()] == ["a.csv"]
    assert len(as_csv((folder / "a.csv").read_text("utf-8"))) == 3


def test_an_export_replaces_the_last_one_and_leaves_nothing_beside_it(out: Path, tmp_path: Path):
    folder = tmp_path / "to"
    folder.mkdir()
    for _ in range(2):
        export(out, folder / "answers.csv")
    assert [path.name for path in folder.iterdir()] == ["answers.csv"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["answers.xlsx"], "answers.xlsx: name it .csv, .ndjson, .jsonl or .parquet, or say --format"),
        (["nowhere/answers.csv"], "nowhere/answers.csv: there is no folder nowhere"),
        (["--run", "r9"], "no run 'r9' here"),
        (["--job", "captions"], "no run of job 'captions' here"),
        (["--run", "r1", "--job", "captions"], "run r1 belongs to job default: add --job default"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(out: Path, words: Sequence[str], told: str):
    assert told in export(out, *words, code=2).stderr


def test_a_manifest_that_is_gone_is_told_in_a_sentence(out: Path, tmp_path: Path):
    (tmp_path / "m.csv").unlink()
    assert "m.csv: no such file" in export(out, code=2).stderr


def test_without_a_store_a_sentence_says_so(tmp_path: Path):
    assert "there is no store here" in export(tmp_path / "nowhere", code=2).stderr
