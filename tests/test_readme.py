"""The README is true: its commands run, its output is what comes out, its tables name what there is."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CONSOLE = "\n".join(re.findall(r"```console\n(.*?)```", README, re.DOTALL))
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MEDIABATCH_")}


def commands() -> list[list[str]]:
    """Every `mediabatch …` line of the README's console blocks, as words."""
    lines = [line for line in CONSOLE.splitlines() if line.startswith("mediabatch ")]
    return [shlex.split(line, comments=True) for line in lines]


def mediabatch(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", *words[1:]],
        cwd=cwd,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def normal(text: str) -> str:
    """Without what differs from run to run: ids, days, seconds, and white space at line ends."""
    text = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{6}", "RUN", text)
    text = re.sub(r"\d{4}-\d{2}-\d{2}", "DAY", text)
    text = re.sub(r"request id: \w+", "request id: ID", text)
    text = re.sub(r"in [\d,.]+ s", "in SECONDS", text)
    # Tables fold by width, and an id's width is not the same in every run.
    return re.sub(r"[\s─]+", " ", text).strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A fresh folder with the example data where the README expects it, and one rehearsal done."""
    here = tmp_path_factory.mktemp("readme")
    (here / "data").symlink_to(ROOT / "data")
    return here


@pytest.fixture(scope="module")
def rehearsal(folder):
    return mediabatch(shlex.split("mediabatch run data/manifests/example.csv --embedded"), folder)


def test_the_output_shown_is_what_the_command_prints(rehearsal):
    shown = re.search(r"<!-- output: (.*?) -->\n```text\n(.*?)```\n<!-- end -->", README, re.DOTALL)
    assert shown
    assert shown[1] == "mediabatch run data/manifests/example.csv --embedded"
    assert normal(shown[2]) == normal(rehearsal.stdout)


def test_the_query_shown_gives_the_costs_by_modality(rehearsal, folder):
    query = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert query
    ran = subprocess.run(
        [sys.executable, "-c", query[1]], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    assert "image+video" in ran.stdout


def test_the_catalogue_opens_as_typed_columns_in_polars_and_duckdb(folder):
    dry, night = [words for words in commands() if "data/manifests/catalogue.csv" in words]
    before = sorted(folder.iterdir())
    shown = mediabatch(dry, folder)
    assert "Postkarte „Abend am See“" in shown.stdout
    assert "in German" in shown.stdout
    assert sorted(folder.iterdir()) == before
    done = mediabatch(night, folder)
    assert done.returncode == 0, done.stderr
    expected = {"polars": ("worth_usd", "list[struct[2]]"), "duckdb": ("avg(parsed.worth_usd)", "severity")}
    for library, columns in expected.items():
        query = re.search(rf"<!-- typed: {library} -->\n```python\n(.*?)```", README, re.DOTALL)
        assert query
        ran = subprocess.run(
            [sys.executable, "-c", query[1]], cwd=folder, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        for column in columns:
            assert column in ran.stdout


def test_the_config_file_shown_makes_a_plan(folder, monkeypatch):
    shown = re.search(r"<!-- config: (.*?) -->\n```toml\n(.*?)```", README, re.DOTALL)
    assert shown
    (folder / shown[1]).write_text(shown[2])
    monkeypatch.setitem(ENVIRONMENT, "EXAMPLE_API_KEY", "sk-example-1")
    monkeypatch.setitem(ENVIRONMENT, "OTHER_API_KEY", "sk-other-2")
    words = shlex.split("mediabatch run data/manifests/example.csv --config nightly.toml")
    assert [*words[:2], "manifest.csv", *words[3:]] in commands()
    planned = mediabatch([*words, "--limit", "0", "--out", "planned"], folder)  # no row is asked
    assert planned.returncode == 0, planned.stderr
    (run_json,) = (folder / "planned" / "runs").glob("*/run.json")
    plan = json.loads(run_json.read_text())["plan"]
    assert [one["rpm"] for one in plan["endpoints"]] == [6000, None]
    assert plan["endpoints"][1]["slots"] == 32
    assert plan["fallbacks"] == {"ContentBlocked": "gemini-2.5-flash", "EmptyReply": "gemini-2.5-flash"}


@pytest.mark.parametrize("is_bad", [False, True], ids=["a good night", "a bad one"])
def test_the_rehearsal_runs_as_written(folder, is_bad):
    good, run, bad = [words for words in commands() if "serve" in words or "rehearsal" in words]
    serve = [*bad[:-2], "--latency", "0.01", *bad[-2:]] if is_bad else good  # not so slow: a test is no night
    server = subprocess.Popen(
        [sys.executable, "-m", "jobs", *serve[1:-1], "0"],  # any free port, for tests may run side by side
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        deadline = time.monotonic() + 30
        url = None
        while url is None and time.monotonic() < deadline:
            url = re.search(r"http://127\.0\.0\.1:\d+/v1", server.stdout.readline())
        assert url
        words = [url[0] if word == "http://127.0.0.1:8000/v1" else word for word in run]
        done = mediabatch([*words, "--again"], folder)
        assert done.returncode == 0, done.stderr
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()


def test_the_morning_commands_run_as_written(rehearsal, folder):
    show = next(words for words in commands() if words[1] == "show")
    assert mediabatch(show, folder).returncode == 0
    export = next(words for words in commands() if words[1] == "export")
    assert mediabatch(export, folder).returncode == 0
    assert (folder / export[2]).is_file()


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_shown_takes_the_options_shown(words):
    from jobs.__main__ import cli

    context = cli.make_context("mediabatch", list(words[1:]), resilient_parsing=True)
    command = cli.get_command(context, words[1])
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known


def test_every_column_and_exit_code_of_the_tables_is_real():
    from jobs.options import HALTED, INTERRUPTED, USAGE_ERROR
    from jobs.summary import DONE, STOPPED, TOO_MANY_FAILED
    from pipeline.manifest.columns import READ

    for column in READ:
        assert f"`{column}`" in README, f"the README does not name the manifest column {column}"
    for code in (DONE, USAGE_ERROR, HALTED, STOPPED, TOO_MANY_FAILED, INTERRUPTED):
        assert f"\n| {code} |" in README


def test_the_library_example_runs(folder):
    (program,) = [
        code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "follow_plan" in code
    ]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("done 19 {'USD': Decimal('0.0065105")
    assert "failed" in done.stdout
