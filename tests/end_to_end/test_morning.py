"""The morning after a night with failures: report, reprocess, report; over real HTTP, to the last digit."""

from __future__ import annotations

import csv
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import orjson
import polars as pl
import pytest

from pipeline.store.reader import latest_outcomes
from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import (
    COMMAND,
    Finished,
    Store,
    clean_environment,
    invoke,
    run_command,
    write_manifest,
)
from tests.serving.answers import RESET, completion, gateway_error
from tests.serving.server import Play, Received, Server

ROOT = Path(__file__).parent.parent.parent
FALLBACK = "gemini-2.5-flash-lite"
NIGHT = 200
FAILING = {17: "Overloaded", 50: "Overloaded", 83: "BadInput", 101: "BadInput", 150: "ConnectionLost"}
TOO_SOON = 1_000  # answered with 408: many of them are many failures, and no outage
PAID_AND_FAILED = 199  # answered without text because it was blocked, which its usage bills


def usage(prompt: int, answer: int) -> dict[str, object]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"text_tokens": prompt},
    }


def at_night(received: Received) -> Play:
    """3% fail: overloaded, refused, broken off, blocked. The fallback answers everything."""
    number = int((received.text or "").rpartition(" ")[2])
    if received.model != FALLBACK:
        match FAILING.get(number):
            case "Overloaded":
                return gateway_error(503)
            case "BadInput":
                return gateway_error(400, "INVALID_ARGUMENT")
            case "ConnectionLost":
                return RESET
        if number == TOO_SOON:
            return gateway_error(408, None)
        if number == PAID_AND_FAILED:
            return completion("", finish_reason="content_filter", usage=usage(1_000, 0))
    return completion(f"answer {number}", model=received.model, usage=usage(1_000, 100))


class Morning:
    """A folder with a manifest, a server, and the commands in it."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        self.out = folder / "out"

    def run(self, manifest: Path, *options: str | Path) -> Finished:
        quickly = ("--max-attempts", "2", "--concurrency", "32")
        return invoke(
            "run",
            manifest,
            "--base-url",
            self.server.base_url,
            "--out",
            self.out,
            "--json",
            *quickly,
            *options,
        )

    def __call__(self, *words: str | Path) -> Finished:
        return invoke(*words, "--out", self.out)

    def report(self, *words: str) -> dict:
        finished = self("report", "--json", *words)
        assert finished.code == 0, finished.stderr
        return finished.json

    def reprocess(self, *words: str | Path, code: int = 0) -> Finished:
        finished = self("reprocess", "--json", *words)
        assert finished.code == code, finished.stdout + finished.stderr
        return finished

    def latest(self) -> pl.DataFrame:
        return latest_outcomes(Store(self.out).results.lazy()).collect().sort("item_id")

    def asked(self, since: int = 0) -> list[str | None]:
        return [received.text for received in self.server.received[since:]]


@pytest.fixture
def morning(tmp_path: Path, serve: Serve) -> Morning:
    return Morning(tmp_path, serve(at_night))


def test_the_morning_of_the_readme(morning: Morning):
    """194 answers at 1,000 in x $0.25/M + 100 out x $1.50/M = $0.0004 each, and two blocked tries of one item
    at $0.00025: $0.0781. Six at the fallback's $0.10/M in and $0.40/M out: $0.00014 each, $0.00084."""
    rows = [{"id": f"item-{n}", "prompt": f"what is {n}"} for n in range(1, NIGHT + 1)]
    manifest = write_manifest(morning.folder / "manifest.csv", rows)

    night = morning.run(manifest)
    assert night.code == 5
    assert (night.json["ok"], night.json["failed"]) == (194, 6)

    before = morning.report()
    assert {one["error_class"]: one["items"] for one in before["outcomes"]["failures"]} == {
        **Counter(FAILING.values()),
        "EmptyReply": 1,
    }
    assert before["outcomes"]["ok"] == 194
    assert before["cost_of_all_tries"] == {"USD": "0.0781"}
    assert before["cost_of_latest_answers"] == {"USD": "0.0776"}

    dry = morning.reprocess(
        "--where", "error_class=Overloaded,ConnectionLost", "--model", FALLBACK, "--dry-run"
    )
    assert dry.json["chosen"] == 3
    assert dry.json["unknown"] == 3, "nothing is known of the fallback's cost"
    sent = len(morning.server.received)

    first = morning.reprocess("--where", "error_class=Overloaded,ConnectionLost", "--model", FALLBACK)
    assert sorted(morning.asked(sent)) == ["what is 150", "what is 17", "what is 50"]
    assert first.json["cost"] == {"USD": "0.00042"}
    second = morning.reprocess("--model", FALLBACK)
    assert second.json["ok"] == 3
    assert second.json["cost"] == {"USD": "0.00042"}

    after = morning.report()
    assert after["outcomes"]["ok"] == after["outcomes"]["items"] == NIGHT
    assert after["outcomes"]["failures"] == []
    assert after["cost_of_all_tries"] == {"USD": "0.07894"}, "both runs, and what failed but was paid for"
    assert after["cost_of_latest_answers"] == {"USD": "0.07844"}
    by_run = morning.report("--by", "run")["lines"]
    assert [line["cost"] for line in by_run] == [{"USD": "0.0781"}, {"USD": "0.00042"}, {"USD": "0.00042"}]

    exported = morning("export", morning.folder / "answers.csv")
    assert "200 rows, 200 of them answered ok" in exported.stderr
    answers = list(csv.DictReader((morning.folder / "answers.csv").read_text("utf-8").splitlines()))
    assert [row["text"] for row in answers] == [f"answer {n}" for n in range(1, NIGHT + 1)]
    assert {row["id"] for row in answers if row["model"] == FALLBACK} == {
        f"item-{n}" for n in (*FAILING, PAID_AND_FAILED)
    }


