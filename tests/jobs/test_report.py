"""`report`: tables for a person in a pipe, JSON and CSV for a program."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from jobs.__main__ import cli
from pipeline.errors import BadInput, ConnectionLost, EmptyReply
from tests.made import NOW, attempt, count, item, not_attempted, outcome, reply, write

REFUSED = BadInput("the endpoint refuses this request", http_status=400)


def report(out: Path, *words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["report", "--out", str(out), *map(str, words)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def lines(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines() if line.strip()]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two nights: c was refused, then broke off; b failed, then was answered."""
    later = NOW + timedelta(days=1)
    failed = [outcome(item(name), attempt(error=REFUSED)) for name in ("b", "c")]
    write(tmp_path, outcome(item("a")), *failed)
    broke = outcome(item("c"), attempt(error=ConnectionLost("it broke"), at=later))
    write(tmp_path, outcome(item("b"), attempt(at=later)), broke, run_id="r2", started_at=later)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "dataset"),
    [
        (["report"], "results"),
        (["report"], "costs"),
        (["report", "--by", "error_class"], "attempts"),
        (["export"], "results"),
        (["show", "one"], "results"),
        (["show", "one"], "attempts"),
    ],
)
def test_a_damaged_part_is_told_in_a_sentence(tmp_path: Path, words: list[str], dataset: str):
    frame = pl.DataFrame({"id": ["one"], "prompt": ["What?"]})
    frame.write_csv(tmp_path / "m.csv")
    out = tmp_path / "out"
    write(out, outcome(item("one")), manifest=tmp_path / "m.csv")
    [part] = (out / dataset).rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:300])
    result = CliRunner().invoke(cli, [*words, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 2
    assert f"{part} is damaged" in result.stderr


def test_the_default_view_tells_outcomes_and_all_costs(out: Path):
    """9 in at $0.25/M and 230 out at $1.50/M, twice."""
    result = report(out)
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    assert lines(result)[0] == "job default: 2 runs, 2026-03-05 to 2026-03-06"
    shown = lines(result)
    assert "ok 2" in shown
    assert "failed: ConnectionLost 1 c: it broke" in shown
    assert "all 3" in shown
    assert "input text 18 USD 0.0000045" in shown
    assert "output text 460 USD 0.00069" in shown
    assert "all 478 USD 0.0006945" in shown
    assert "2026-03-05 a-model 239 USD 0.00034725" in shown
    assert "2026-03-06 a-model 239 USD 0.00034725" in shown
    assert "all tries USD 0.0006945; the latest answers alone USD 0.0006945" in shown
    assert any(line.startswith("possibly billed 1 attempt of a-model broke off once sent") for line in shown)


def test_json_is_one_object_with_money_as_text(out: Path):
    told = json.loads(report(out, "--json").stdout)
    assert told["cost_of_all_tries"] == {"USD": "0.0006945"}
    assert (told["outcomes"]["ok"], told["outcomes"]["failed"], told["outcomes"]["items"]) == (2, 1, 3)
    assert [run["run_id"] for run in told["runs"]] == ["r1", "r2"]
    cut = json.loads(report(out, "--json", "--by", "run").stdout)
    assert cut["by"] == ["run"]
    assert cut["lines"][0] == {
        "run": "r1",
        "items": 3,
        "failed": 2,
        "attempts": 3,
        "possibly_billed": 0,
        "tokens": 239,
        "unpriced_tokens": 0,
        "cost": {"USD": "0.00034725"},
    }


def test_csv_is_the_table_of_by(out: Path):
    rows = list(csv.DictReader(report(out, "--csv", "--by", "day", "--by", "direction").stdout.splitlines()))
    assert [row["day"] for row in rows] == ["2026-03-05", "2026-03-05", "2026-03-06", "2026-03-06"]
    assert sum(Decimal(row["cost_USD"]) for row in rows) == Decimal("0.0006945")
    assert list(rows[0]) == ["day", "direction", "tokens", "unpriced_tokens", "cost_USD"]


def test_csv_alone_is_cut_by_all_that_tells_tokens_apart(out: Path):
    rows = list(csv.DictReader(report(out, "--csv").stdout.splitlines()))
    assert len(rows) == 4
    assert list(rows[0])[:5] == ["day", "model", "direction", "modality", "kind"]


def test_parquet_is_the_same_table_with_exact_money(out: Path, tmp_path: Path):
    file = tmp_path / "costs.parquet"
    result = report(out, "--by", "day,model", "--parquet", file)
    assert result.stdout == ""
    table = pl.read_parquet(file)
    assert table.columns == [
        *("day", "model", "items", "failed", "attempts", "possibly_billed"),
        *("tokens", "unpriced_tokens", "cost_USD"),
    ]
    assert table["cost_USD"].to_list() == [Decimal("0.00034725")] * 2
    assert table["failed"].to_list() == [2, 1]


def test_a_parquet_file_that_cannot_be_written_is_a_sentence(out: Path, tmp_path: Path):
    result = report(out, "--by", "day", "--parquet", tmp_path / "none" / "costs.parquet", code=2)
    assert result.stderr.startswith("error: --parquet")


def test_several_keys_may_be_said_at_once(out: Path):
    shown = lines(report(out, "--by", "model, error_class"))
    assert shown[0] == "model error_class items failed attempts possibly billed tokens cost"
    assert "a-model — 2 0 2 0 478 USD 0.0006945" in shown
    assert "a-model BadInput 2 2 2 0 0 —" in shown


def test_all_jobs_are_told_apart_where_they_are_asked_for(out: Path):
    write(out, outcome(item("a")), run_id="r3", job="other")
    assert "other 1 0 1 0 239 USD 0.00034725" in lines(report(out, "--by", "job"))
    assert "other" not in report(out, "--by", "job", "--job", "default").stdout


def test_one_run_alone(out: Path):
    assert "run r2 of job default: 1 run, 2026-03-06" in lines(report(out, "--run", "r2"))
    assert "no run 'r9' here" in report(out, "--run", "r9", code=2).stderr
    write(out, outcome(item("a")), run_id="r3", job="other")
    assert "add --job other" in report(out, "--run", "r3", code=2).stderr


def test_days_may_be_chosen_from_and_to(out: Path):
    first, second = f"{NOW:%Y-%m-%d}", f"{NOW + timedelta(days=1):%Y-%m-%d}"
    for words, days in (
        (["--since", first], [first, second]),
        (["--since", second], [second]),
        (["--until", first], [first]),
        (["--since", "1d"], []),
        (["--since", "30000d"], [first, second]),
    ):
        told = json.loads(report(out, "--json", "--by", "day", *words).stdout)
        assert [line["day"] for line in told["lines"]] == days
    told = json.loads(report(out, "--json", "--until", first).stdout)
    assert (told["outcomes"]["ok"], told["outcomes"]["failed"]) == (1, 2), "as it stood in the evening"


def test_a_year_is_shown_with_its_newest_days(tmp_path: Path):
    for day in range(20):
        at = NOW + timedelta(days=day)
        write(tmp_path, outcome(item("a"), attempt(at=at)), run_id=f"r{day:02d}", started_at=at)
    shown = lines(report(tmp_path))
    assert "before a-model 1,434 USD 0.0020835" in shown, "six days"
    assert sum(line.startswith("2026-") for line in shown) == 14


def test_the_dearest_items_failed_tries_and_the_change_are_told(tmp_path: Path):
    """a: 239 tokens, 0.00034725; b: the same, and before that a blocked reply of 1,000 in and 100 out."""
    blocked = reply(None, [count("text", "input", 1000), count("text", "output", 100)])
    refused = EmptyReply("the endpoint blocked the answer", http_status=200, state="billed", reply=blocked)
    later = NOW + timedelta(days=1)
    write(tmp_path, outcome(item("a")))
    tries = attempt(1, blocked, refused, at=later), attempt(2, at=later)
    write(tmp_path, outcome(item("b"), *tries), run_id="r2", started_at=later)
    told = json.loads(report(tmp_path, "--json").stdout)
    assert [(one["item_id"], one["attempts"], one["cost"]) for one in told["dearest"]] == [
        ("b", 2, "0.00074725"),
        ("a", 1, "0.00034725"),
    ]
    assert told["cost_of_failed_tries"] == {"USD": "0.0004"}
    assert told["cost_per_1000_answered"] == {"USD": "0.54725"}
    shown = lines(report(tmp_path))
    assert "b a-model ok 2 239 USD 0.00074725" in shown
    assert "of that, tries that were no answer cost USD 0.0004" in shown
    assert "a thousand answered items cost USD 0.55" in shown
    assert "2026-03-06 cost USD 0.00074725, +115% on 2026-03-05 (USD 0.00034725)" in shown


def test_media_are_told_by_the_minute_that_their_tokens_make(tmp_path: Path):
    """3,840 audio tokens at 32 a second are two minutes, and cost 0.00192."""
    counts = [count("audio", "input", 3840), count("text", "output", 10)]
    heard = outcome(item("a"), attempt(1, reply("a song", counts)))
    write(tmp_path, heard)
    told = json.loads(report(tmp_path, "--json").stdout)
    assert told["by_minute"] == {"audio": {"minutes": 2.0, "cost": {"USD": "0.00096"}}}
    assert "a minute of audio costs USD 0.00096 (some 2.0 minutes, by its tokens)" in lines(report(tmp_path))


def test_what_is_unpriced_is_named_by_model(tmp_path: Path):
    write(tmp_path, outcome(item("a"), attempt(1, reply(), rates=None)))
    shown = lines(report(tmp_path))
    assert "no price known for 239 tokens of a-model: their cost is null, not zero" in shown
    assert "all tries nothing priced; the latest answers alone nothing priced" in shown


def test_a_run_that_stopped_is_shown_with_what_goes_on_with_it(tmp_path: Path):
    write(tmp_path, outcome(item("a")), facts={"state": "halted"})
    assert f"unfinished run r1 (halted): mediabatch resume r1 --out {tmp_path}" in lines(report(tmp_path))


def test_a_run_whose_rest_was_answered_since_is_unfinished_no_more(tmp_path: Path):
    """Stopped by its budget after a, with b set aside: until another night answers b."""
    stopped = {"state": "budget", "finished_at": f"{NOW:%Y-%m-%dT%H:%M:%SZ}"}
    write(tmp_path, outcome(item("a")), not_attempted("b", 2), facts=stopped)
    assert any(line.startswith("unfinished run r1 (budget)") for line in lines(report(tmp_path)))
    later = NOW + timedelta(days=1)
    write(tmp_path, outcome(item("b", 2), attempt(at=later)), run_id="r2", started_at=later)
    assert not any(line.startswith("unfinished") for line in lines(report(tmp_path)))


def test_rehearsals_are_shown_only_where_they_are_asked_for(tmp_path: Path):
    rehearsed = outcome(item("a"), attempt(endpoint="embedded"))
    write(tmp_path, rehearsed, endpoint="embedded")
    result = report(tmp_path)
    assert "ok 0" in lines(result)
    assert "there are rehearsals only; to see them: --rehearsals" in result.stderr
    shown = lines(report(tmp_path, "--rehearsals"))
    assert shown[0].endswith("rehearsals, nothing of this was spent")
    assert "ok 1" in shown
    assert "ok 1" in lines(report(tmp_path, "--run", "r1")), "it was named, so it is asked for"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--by", "colour"], "no such key 'colour'; there are modality, direction"),
        (["--csv", "--json", "--by", "day"], "exclude each other"),
        (["--timezone", "Mars/Olympus"], "no such zone"),
        (["--since", "lately"], "--since 'lately': a day such as 2026-11-23, or 7d"),
        (
            ["--since", "2026-03-06", "--until", "2026-03-05"],
            "--until 2026-03-05 lies before",
        ),
    ],
)
def test_slips_are_told(out: Path, words: list[str], sentence: str):
    assert sentence in report(out, *words, code=2).stderr


def test_a_job_that_is_not_there_is_told_with_those_that_are(out: Path):
    assert "no run of job 'nights' here; there are default" in report(out, "--job", "nights").stderr
    assert "there is no store here" in report(out / "nowhere", code=2).stderr
