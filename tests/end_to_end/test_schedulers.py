"""What a scheduler meets: --notify-cmd, a config file to start from, retention."""

from __future__ import annotations

import json
import shlex
import sys
import time
import tomllib
from pathlib import Path

import pytest

from jobs.notifying import notify
from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import KEY, invoke, plan_for, run_command, write_manifest
from tests.serving.answers import completion, gateway_error
from tests.serving.server import Play, Received, Server


@pytest.fixture
def server(serve: Serve) -> Server:
    def script(received: Received) -> Play:
        broke = (received.text or "").startswith("broke")
        return gateway_error(402, None) if broke else completion()

    return serve(script)


def night(server: Server, folder: Path, *options: str, rows: list | None = None):
    manifest = write_manifest(folder / "manifest.csv", rows or ["a", "b"])
    return run_command("run", manifest, "--base-url", server.base_url, *options, cwd=folder)


def test_the_command_gets_the_summary_and_stdout_stays_the_runs_own(server: Server, tmp_path: Path):
    ended = night(server, tmp_path, "--json", "--notify-cmd", "tee told.json; echo told")
    assert ended.code == 0
    assert json.loads((tmp_path / "told.json").read_text()) == ended.json
    assert ended.stderr.rstrip().endswith("told")


def test_it_is_told_of_a_halt_too(server: Server, tmp_path: Path):
    ended = night(server, tmp_path, "--notify-cmd", "cat > told.json", rows=["broke"])
    assert ended.code == 3
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["state"], told["exit_code"]) == ("halted", 3)


def test_its_failure_is_a_sentence_and_changes_nothing(server: Server, tmp_path: Path):
    ended = night(server, tmp_path, "--notify-cmd", "cat > /dev/null; exit 7")
    assert ended.code == 0
    assert "note: --notify-cmd ended with exit code 7; the run itself is as it is told" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_command_that_never_reads_does_no_harm(server: Server, tmp_path: Path):
    ended = night(server, tmp_path, "--notify-cmd", "true")
    assert (ended.code, ended.stderr) == (0, "")


def test_it_is_given_no_key(server: Server, tmp_path: Path):
    night(server, tmp_path, "--notify-cmd", "env > env.txt")
    assert KEY not in (tmp_path / "env.txt").read_text()


def test_whatever_it_started_is_ended_when_it_takes_too_long(tmp_path: Path):
    plan = plan_for(tmp_path / "m.csv", "https://endpoint.example/v1", tmp_path)
    late = tmp_path / "late.txt"
    nap = f"import time; time.sleep(2); open({str(late)!r}, 'w')"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(nap)} & sleep 20"
    assert notify(command, "{}", plan, patience_s=0.3) == "--notify-cmd took longer than 0.3 s and was ended"
    time.sleep(2.2)
    assert not late.exists()