def test_the_terminal_says_what_to_type_next(morning: Morning):
    manifest = write_manifest(morning.folder / "manifest.csv", ["a 17", "b 1"])
    plain = invoke(
        "run", manifest, "--base-url", morning.server.base_url, "--out", morning.out, "--max-attempts", "1"
    )
    offered = plain.stdout.splitlines()[-1].removeprefix("next: mediabatch ").split()
    assert offered[:2] == ["reprocess", "--dry-run"]
    dry = invoke(*offered)
    assert dry.code == 0
    assert "1 items would go to" in dry.stdout or "1 item would go to" in dry.stdout
    fixed = morning("reprocess", "--model", FALLBACK)
    assert fixed.stdout.splitlines()[-1] == f"next: mediabatch report --out {morning.out}"


def test_items_keep_their_ids_whatever_these_look_like(morning: Morning):
    """Given twice, given like one of ours, and not given at all."""
    rows = [
        {"id": "x", "prompt": "one 17"},
        {"id": "x#2", "prompt": "two 50"},
        {"id": "x", "prompt": "three 1"},  # comes again: a bad row, filed as x#3
        {"id": "", "prompt": "four 83"},
        {"id": " spaced ", "prompt": "five 101"},
    ]
    morning.run(write_manifest(morning.folder / "m.csv", rows))
    before = morning.latest()
    assert before["status"].to_list() == ["failed"] * 5
    morning.reprocess("--where", "error_class!=RowError", "--model", FALLBACK)
    after = morning.latest()
    assert after["item_id"].to_list() == before["item_id"].to_list()
    assert after["status"].to_list().count("ok") == 4


