"""Manifest and store in buckets: a real S3 server, the real command, and what goes wrong between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore
import polars as pl
import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import COMMAND, Finished, Store, clean_environment, run_command, write_manifest
from tests.s3_server import SECRET, S3Server, TestBucket, a_server, s3_server
from tests.serving.answers import Answer, completion, gateway_error
from tests.serving.server import Connection, Play, Received, Server

__all__ = ["s3_server"]

ROWS = 30
MANIFEST = "id,prompt,image_url\n" + "".join(
    f"item-{n},item-{n},https://media.example/{n}.png\n" for n in range(1, ROWS + 1)
)


@dataclass
class House:
    """One machine with a manifest and a store in a bucket of its own."""

    s3: S3Server
    bucket: TestBucket
    endpoint: Server
    home: Path
    more: dict[str, str]

    @property
    def out(self) -> str:
        return f"s3://{self.bucket.name}/nights/captions"

    def command(self, *words: str | Path, at: S3Server | None = None, **env: str) -> Finished:
        timeout_s = 150.0
        return run_command(*words, "--out", self.out, env=self.environment(at, **env), timeout_s=timeout_s)

    def run(self, *words: str, at: S3Server | None = None, **env: str) -> Finished:
        return self.command(*self.run_words(*words), at=at, **env)

    def run_words(self, *words: str) -> list[str]:
        manifest = f"s3://{self.bucket.name}/in/manifest.csv"
        return ["run", manifest, "--base-url", self.endpoint.base_url, "--no-progress", *words]

    def environment(self, at: S3Server | None = None, **env: str) -> dict[str, str]:
        return clean_environment(**{**(at or self.s3).environment(self.home), **self.more, **env})

    @contextlib.contextmanager
    def running(self, *words: str, at: S3Server | None = None) -> Iterator[subprocess.Popen[str]]:
        command = [*COMMAND, *self.run_words(*words), "--out", self.out]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment(at)
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def store(self, folder: Path) -> Store:
        """What stands in the bucket, as files of its own."""
        return Store(self.bucket.download("nights/captions", folder))

    def parts(self, dataset: str = "") -> list[str]:
        return [
            key for key in self.bucket.keys("nights/captions") if key.endswith(".parquet") and dataset in key
        ]

    def ledgers(self) -> list[Path]:
        return sorted((self.home / "state").rglob("*.ledger"))


@pytest.fixture
def house(s3_server: S3Server, serve: Serve, tmp_path: Path, request: pytest.FixtureRequest) -> House:
    bucket = s3_server.bucket(f"night-{abs(hash(request.node.name)) % 10**8}-{time.time_ns() % 10**6}")
    bucket.write("in/manifest.csv", MANIFEST.encode())

    def script(received: Received) -> Play:
        if received.text == "item-7" and received.model != "a-better-one":
            return gateway_error(400, "INVALID_ARGUMENT")
        return completion()

    return House(s3_server, bucket, serve(script), tmp_path, {})


def waited(until: Callable[[], object], process: subprocess.Popen[str], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def test_a_night_in_a_bucket_from_manifest_to_morning(house: House, tmp_path: Path):
    first = house.run("--run-id", "monday", "--json")
    assert first.code == 5, first.stderr  # one row is refused
    assert first.json["out"] == house.out
    store = house.store(tmp_path / "monday")
    assert store.rows() == list(range(1, ROWS + 1))
    assert len(store.ids("ok")) == ROWS - 1
    names = house.bucket.keys("nights/captions/runs")
    assert names == ["nights/captions/runs/monday/run.json"]  # and the lock was given back
    assert house.ledgers() == []  # the parts are up, so it has gone

    asked = len(house.endpoint.received)
    second = house.run("--run-id", "tuesday", "--json")
    assert len(house.endpoint.received) == asked + 1  # what was answered is not asked again
    assert second.json["skipped"] == ROWS - 1

    report = house.command("report", "--json").json
    assert report["outcomes"]["ok"] == ROWS - 1
    assert "item-7" in house.command("show", "item-7").stdout
    exported = house.command("export", tmp_path / "answers.csv")
    assert exported.code == 0, exported.stderr
    answers = pl.read_csv(tmp_path / "answers.csv")
    assert (answers.height, answers.filter(status="ok").height) == (ROWS, ROWS - 1)

    again = house.command("reprocess", "--model", "a-better-one", "--run-id", "mended", "--no-progress")
    assert again.code == 0, again.stderr
    answers_now = house.command("export", tmp_path / "now.csv")
    assert "30 of them answered ok" in answers_now.stderr


def test_no_secret_of_the_bucket_stands_in_the_store_or_is_printed(house: House, tmp_path: Path):
    done = house.run("--run-id", "r")
    folder = house.bucket.download("nights", tmp_path / "all")
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert SECRET.encode() not in everything
    assert SECRET not in done.stdout + done.stderr
    plan = json.loads(house.bucket.read("nights/captions/runs/r/run.json"))["plan"]
    assert plan["manifest"] == f"s3://{house.bucket.name}/in/manifest.csv"


def test_a_killed_night_goes_on_where_it_was(house: House, tmp_path: Path):
    endpoint = house.endpoint
    endpoint.script = lambda received: completion().after(0.1)
    with house.running("--run-id", "night", "--concurrency", "2") as process:
        waited(lambda: len(endpoint.received) >= 12, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert house.parts() == []
    assert len(house.ledgers()) == 1
    asked = len(endpoint.received)
    resumed = house.command("resume", "night", "--no-progress")
    assert resumed.code == 0, resumed.stderr
    store = house.store(tmp_path / "store")
    assert store.rows() == list(range(1, ROWS + 1))
    in_flight = store.attempts.filter(state="possibly_billed").height
    assert 1 <= in_flight <= 3
    assert len(endpoint.received) - asked <= ROWS - asked + in_flight


def test_a_run_killed_while_it_uploads_leaves_no_half_part(house: House, tmp_path: Path):
    stalled: list[str] = []

    def on_head(received: Received) -> Play | None:
        if received.method == "PUT" and "/results/" in received.target:
            stalled.append(received.target)
            return house.s3.stall
        return None

    with (
        house.s3.behind(on_head=on_head) as (slow, _),
        house.running("--run-id", "night", at=slow) as process,
    ):
        waited(lambda: stalled, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # for the server to see that the rest does not come
    assert house.parts("/results/") == []
    for key in house.parts():
        assert pl.read_parquet(house.bucket.read(key)).height >= ROWS  # the others are whole
    asked = len(house.endpoint.received)
    assert house.command("resume", "night", "--no-progress").code == 5
    assert len(house.endpoint.received) == asked
    assert house.store(tmp_path / "store").rows() == list(range(1, ROWS + 1))


def test_uploads_that_fail_for_a_while_are_tried_again(house: House, tmp_path: Path):
    refused: list[str] = []

    def script(received: Received) -> Play | None:
        if received.method == "PUT" and received.target.endswith(".parquet") and len(refused) < 4:
            refused.append(received.target)
            return Answer(503, b"<Error><Code>SlowDown</Code></Error>")
        return None

    with house.s3.behind(script) as (failing, _):
        done = house.run("--run-id", "night", at=failing)
    assert done.code == 5, done.stderr
    assert len(refused) == 4
    assert house.store(tmp_path / "store").rows() == list(range(1, ROWS + 1))


@pytest.mark.slow
def test_a_bucket_that_fails_for_ever_halts_the_run_and_loses_nothing(house: House, tmp_path: Path):
    def script(received: Received) -> Play | None:
        is_under_way = bool(house.endpoint.received)
        return Answer(500, b"<Error><Code>InternalError</Code></Error>") if is_under_way else None

    with house.s3.behind(script) as (failing, _):
        halted = house.run("--run-id", "night", at=failing)
    assert halted.code == 3, halted.stderr
    assert "InternalError" in halted.stdout
    assert house.parts() == []
    asked = len(house.endpoint.received)
    assert asked == ROWS
    resumed = house.command("resume", "night", "--no-progress")
    assert resumed.code == 5, resumed.stderr
    assert len(house.endpoint.received) == asked  # it was all in the ledger
    assert house.store(tmp_path / "store").rows() == list(range(1, ROWS + 1))


def test_a_slow_upload_keeps_nobody_waiting(house: House):
    """The first part, of 5,000 rows, takes two seconds to upload; questions go on meanwhile."""
    rows = "".join(f"item-{n},p{n}\n" for n in range(1, 7001))
    house.bucket.write("in/manifest.csv", f"id,prompt\n{rows}".encode())
    uploads: list[tuple[int, int]] = []

    async def slowly(received: Received, connection: Connection) -> None:
        before = len(house.endpoint.received)
        await asyncio.sleep(2)
        uploads.append((before, len(house.endpoint.received)))
        await house.s3.pass_on(received, connection)

    def script(received: Received) -> Play | None:
        return slowly if received.method == "PUT" and "attempts" in received.target else None

    house.endpoint.script = lambda received: completion("x").after(0.05)
    with house.s3.behind(script) as (slow, _):
        done = house.run("--concurrency", "40", at=slow)
    assert done.code == 0, done.stderr
    before, after = uploads[0]
    assert after - before > 200


def test_wrong_credentials_are_a_sentence_before_anything_is_sent(serve: Serve, tmp_path: Path):
    endpoint = serve(lambda received: completion())
    manifest = write_manifest(tmp_path / "manifest.csv", ["a"])
    # After one action by nobody in particular (the bucket is made), it asks who everybody is.
    with a_server(INITIAL_NO_AUTH_ACTION_COUNT="1") as strict:
        strict.bucket("night")
        for words in (["run", manifest, "--base-url", endpoint.base_url], ["report"]):
            env = clean_environment(**strict.environment(tmp_path))
            said = run_command(*words, "--out", "s3://night/store", env=env)
            assert said.code == 2
            assert "s3://night/store: access is refused (403" in said.stderr
            assert SECRET not in said.stderr
    assert endpoint.received == []


def test_without_the_bucket_there_is_a_sentence(house: House):
    for words in (["report"], ["show", "item-1"], house.run_words()):
        out = ["--out", "s3://no-such-bucket-here/nights"]
        said = run_command(*words, *out, env=house.environment())
        assert said.code == 2
        assert "no-such-bucket-here" in said.stderr
        assert "there is no such bucket" in said.stderr
        assert "Traceback" not in said.stderr
    assert house.endpoint.received == []


def test_two_machines_do_not_run_one_job_at_a_time(house: House, tmp_path: Path):
    house.endpoint.script = lambda received: completion().after(0.2)
    elsewhere = {"XDG_STATE_HOME": str(tmp_path / "elsewhere")}
    with house.running("--run-id", "first", "--concurrency", "2") as process:
        waited(lambda: len(house.endpoint.received) >= 2, process)
        second = house.run(**elsewhere)
        assert second.code == 2
        assert "is running already (run first on " in second.stderr
        assert house.run().code == 2  # nor twice on one
        process.wait()
    assert house.run(**elsewhere).code == 0


def test_of_a_lost_machine_the_parts_remain(house: House, tmp_path: Path):
    """Its ledger went with it before anything was up: a new run says so, and asks again."""
    house.endpoint.script = lambda received: completion().after(0.05)
    with house.running("--run-id", "lost", "--concurrency", "4") as process:
        waited(lambda: len(house.endpoint.received) >= 8, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    lock = next(key for key in house.bucket.keys("nights") if "/.lock-" in key)
    obstore.delete(house.bucket.store, lock)  # five minutes later
    elsewhere = {"XDG_STATE_HOME": str(tmp_path / "elsewhere")}
    new = house.run("--run-id", "new", **elsewhere)
    assert new.code == 0, new.stderr
    assert "its ledger is not on this machine" in new.stderr
    resumed = house.command("resume", "lost", "--no-progress", **elsewhere)
    assert resumed.code == 0, resumed.stderr
    assert "may be paid twice" in resumed.stderr


def test_a_manifest_in_a_bucket_may_be_several_files(house: House):
    for number in (1, 2):
        house.bucket.write(f"many/part-{number}.csv", f"id,prompt\na{number},x{number}\n".encode())
    house.bucket.write("many/deeper/part-3.csv", b"id,prompt\na3,x3\n")
    words = house.run_words("--limit", "9")
    words[1] = f"s3://{house.bucket.name}/many/part-*.csv"
    assert house.command(*words).code == 0
    assert sorted(house.endpoint.texts()) == ["x1", "x2"]


@pytest.mark.parametrize("key", ["in/nowhere.csv", "nowhere/*.csv"])
def test_a_manifest_that_is_not_there_is_a_sentence(house: House, key: str):
    words = house.run_words()
    words[1] = f"s3://{house.bucket.name}/{key}"
    said = house.command(*words)
    assert said.code == 2
    assert said.stderr.startswith(f"error: s3://{house.bucket.name}/{key}: ")


def test_without_the_extra_a_bucket_says_what_to_type(house: House, tmp_path: Path):
    (tmp_path / "obstore.py").write_text("raise ModuleNotFoundError('no obstore', name='obstore')")
    said = house.run(PYTHONPATH=os.pathsep.join([str(tmp_path), os.getcwd()]))
    assert said.code == 2
    assert "pip install 'mediabatch[cloud]'" in said.stderr


def test_status_and_prune_of_a_store_in_a_bucket(house: House):
    house.run("--run-id", "monday")
    house.run("--run-id", "tuesday", "--again")
    listed = house.command("status", "--json").json["runs"]
    assert [(one["run_id"], one["state"], one["ok"]) for one in listed] == [
        ("monday", "done", ROWS - 1),
        ("tuesday", "done", ROWS - 1),
    ]
    before = house.command("report", "--json").json
    told = house.command("prune", "--keep", "0d", "--json").json
    # Of the one that failed both times, the newest failure is the latest outcome.
    assert (told["runs"], told["results"], told["attempts"]) == (2, ROWS, 2 * ROWS)
    assert not house.parts("attempts")
    after = house.command("report", "--json").json
    assert after["outcomes"] == before["outcomes"]
    assert after["cost_of_all_tries"] == before["cost_of_all_tries"]
