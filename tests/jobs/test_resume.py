"""`resume`: which run goes on, and with what."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.nights import Finished, Store, clean_environment, invoke, write_manifest
from tests.serving.answers import completion, gateway_error
from tests.serving.server import Play, Received, Server


class Folder:
    """A manifest and a store, and a server that has no credit until it is given some."""

    def __init__(self, path: Path, server: Server) -> None:
        self.path = path
        self.server = server
        self.has_credit = False
        self.rows("a", "b")

    def play(self, received: Received) -> Play:
        return completion() if self.has_credit else gateway_error(402, None)

    def rows(self, *rows: str) -> None:
        write_manifest(self.path / "m.csv", rows)

    @property
    def out(self) -> Path:
        return self.path / "out"

    def run(self, *options: str) -> Finished:
        arguments = ["run", self.path / "m.csv", "--base-url", self.server.base_url, "--out", self.out]
        return invoke(*arguments, *options)

    def resume(self, *options: str) -> Finished:
        return invoke("resume", *options, "--out", self.out)

    def state(self, run_id: str) -> str:
        facts = json.loads((self.out / "runs" / run_id / "run.json").read_text("utf-8"))
        return str(facts["state"])

    def halted(self, run_id: str, *options: str) -> None:
        assert self.run("--run-id", run_id, *options).code == 3
        assert self.state(run_id) == "halted"

    def asked(self) -> list[str | None]:
        """The prompts that came since the last look."""
        texts = self.server.texts()
        self.server.received.clear()
        return texts


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    kept = clean_environment()
    for name in os.environ:
        if name not in kept and not name.startswith("PYTHON"):
            monkeypatch.delenv(name)
    with Server(lambda received: made.play(received)) as server:
        made = Folder(tmp_path, server)
        yield made


def test_a_named_run_goes_on_and_ends(folder: Folder):
    folder.halted("monday")
    folder.has_credit = True
    finished = folder.resume("monday")
    assert finished.code == 0, finished.stderr
    assert folder.state("monday") == "done"
    store = Store(folder.out)
    assert store.ids("ok") == ["a", "b"]
    assert store.rows() == [1, 2]


def test_what_was_answered_is_not_asked_again(folder: Folder):
    folder.has_credit = True
    folder.rows(*(f"p{row}" for row in range(6)), *(f"q{row}" for row in range(20)))
    folder.play = (  # type: ignore[method-assign] # the fake's own
        lambda received: completion() if (received.text or "")[0] == "p" else gateway_error(402, None)
    )
    assert folder.run("--run-id", "monday", "--concurrency", "1").code == 3
    store = Store(folder.out)
    ended = set(store.ids("ok")) | set(store.ids("failed"))
    assert {f"p{row}" for row in range(6)} <= ended < set(folder.asked()) | ended
    folder.play = lambda received: completion()  # type: ignore[method-assign]
    assert folder.resume("monday", "--max-failed", "1").code == 0
    asked = folder.asked()
    assert not ended & set(asked)
    assert len(asked) == 26 - len(ended)
    assert Store(folder.out).rows() == list(range(1, 27))


def test_without_a_name_the_newest_unfinished_run_of_the_job_goes_on(folder: Folder):
    """Names do not sort by time: the newest is the one that started last."""
    folder.halted("z-first")
    folder.halted("a-second")
    folder.halted("m-other", "--job", "captions")
    folder.has_credit = True
    assert folder.resume().code == 0
    assert [folder.state(name) for name in ("z-first", "a-second", "m-other")] == ["halted", "done", "halted"]
    assert folder.resume("--job", "captions").code == 0
    assert folder.state("m-other") == "done"


def test_a_finished_run_changes_nothing_and_is_no_mistake(folder: Folder):
    folder.has_credit = True
    assert folder.run("--run-id", "monday").code == 0
    before = {path: path.read_bytes() for path in folder.out.rglob("*") if path.is_file()}
    folder.asked()
    finished = folder.resume("monday")
    assert (finished.code, finished.stdout) == (0, "")
    assert finished.stderr == "run monday is finished: there is nothing to go on with\n"
    assert {path: path.read_bytes() for path in folder.out.rglob("*") if path.is_file()} == before
    assert folder.asked() == []


def test_a_finished_run_is_told_as_json_if_asked(folder: Folder):
    folder.has_credit = True
    assert folder.run("--run-id", "monday").code == 0
    told = folder.resume("monday", "--json").json
    assert (told["state"], told["exit_code"]) == ("done", 0)
    assert (told["rows"], told["ok"], told["failed"], told["attempts"]) == (2, 2, 0, 2)


def test_the_same_command_with_the_same_run_id_goes_on_and_then_has_nothing_to_do(folder: Folder):
    folder.halted("monday")
    folder.has_credit = True
    assert folder.run("--run-id", "monday").code == 0
    assert folder.state("monday") == "done"
    folder.asked()
    again = folder.run("--run-id", "monday")
    assert (again.code, again.stderr) == (0, "run monday is finished: there is nothing to go on with\n")
    assert folder.asked() == []


def test_with_every_run_finished_there_is_nothing_to_go_on_with(folder: Folder):
    folder.has_credit = True
    assert folder.run().code == 0
    finished = folder.resume()
    assert finished.code == 0
    assert "every run of job 'default' is finished; there is nothing to go on with" in finished.stderr
    assert folder.resume("--json").json == {"run_id": None, "job": "default", "exit_code": 0}


def test_a_run_that_is_not_there_is_a_mistake(folder: Folder):
    folder.halted("monday")
    finished = folder.resume("tuesday")
    assert finished.code == 2
    assert finished.stderr == f"error: --out {folder.out}: no run 'tuesday' here\n"


def test_without_a_store_a_sentence_says_so(folder: Folder):
    finished = folder.resume()
    assert finished.code == 2
    assert "there is no store here; `mediabatch run` makes one" in finished.stderr


def test_a_header_has_to_be_given_again_and_its_name_is_told(folder: Folder):
    folder.halted("monday", "--header", "X-Team=secret-7Qp2")
    folder.has_credit = True
    folder.asked()
    finished = folder.resume("monday")
    assert finished.code == 2
    assert finished.stderr == "error: run monday sent the header X-Team: give --header X-Team=… again\n"
    assert folder.asked() == []
    assert folder.resume("monday", "--header", "X-Team=secret-7Qp2").code == 0
    assert {received.headers["x-team"] for received in folder.server.received} == {"secret-7Qp2"}


def test_a_changed_manifest_is_refused_before_anything_is_sent(folder: Folder):
    folder.halted("monday")
    folder.rows("a", "b", "c")
    folder.has_credit = True
    folder.asked()
    finished = folder.resume("monday")
    assert finished.code == 2
    assert "run monday cannot go on, because the manifest" in finished.stderr
    assert "has changed since; start a new run, which skips what was answered" in finished.stderr
    assert folder.asked() == []


def test_it_asks_what_the_run_asked_whatever_the_settings_are_now(folder: Folder):
    folder.halted("monday", "--model", "first-model", "--max-tokens", "77")
    folder.has_credit = True
    folder.asked()
    finished = invoke(
        "resume", "monday", "--out", folder.out, MEDIABATCH_MODEL="other", MEDIABATCH_BASE_URL="http://127.0.0.1:9/v1"
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    assert {received.model for received in folder.server.received} == {"first-model"}
    assert {received.json["max_tokens"] for received in folder.server.received} == {77}


def test_how_fast_it_goes_on_may_be_said_anew_and_else_stays(folder: Folder):
    said = (
        "--concurrency",
        "3",
        "--rpm",
        "600",
        "--max-outage",
        "15m",
        "--max-attempts",
        "2",
        "--timeout",
        "9",
    )
    folder.halted("monday", *said)
    first = {"slots": 3, "rpm": 600, "tpm": None, "max_outage_s": 900, "max_attempts": 2, "timeout_s": 9}

    def plan() -> dict[str, object]:
        facts = json.loads((folder.out / "runs" / "monday" / "run.json").read_text("utf-8"))
        (one,) = facts["plan"].pop("endpoints")
        paced = {name: one[name] for name in ("slots", "rpm", "tpm")}
        patient = {name: facts["plan"][name] for name in ("max_outage_s", "max_attempts", "timeout_s")}
        return {**paced, **patient}

    assert folder.resume("monday").code == 3
    assert plan() == first
    assert folder.resume("monday", "--concurrency", "5", "--tpm", "90000", "--max-outage", "90").code == 3
    assert plan() == {**first, "slots": 5, "tpm": 90_000, "max_outage_s": 90}
    assert folder.resume("monday", "--concurrency", "auto").code == 3
    assert plan()["slots"] is None


def test_the_exit_code_is_that_of_the_whole_run(folder: Folder):
    """One row is bad in the first session; the second answers the rest, and the run still has a failure."""
    (folder.path / "m.csv").write_text("id,prompt\na,a\nbad,\n", "utf-8")
    folder.halted("monday")
    folder.has_credit = True
    assert folder.resume("monday").code == 5
    assert Store(folder.out).ids("failed") == ["bad"]


def test_the_summary_of_a_run_that_stopped_names_the_command_to_type(folder: Folder):
    stopped = folder.run("--run-id", "monday")
    assert stopped.code == 3
    last = stopped.stdout.splitlines()[-1]
    assert last == f"next: mend what halted it, then mediabatch resume monday --out {folder.out}"