def test_signed_urls_and_inline_media_are_read_from_the_manifest_again(morning: Morning):
    """The store keeps neither; tonight's signature is sent, not last night's, and nothing of it is stored."""
    inline = "data:image/png;base64,iVBORw0KGgo="
    signed = "https://h.example/a.jpg?v=2&X-Amz-Signature="
    rows = [
        {"id": "signed", "prompt": "q 17", "image_url": signed + "last-night"},
        {"id": "inline", "prompt": "q 50", "image_url": inline},
        {
            "id": "several",
            "prompt": "q 83",
            "image_url": orjson.dumps([inline, "https://h.example/b.png"]).decode(),
        },
    ]
    manifest = write_manifest(morning.folder / "m.csv", rows)
    assert morning.run(manifest).code == 5
    text = manifest.read_text("utf-8").replace("last-night", "tonight")
    first, *others = text.splitlines()
    manifest.write_text("\n".join([first, "new,hello,", *others]) + "\n")  # rows have moved, too
    sent = len(morning.server.received)
    morning.reprocess("--model", FALLBACK)
    urls = {
        received.text: [
            part["image_url"] if isinstance(part["image_url"], str) else part["image_url"]["url"]
            for part in received.json["messages"][0]["content"]
            if part["type"] == "image_url"
        ]
        for received in morning.server.received[sent:]
    }
    assert urls == {
        "q 17": [signed + "tonight"],
        "q 50": [inline],
        "q 83": [inline, "https://h.example/b.png"],
    }
    for path in morning.out.rglob("*"):
        assert not path.is_file() or b"tonight" not in path.read_bytes(), path


def test_without_the_manifest_stored_requests_go_and_inline_media_are_told(morning: Morning):
    rows = [
        {"id": "plain", "prompt": "q 17", "image_url": "https://h.example/a.jpg"},
        {"id": "inline", "prompt": "q 50", "image_url": "data:image/png;base64,iVBORw0KGgo="},
        {"id": "nothing"},
    ]
    manifest = write_manifest(morning.folder / "m.csv", rows)
    morning.run(manifest)
    manifest.unlink()
    finished = morning.reprocess("--model", FALLBACK, code=5)
    assert finished.json["ok"] == 1
    latest = {row["item_id"]: row for row in morning.latest().iter_rows(named=True)}
    assert latest["plain"]["status"] == "ok"
    assert "inline media are kept in the manifest alone" in latest["inline"]["error_message"]
    assert latest["nothing"]["error_class"] == "RowError"


def test_a_row_that_was_mended_in_the_manifest_is_asked(morning: Morning):
    manifest = write_manifest(
        morning.folder / "m.csv", [{"id": "a", "prompt": "q 1"}, {"id": "b", "prompt": ""}]
    )
    morning.run(manifest)
    write_manifest(manifest, [{"id": "a", "prompt": "q 1"}, {"id": "b", "prompt": "q 2"}])
    sent = len(morning.server.received)
    morning.reprocess()
    assert morning.asked(sent) == ["q 2"]


def test_only_what_was_asked_to_change_changes(morning: Morning):
    rows = [{"id": "a", "prompt": "own 17", "model": "gemini-2.5-flash", "max_tokens": "77"}]
    morning.run(write_manifest(morning.folder / "m.csv", rows))
    assert morning.reprocess("--limit", "1", code=5).json["failed"] == 1
    assert morning.server.received[-1].json["max_tokens"] == 77
    assert morning.server.received[-1].model == "gemini-2.5-flash"
    morning.reprocess("--prompt", "anew 1", "--max-tokens", "99")
    assert (morning.server.received[-1].text, morning.server.received[-1].json["max_tokens"]) == (
        "anew 1",
        99,
    )
    assert morning.server.received[-1].model == "gemini-2.5-flash"


def test_settings_of_the_night_do_not_change_what_is_asked_again(morning: Morning):
    """A variable that names the night's model is for rows without one."""
    rows = [{"id": "a", "prompt": "own 17", "model": "gemini-2.5-flash"}]
    morning.run(write_manifest(morning.folder / "m.csv", rows))
    (morning.folder / "night.toml").write_text('model = "from-file"\nprompt = "from file"\nlimit = 0\n')
    invoke(
        "reprocess",
        "--out",
        morning.out,
        "--config",
        morning.folder / "night.toml",
        MEDIABATCH_MODEL="from-env",
    )
    assert (morning.server.received[-1].model, morning.server.received[-1].text) == (
        "gemini-2.5-flash",
        "own 17",
    )


