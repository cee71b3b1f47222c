"""What a person sees while a run goes on: in a real terminal, in a pipe, and from another terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import COMMAND, clean_environment, run_command, write_manifest
from tests.serving.answers import completion, gateway_error
from tests.serving.server import Play, Received, Server
from tests.terminals import Terminal

ROWS = [f"{'bad' if number % 40 == 7 else 'good'} {number}" for number in range(240)]


@pytest.fixture
def slow(serve: Serve) -> Server:
    """Answers after 0.2 s; refuses what begins with `bad`."""

    def script(received: Received) -> Play:
        if (received.text or "").startswith("bad"):
            return gateway_error(400, "INVALID_ARGUMENT").after(0.2)
        return completion().after(0.2)

    return serve(script)


def command(server: Server, folder: Path, *options: str) -> list[str]:
    manifest = write_manifest(folder / "manifest.csv", ROWS)
    return [
        *(*COMMAND, "run", str(manifest), "--base-url", server.base_url, "--run-id", "night"),
        *("--concurrency", "8", "--max-failed", "1", *options),
    ]


def has_begun(store: Path) -> bool:
    return any(store.glob("runs/night/ledger.sqlite-wal"))


@pytest.mark.parametrize("columns", [80, 140])
def test_on_a_terminal_a_pilot_sees_what_matters(slow: Server, tmp_path: Path, columns: int):
    budget = ("--budget", "5")
    with Terminal(
        command(slow, tmp_path, *budget), columns=columns, cwd=tmp_path, env=clean_environment()
    ) as terminal:
        far, pace, spent, *troubles = terminal.until(
            lambda shown: len(shown) >= 4 and "held by 8 slots" in shown[1]
        )
        assert re.match(r"\d+ of 240 · \d+ ok · \d+ failed · \d+ to go · \d+ s left, until \d\d:\d\d", far)
        assert re.match(r"[\d.]+/s · held by 8 slots · \d of 8 slots", pace)
        assert re.match(r"USD [\d.]+ of 5 · ", spent)
        assert troubles[0].startswith("BadInput ")
        assert all(len(line) <= columns for line in terminal.shown)
        assert len(terminal.shown) <= 6
        terminal.process.send_signal(signal.SIGINT)
        terminal.until(lambda shown: any(line.startswith("stopping: waiting up to 30 s") for line in shown))
        assert terminal.to_the_end() == 130
        assert not any("held by" in line for line in terminal.shown), "the view goes when the run ends"
        assert any("mediabatch resume night" in line for line in terminal.shown)
        assert not terminal.screen.cursor.hidden


def test_in_a_pipe_json_lines_are_all_there_is_on_stderr(slow: Server, tmp_path: Path):
    words = command(slow, tmp_path, "--limit", "20", "--model", "nobody-knows", "--log-format", "json")
    ended = subprocess.run(words, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["note", "end"]
    assert "no price is known" in lines[0]["message"]
    assert (lines[1]["run_id"], lines[1]["state"], lines[1]["exit_code"]) == ("night", "done", 0)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["at"]) for line in lines)


def test_another_terminal_sees_a_run_in_progress_and_disturbs_nothing(slow: Server, tmp_path: Path):
    running = subprocess.Popen(
        command(slow, tmp_path),
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    store = tmp_path / "out"
    seen = {"ok": 0}
    deadline_s = time.monotonic() + 30
    while seen["ok"] < 60 and time.monotonic() < deadline_s:
        if not has_begun(store):
            time.sleep(0.1)
            continue
        seen = run_command("status", "night", "--json", cwd=tmp_path).json
        assert seen["state"] == "running"
    assert seen["rows"] == 240
    assert seen["in_flight"] <= 8
    assert seen["left"] == 240 - seen["ok"] - seen["failed"]
    assert seen["go_on_with"] is None
    assert seen["per_s"] > 1
    shown = run_command("status", "night", cwd=tmp_path).stdout
    assert "run night, job default: running" in shown
    assert "BadInput" in shown
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    at_rest = run_command("status", "night", "--json", cwd=tmp_path).json
    assert at_rest["state"] == "interrupted"
    assert at_rest["ok"] >= seen["ok"]
    assert at_rest["not_attempted"] == 240 - at_rest["ok"] - at_rest["failed"]
    assert at_rest["go_on_with"] == "mediabatch resume night"
    assert "interrupted" in stdout
    run_command("resume", "--no-progress", "--max-failed", "1", cwd=tmp_path)
    ended = run_command("status", "night", "--json", cwd=tmp_path).json
    first, both = (told["pace"]["limited_s"]["slots"] for told in (at_rest, ended))
    assert 0.5 < first < both - 0.5, "of both sessions"
    assert both == pytest.approx(240 * 0.2 / 8, rel=0.5)


def test_of_a_killed_run_status_tells_what_is_on_record_and_leaves_the_ledger_alone(
    slow: Server, tmp_path: Path
):
    running = subprocess.Popen(command(slow, tmp_path), cwd=tmp_path, env=clean_environment())
    store = tmp_path / "out"
    while not has_begun(store) or len(slow.received) < 40:
        time.sleep(0.05)
    running.kill()
    running.wait()
    folder = store / "runs" / "night"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if "shm" not in path.name}
    told = run_command("status", "night", "--json", cwd=tmp_path).json
    assert told["state"] == "killed"
    assert told["ok"] + told["failed"] >= 20
    assert told["go_on_with"] == "mediabatch resume night"
    assert "killed" in run_command("status", cwd=tmp_path).stdout
    assert {path.name: path.read_bytes() for path in folder.iterdir() if "shm" not in path.name} == before
    ended = run_command("resume", "--no-progress", "--json", cwd=tmp_path)
    assert ended.json["ok"] + ended.json["failed"] == 240
    done = run_command("status", "night", "--json", cwd=tmp_path).json
    assert (done["state"], done["left"], done["in_flight"]) == ("done", 0, None)


def test_a_ledger_that_nobody_writes_is_looked_at_without_leaving_anything_beside_it(tmp_path: Path):
    from pipeline.ledger import Group, Ledger

    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.commit(Group(done=[(1, b"[]")]))
    assert sorted(os.listdir(tmp_path)) == ["ledger.sqlite"]
    with Ledger.looking(path) as ledger:
        assert ledger.last_seq() == 1
    assert sorted(os.listdir(tmp_path)) == ["ledger.sqlite"]


def test_whoever_looks_keeps_no_writer_waiting(tmp_path: Path):
    from pipeline.ledger import Group, Ledger

    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as writer:
        writer.commit(Group(done=[(1, b"[]")]))
        with Ledger.looking(path) as seen:
            assert seen.last_seq() == 1
            writer.commit(Group(done=[(2, b"[]")]))
            assert seen.last_seq() == 1, "of one moment"
            with pytest.raises(sqlite3.OperationalError):
                seen._connection.execute("DELETE FROM done")
        assert writer.last_seq() == 2


def test_the_list_of_runs_fits_a_narrow_terminal(slow: Server, tmp_path: Path):
    for limit in ("3", "8"):
        words = command(slow, tmp_path, "--limit", limit, "--budget", "5", "--no-progress", "--json")
        words.remove("--run-id")
        words.remove("night")
        subprocess.run(words, cwd=tmp_path, env=clean_environment(), capture_output=True)
    with Terminal([*COMMAND, "status"], columns=80, cwd=tmp_path, env=clean_environment()) as terminal:
        assert terminal.to_the_end() == 0
        heads, _, *runs = terminal.shown
        assert heads.split() == ["run", "state", "ok", "failed", "cost", "go", "on", "with"]
        assert re.match(r"\d{8}T\d{6}Z-[0-9a-f]{6} +done +3 +0 +USD 0.00", runs[0])
        assert re.match(r"\d{8}T\d{6}Z-[0-9a-f]{6} +done +4 +1 +USD 0.00\d+ +reprocess", runs[1])
        assert runs[2] == "reprocess: mediabatch reprocess --dry-run"


def test_status_of_a_run_that_is_not_there_is_a_mistake(tmp_path: Path):
    assert run_command("status", cwd=tmp_path).code == 2
    (tmp_path / "out" / "runs").mkdir(parents=True)
    finished = run_command("status", "nobody", cwd=tmp_path)
    assert finished.code == 2
    assert "no run 'nobody' here" in finished.stderr