def test_the_config_file_to_start_from_is_taken_by_run_as_it_is(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = invoke("init")
    assert made.code == 0
    assert "mediabatch run MANIFEST --config nightly.toml" in made.stdout
    manifest = write_manifest(tmp_path / "manifest.csv", ["a"])
    planned = invoke("run", manifest, "--config", "nightly.toml", "--limit", "0", "--json")
    assert planned.code == 0, planned.stderr
    assert planned.json["not_attempted"] == 1


def test_everything_that_it_comments_out_is_a_setting_of_run(tmp_path: Path, monkeypatch):
    """With every comment taken off that holds a setting, `run` takes the file all the same."""
    monkeypatch.chdir(tmp_path)
    invoke("init", "all.toml")
    lines = Path("all.toml").read_text("utf-8").splitlines()
    opened = [line.removeprefix("# ") if "=" in line or line.startswith("# [") else line for line in lines]
    opened = [line for line in opened if not line.startswith(("prose", "The settings"))]
    text = "\n".join(opened)
    settings = tomllib.loads(text)
    assert {"budget", "rpm", "tpm", "notify-cmd", "endpoint", "fallback"} <= settings.keys()
    book = ['name = "mine"', 'currency = "USD"', "[[price]]", 'models = ["*"]', "input = 1", "output = 1"]
    (tmp_path / "prices.toml").write_text("\n".join(book))
    Path("all.toml").write_text(text.replace("/var/lib/mediabatch", str(tmp_path)))
    manifest = write_manifest(tmp_path / "manifest.csv", ["a"])
    keys = {"EXAMPLE_API_KEY": "k1", "OTHER_API_KEY": "k2"}
    planned = invoke("run", manifest, "--config", "all.toml", "--limit", "0", "--notify-cmd", "true", **keys)
    assert planned.code == 0, planned.stderr


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nightly.toml").write_text("mine")
    refused = invoke("init")
    assert refused.code == 2
    assert "nightly.toml is there already" in refused.stderr
    assert Path("nightly.toml").read_text() == "mine"


def test_prune_says_what_would_go_and_lets_go_of_it(server: Server, tmp_path: Path, monkeypatch):
    """`--keep 0d`: everything is old. Two nights over two rows, the second asked anew."""
    monkeypatch.chdir(tmp_path)
    for again in ((), ("--again",)):
        assert night(server, tmp_path, *again).code == 0
    night(server, tmp_path, "--run-id", "stopped", rows=["broke"])
    assert (tmp_path / "out/runs/stopped/ledger.sqlite").exists()
    before = run_command("report", "--json", cwd=tmp_path).json
    time.sleep(0.01)
    dry = run_command("prune", "--keep", "0d", "--dry-run", cwd=tmp_path).stdout
    assert "3 runs are older; 2 superseded outcomes, " in dry
    told = run_command("prune", "--keep", "0d", "--json", cwd=tmp_path).json
    assert (told["runs"], told["results"], told["ledgers"]) == (3, 2, 1)
    assert told["freed_bytes"] > 0
    after = run_command("report", "--json", cwd=tmp_path).json
    for facts in (before, after):
        facts.pop("dearest")  # it lists outcomes, of which some are gone
    assert after == before
    refused = run_command("resume", "stopped", cwd=tmp_path)
    assert refused.code == 2
    assert "prune has let go of its ledger" in refused.stderr
    assert "nothing to go on with" in run_command("resume", cwd=tmp_path).stderr
    answered = night(server, tmp_path, "--json")
    assert (answered.json["skipped"], answered.json["attempts"]) == (2, 0), "nothing is paid for twice"


def test_a_run_left_half_way_gives_its_ledger_up_once_a_later_one_went_through(
    server: Server, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    night(server, tmp_path, "--run-id", "stopped", rows=["broke"])
    kept = run_command("prune", "--keep", "90d", "--json", cwd=tmp_path).json
    assert (kept["runs"], kept["ledgers"]) == (0, 0), "it may still be resumed"
    night(server, tmp_path)
    gone = run_command("prune", "--keep", "90d", "--json", cwd=tmp_path).json
    assert (gone["runs"], gone["ledgers"]) == (0, 1)
    assert sorted(path.name for path in (tmp_path / "out/runs/stopped").iterdir()) == ["run.json"]


def test_an_answer_to_another_question_is_kept_for_whoever_asks_it_again(server: Server, tmp_path: Path):
    """The item's latest outcome is the second; a run that asks the first question again still skips it."""
    first, second = ([{"id": "a", "prompt": prompt}] for prompt in ("one thing", "another"))
    for rows in (first, second):
        night(server, tmp_path, rows=rows)
    told = run_command("prune", "--keep", "0d", "--json", cwd=tmp_path).json
    assert (told["runs"], told["results"]) == (2, 0)
    assert night(server, tmp_path, "--json", rows=first).json["skipped"] == 1


def test_an_old_rehearsal_leaves_its_run_json(tmp_path: Path):
    manifest = write_manifest(tmp_path / "manifest.csv", ["a"])
    run_command("run", manifest, "--embedded", "--run-id", "rehearsed", cwd=tmp_path)
    told = run_command("prune", "--keep", "0d", "--json", cwd=tmp_path).json
    assert (told["runs"], told["results"], told["attempts"]) == (1, 1, 1)
    assert told["costs"] > 0
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(left) == [".lock-default", "run.json"]
    assert "rehearsed" in run_command("status", cwd=tmp_path).stdout


def test_what_a_killed_run_left_is_settled_before_anything_goes(server: Server, tmp_path: Path):
    """As `run` does it: what stands in its ledger alone would go with it."""
    manifest = write_manifest(tmp_path / "manifest.csv", ["a", "b", "c"])
    night(server, tmp_path, "--run-id", "killed", rows=["a", "b", "c"])
    run_json = tmp_path / "out/runs/killed/run.json"
    facts = json.loads(run_json.read_text())
    facts.pop("finished_at")
    run_json.write_text(json.dumps({**facts, "state": "running"}))
    assert manifest.exists()
    told = run_command("prune", "--keep", "90d", "--json", cwd=tmp_path)
    assert told.code == 0
    assert told.json["runs"] == 0
    assert "settled_at" in json.loads(run_json.read_text())


@pytest.mark.parametrize("wrong", ["-5d", "soon", "90"])
def test_a_time_to_keep_that_means_nothing_is_a_mistake(tmp_path: Path, wrong: str):
    refused = run_command("prune", "--keep", wrong, cwd=tmp_path)
    assert refused.code == 2
    assert "--keep" in refused.stderr


def test_prune_waits_for_nobody_who_runs_the_job(tmp_path: Path, server: Server):
    import fcntl

    night(server, tmp_path)
    with (tmp_path / "out/runs/.lock-default").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = run_command("prune", "--keep", "90d", cwd=tmp_path)
    assert refused.code == 2
    assert "is running already" in refused.stderr