def test_what_is_answered_is_asked_again_only_where_it_was_chosen(morning: Morning, serve: Serve):
    def script(received: Received) -> Play:
        is_long = received.json["max_tokens"] > 2000
        return completion("all of it" if is_long else "cut", finish_reason="stop" if is_long else "length")

    morning.server = serve(script)
    morning.run(write_manifest(morning.folder / "m.csv", ["a 1", "b 2"]))
    assert morning.reprocess().json == {"chosen": 0}, "nothing failed"
    morning.reprocess("--where", "finish_reason=length", "--where", "id=a*", "--max-tokens", "4000")
    assert morning.latest()["text"].to_list() == ["all of it", "cut"]
    assert morning.report()["outcomes"]["cut_off"] == 1


def test_a_failure_does_not_replace_an_answer_that_was_asked_for_again(morning: Morning):
    morning.run(write_manifest(morning.folder / "m.csv", ["a 1"]))
    morning.reprocess("--where", "status=ok", "--prompt", "bad 83", code=5)
    assert morning.latest()["text"].to_list() == ["answer 1"]
    assert morning.report()["outcomes"]["failures"] == []


def test_one_runs_failures_alone(morning: Morning):
    first = morning.run(write_manifest(morning.folder / "m.csv", ["a 17"])).json["run_id"]
    morning.run(write_manifest(morning.folder / "n.csv", ["b 50"]))
    sent = len(morning.server.received)
    morning.reprocess(first, "--model", FALLBACK)
    assert morning.asked(sent) == ["a 17"]
    exported = morning("export")
    assert [row["id"] for row in csv.DictReader(exported.stdout.splitlines())] == ["b 50"], (
        "the newest manifest"
    )


def test_items_of_other_jobs_never_meet(morning: Morning):
    morning.run(write_manifest(morning.folder / "m.csv", ["a 17"]), "--job", "one")
    morning.run(write_manifest(morning.folder / "m.csv", ["a 50"]), "--job", "two")
    sent = len(morning.server.received)
    morning.reprocess("--job", "two", "--model", FALLBACK)
    assert morning.asked(sent) == ["a 50"]
    assert morning.report("--job", "one")["outcomes"]["ok"] == 0


def test_a_reprocess_of_a_reprocess_finds_its_rows_again(morning: Morning):
    """Its manifest row is known from the first one's selection; rows that ask the same become one call."""
    inline = "data:image/png;base64,iVBORw0KGgo="
    rows = [{"id": name, "prompt": "q 50", "image_url": inline} for name in ("a", "b")]
    morning.run(
        write_manifest(morning.folder / "m.csv", [{"id": "z", "prompt": "q 1", "image_url": ""}, *rows])
    )
    morning.reprocess(code=5)
    sent = len(morning.server.received)
    done = morning.reprocess("--model", FALLBACK)
    assert (done.json["ok"], done.json["duplicates"]) == (2, 1)
    assert len(morning.server.received) == sent + 1
    assert morning.latest()["status"].to_list() == ["ok"] * 3


def test_a_reprocess_that_was_killed_is_resumed(morning: Morning, serve: Serve):
    """By its name or as the newest unfinished run; the same items go, and no others."""
    count = 30
    rows = [{"id": f"i{n}", "prompt": f"q{n} {TOO_SOON}"} for n in range(count)]
    morning.run(write_manifest(morning.folder / "m.csv", rows), "--max-attempts", "1")
    slow = serve(lambda received: completion("late").after(0.15))
    process = subprocess.Popen(
        [*COMMAND, "reprocess", "--out", morning.out, "--base-url", slow.base_url, "--concurrency", "4"],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    slow.wait_for(9)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    time.sleep(0.2)
    resumed = run_command("resume", "--out", morning.out, "--json")
    assert resumed.code == 0, resumed.stderr
    assert resumed.json["ok"] == count
    assert morning.latest()["text"].to_list() == ["late"] * count
    times = Counter(received.text for received in slow.received)
    lost = Store(morning.out).attempts.filter(error_class="Lost")
    assert sum(times.values()) - count <= lost.height <= 4
    shown = morning("show", lost["item_id"][0])
    assert shown.code == 0
    assert "Lost" in shown.stdout


def test_a_reprocess_that_was_killed_is_settled_by_the_next_night(morning: Morning, serve: Serve):
    """Schedulers call `run`: what the killed one had answered is in the store, what it had not is at rest."""
    rows = [{"id": f"i{n}", "prompt": f"q{n} {TOO_SOON}"} for n in range(20)]
    manifest = write_manifest(morning.folder / "m.csv", rows)
    morning.run(manifest, "--max-attempts", "1")
    slow = serve(lambda received: completion("late").after(0.15))
    process = subprocess.Popen(
        [*COMMAND, "reprocess", "--out", morning.out, "--base-url", slow.base_url, "--concurrency", "2"],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    slow.wait_for(7)
    process.kill()
    process.wait(10)
    night = invoke("run", manifest, "--base-url", slow.base_url, "--out", morning.out, "--json")
    assert night.code == 0, night.stderr
    assert "had been left unfinished" in night.stderr
    assert night.json["skipped"] >= 4
    assert night.json["ok"] + night.json["skipped"] == 20
    (reprocessed,) = {
        row["run_id"] for row in Store(morning.out).rest.filter(status="not_attempted").to_dicts()
    }
    of_it = Store(morning.out).results.filter(run_id=reprocessed).height
    assert of_it + Store(morning.out).rest.filter(run_id=reprocessed).height == 20
    assert morning.report()["outcomes"]["ok"] == 20


def test_a_rehearsal_changes_no_outcome(morning: Morning):
    morning.run(write_manifest(morning.folder / "m.csv", ["a 17"]))
    assert morning("reprocess", "--embedded").code == 0
    assert morning.report()["outcomes"]["failures"][0]["items"] == 1
    assert morning.report("--rehearsals")["outcomes"]["ok"] == 1


def test_what_a_killed_night_left_in_its_ledger_is_settled_before_items_are_chosen(
    morning: Morning, serve: Serve
):
    """An item that failed in an older run and was answered in the killed one is not paid for again."""
    manifest = write_manifest(morning.folder / "m.csv", ["a 17", "b 50"])
    morning.run(manifest)

    def script(received: Received) -> Play:
        return completion("found") if received.text == "a 17" else completion("never").after(60)

    slow = serve(script)
    process = subprocess.Popen(
        [*COMMAND, "run", manifest, "--out", morning.out, "--base-url", slow.base_url],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    slow.wait_for(2)
    time.sleep(0.5)
    process.kill()
    process.wait(10)
    sent = len(morning.server.received)
    done = invoke(
        "reprocess", "--out", morning.out, "--base-url", morning.server.base_url, "--model", FALLBACK
    )
    assert done.code == 0, done.stderr
    assert "had been left unfinished" in done.stderr
    assert morning.asked(sent) == ["b 50"]


def readme(part: str) -> str:
    whole = (ROOT / "README.md").read_text("utf-8")
    return whole.partition(f"\n## {part}\n")[2].partition("\n## ")[0]


def test_the_readmes_morning_runs_as_written(morning: Morning):
    """Every line of it after a night with failures, in a folder of its own; then its query tells the same."""
    rows = [{"id": f"i{n}", "prompt": f"what is {n}"} for n in (1, 2, *FAILING)]
    manifest = write_manifest(morning.folder / "manifest.csv", [*rows, {"id": "全部一起", "prompt": "all 7"}])
    assert morning.run(manifest).code == 5
    lines = [line for line in readme("In the morning").splitlines() if line.startswith("mediabatch ")]
    assert [line.split()[1] for line in lines] == [
        *("report", "reprocess", "reprocess", "reprocess", "report", "report", "show", "export")
    ]
    for line in lines:
        here = clean_environment(PYTHONPATH=str(ROOT))
        done = run_command(*shlex.split(line, comments=True)[1:], cwd=morning.folder, env=here)
        assert done.code == 0, line + done.stderr
    latest = morning.latest()
    assert dict(latest.group_by("status").len().iter_rows()) == {"ok": 6, "failed": 2}

    query = re.search(r"```python\n(.*?)```", readme("In the morning"), re.DOTALL)
    assert query
    told = subprocess.run(
        [sys.executable, "-c", query[1]],
        cwd=morning.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.search(r"failed\s*┆ BadInput\s*┆ 2 ", told.stdout), told.stdout
    assert re.search(r"ok\s*┆ null\s*┆ 6 ", told.stdout), told.stdout
