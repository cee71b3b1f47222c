"""What the command tells a scheduler, and where its settings come from."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

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
from tests.serving.answers import Answer, completion, gateway_error
from tests.serving.server import Play, Received, Server


@pytest.fixture
def server(serve: Serve) -> Server:
    """Answers prompts by what they begin with: `bad`, `broke`, or anything else, which is well."""

    def script(received: Received) -> Play:
        match (received.text or "").partition(" ")[0]:
            case "bad":
                return gateway_error(400, "INVALID_ARGUMENT")
            case "broke":
                return gateway_error(402, None)
        return completion()

    return serve(script)


@dataclass(frozen=True)
class Bench:
    """A folder, which is the working directory, and a server to run the command against."""

    folder: Path
    server: Server

    def run(self, *options: str | Path, rows: list[str], **env: str | None) -> Finished:
        """In this process."""
        return invoke("run", *self._arguments(rows), *options, **env)

    def run_command(self, *options: str | Path, rows: list[str]) -> Finished:
        """In a process of its own."""
        return run_command("run", *self._arguments(rows), *options, cwd=self.folder)

    def _arguments(self, rows: list[str]) -> tuple[str | Path, ...]:
        return (write_manifest(self.folder / "manifest.csv", rows), "--base-url", self.server.base_url)

    @property
    def store(self) -> Store:
        return Store(self.folder / "out")


@pytest.fixture
def bench(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, server)


def test_a_run_without_failures_exits_with_0_and_tells_what_it_wrote(bench: Bench):
    finished = bench.run_command(rows=["a", "b"])
    assert (finished.code, finished.stderr) == (0, "")
    assert "USD 0.0008" in finished.stdout
    assert "mediabatch export" in finished.stdout
    assert bench.store.ids("ok") == ["a", "b"]


def test_stdout_is_one_json_object_if_asked(bench: Bench):
    finished = bench.run_command("--json", rows=["a", "bad"])
    counts = [finished.json[name] for name in ("rows", "ok", "failed", "exit_code", "state")]
    assert counts == [2, 1, 1, 5, "done"]
    assert finished.json["errors"] == {"BadInput": 1}


def test_a_failed_row_exits_with_5(bench: Bench):
    finished = bench.run_command(rows=["a", "bad", "c"])
    assert (finished.code, bench.store.ids("failed")) == (5, ["bad"])
    assert "BadInput" in finished.stdout


@pytest.mark.parametrize(("share", "code"), [("0.24", 5), ("0.25", 0)])
def test_a_share_of_failed_rows_may_be_allowed(bench: Bench, share: str, code: int):
    assert bench.run("--max-failed", share, rows=["a", "b", "c", "bad"]).code == code


def test_a_halt_exits_with_3_and_says_why(bench: Bench):
    finished = bench.run_command("--max-failed", "1", "--concurrency", "1", rows=["bad", "broke", "late"])
    assert finished.code == 3
    assert "OutOfCredit" in finished.stdout
    assert bench.store.ids("failed") == ["bad"]
    assert bench.store.ids("not_attempted") == ["broke", "late"]


def test_a_canary_asks_only_the_first_rows(bench: Bench):
    finished = bench.run("--limit", "2", rows=["a", "b", "bad"])
    assert (finished.code, bench.store.ids("ok"), bench.store.ids("not_attempted")) == (
        0,
        ["a", "b"],
        ["bad"],
    )


@pytest.mark.parametrize("manifest", ["id,prompt\n", ""], ids=["no rows", "nothing at all"])
def test_a_manifest_without_rows_is_a_finished_run_only_if_it_has_columns(bench: Bench, manifest: str):
    Path("m.csv").write_text(manifest)
    finished = invoke("run", "m.csv", "--base-url", bench.server.base_url)
    assert finished.code == (0 if manifest else 2)
    assert bench.server.received == []


# --- a person's mistakes: 2, a sentence, and nothing was sent ---


@pytest.mark.parametrize(
    "options",
    [
        ["--no-such-option"],
        ["--concurrency", "0"],
        ["--concurrency", "many"],
        ["--dialect", "latin"],
        ["--max-attempts", "0"],
        ["--max-failed", "2"],
        ["--max-tokens", "none"],
        ["--timeout", "0"],
        ["--limit", "-1"],
        ["--header", "no sign"],
        ["--header", "X-Bad=line\nbreak"],
        ["--job", "../escape"],
        ["--run-id", "a/b"],
        ["--timezone", "Mars/Base"],
        ["--model", " "],
        ["--prompt", ""],
        ["--ca-file", "missing.pem"],
        ["--api-key-file", "missing.key"],
        ["--config", "missing.toml"],
        ["--out", "manifest.csv"],
        ["--embedded"],
        ["--base-url", "ftp://example.com/v1"],
        ["--base-url", "https://user:secret@example.com/v1"],
        ["--base-url", "https://example.com/v1/chat/completions"],
    ],
    ids=" ".join,
)
def test_a_bad_option_exits_with_2_and_sends_nothing(bench: Bench, options: list[str]):
    finished = bench.run(*options, rows=["a"])
    assert (finished.code, finished.stdout) == (2, "")
    assert finished.stderr.strip()
    assert "Traceback" not in finished.stderr
    assert options[0] in finished.stderr
    assert bench.server.received == []
    assert not list(bench.folder.rglob("run.json"))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.csv", None, "missing.csv"),
        ("empty.csv", b"", "empty"),
        ("useless.csv", b"colour,size\nred,3\n", "column"),
        ("picture.parquet", b"\xff\xd8\xff\xe0", "picture.parquet"),
        ("odd.docx", b"id,prompt\na,b\n", "odd.docx"),
        ("broken.csv", b'id,prompt\na,b\nc,"never closed\n', "line 3"),
        ("latin.csv", b"id,prompt\na,caf\xe9\n", "line 2"),
        ("broken.jsonl", b'{"prompt": "a"}\n{"prompt": \n', "line 2"),
    ],
)
def test_a_bad_manifest_exits_with_2_and_says_where(
    bench: Bench, name: str, content: bytes | None, told: str
):
    if content is not None:
        Path(name).write_bytes(content)
    finished = invoke("run", name, "--base-url", bench.server.base_url)
    assert (finished.code, finished.stdout) == (2, "")
    assert told in finished.stderr
    assert bench.server.received == []
    assert not list(bench.folder.rglob("run.json"))


def test_a_mistake_is_told_without_a_traceback(tmp_path: Path):
    finished = run_command("run", "missing.csv", "--base-url", "http://127.0.0.1:9/v1", cwd=tmp_path)
    assert (finished.code, finished.stdout) == (2, "")
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1


def test_without_an_endpoint_nothing_is_rehearsed(bench: Bench):
    """A night that lost its settings must not be answered by the embedded endpoint."""
    write_manifest(bench.folder / "manifest.csv", ["a"])
    finished = invoke("run", "manifest.csv")
    assert finished.code == 2
    assert "--base-url" in finished.stderr
    assert "--embedded" in finished.stderr
    assert not (bench.folder / "out").exists()


def test_a_finished_runs_id_with_the_same_plan_exits_with_0_and_with_another_plan_with_2(bench: Bench):
    assert bench.run("--run-id", "monday", rows=["a"]).code == 0
    finished = bench.run("--run-id", "monday", rows=["a"])
    assert (finished.code, len(bench.server.received)) == (0, 1)
    assert finished.stderr == "run monday is finished: there is nothing to go on with\n"
    for options, rows in ((["--model", "another"], ["a"]), ([], ["a", "b"])):
        refused = bench.run("--run-id", "monday", *options, rows=rows)
        assert (refused.code, len(bench.server.received)) == (2, 1)
        assert "run monday cannot go on" in refused.stderr


# --- 130 ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_what_is_in_flight_and_exits_with_130(
    serve: Serve, tmp_path: Path, number: signal.Signals
):
    server = serve(lambda received: completion().after(0.5))
    write_manifest(tmp_path / "manifest.csv", [f"item {n}" for n in range(1, 7)])
    options = ["manifest.csv", "--base-url", server.base_url, "--concurrency", "2"]
    with subprocess.Popen(
        [*COMMAND, "run", *options], cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True
    ) as running:
        server.wait_for(2)
        running.send_signal(number)
        _, told = running.communicate(timeout=20)

    store = Store(tmp_path / "out")
    assert running.returncode == 130, told
    assert "waiting up to 30 s for what is in flight" in told
    assert store.ids("ok") == ["item 1", "item 2"]
    assert store.ids("not_attempted") == [f"item {n}" for n in range(3, 7)]
    assert store.rows() == [1, 2, 3, 4, 5, 6]
    assert store.run["state"] == "interrupted"
    assert len(server.received) == 2


def test_a_second_interrupt_does_not_wait(serve: Serve, tmp_path: Path):
    server = serve(lambda received: completion().after(0 if received.text == "quick" else 60))
    write_manifest(tmp_path / "manifest.csv", ["quick", "slow", "late"])
    options = ["manifest.csv", "--base-url", server.base_url, "--concurrency", "1"]
    with subprocess.Popen(
        [*COMMAND, "run", *options], cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True
    ) as running:
        server.wait_for(2)
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        assert "once more" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=20)

    store = Store(tmp_path / "out")
    assert running.returncode == 130, told
    assert store.ids("ok") == ["quick"]
    assert store.ids("not_attempted") == ["slow", "late"]
    assert [attempt["state"] for attempt in store.attempts_of("slow")] == ["possibly_billed"]
    assert store.run["state"] == "interrupted"


@pytest.mark.parametrize(
    "answer",
    [
        gateway_error(429, None).with_headers(retry_after="600"),
        gateway_error(503, None).with_headers(retry_after="600"),
    ],
    ids=["out a hold", "for a retry"],
)
def test_an_interrupt_ends_waiting(serve: Serve, tmp_path: Path, answer: Answer):
    server = serve(lambda received: answer)
    write_manifest(tmp_path / "manifest.csv", ["a", "b"])
    options = ["manifest.csv", "--base-url", server.base_url, "--concurrency", "1"]
    with subprocess.Popen(
        [*COMMAND, "run", *options], cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True
    ) as running:
        server.wait_for(1 if answer.status == 429 else 2)
        time.sleep(0.1)  # until the answer has been read
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=20)

    store = Store(tmp_path / "out")
    assert running.returncode == 130, told
    assert store.ids("not_attempted") == ["a", "b"]
    assert store.attempts_of("a")[0]["http_status"] == answer.status


# --- where settings come from ---


def test_command_line_before_environment_before_config_before_default(bench: Bench):
    config = bench.folder / "night.toml"

    def model_asked(*options: str | Path, **env: str) -> str | None:
        assert bench.run(*options, rows=["a"], **env).code == 0
        return bench.server.received[-1].model

    config.write_text('model = "from-config"\nmax-tokens = 77\n')
    assert model_asked() == "gemini-3.1-flash-lite-preview"
    assert model_asked("--config", config) == "from-config"
    assert bench.server.received[-1].json["max_tokens"] == 77
    assert model_asked("--config", config, MEDIABATCH_MODEL="from-env") == "from-env"
    assert model_asked("--config", config, "--model", "typed", MEDIABATCH_MODEL="from-env") == "typed"


def test_a_row_comes_before_all_settings(bench: Bench):
    write_manifest(bench.folder / "rows.csv", [{"prompt": "a", "model": "of-the-row", "max_tokens": "12"}])
    options = ["--base-url", bench.server.base_url, "--model", "typed"]
    assert invoke("run", "rows.csv", *options).code == 0
    assert (bench.server.received[0].model, bench.server.received[0].json["max_tokens"]) == ("of-the-row", 12)


def test_every_setting_of_a_night_may_come_from_the_environment(bench: Bench):
    write_manifest(bench.folder / "manifest.csv", ["a"])
    settings = {"BASE_URL": bench.server.base_url, "OUT": "elsewhere", "JOB": "captions", "MAX_TOKENS": "7"}
    finished = invoke(
        "run", "manifest.csv", **{f"MEDIABATCH_{name}": value for name, value in settings.items()}
    )
    assert finished.code == 0
    assert Store(bench.folder / "elsewhere").results["job"].to_list() == ["captions"]
    assert bench.server.received[0].json["max_tokens"] == 7


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("modle = 'x'", "modle"),
        ("model = ", "TOML"),
        ("concurrency = 0", "--concurrency"),
        ("api-key = 'sk-1'", "api-key"),
    ],
)
def test_a_bad_config_exits_with_2(bench: Bench, content: str, told: str):
    (bench.folder / "night.toml").write_text(content)
    finished = bench.run("--config", "night.toml", rows=["a"])
    assert finished.code == 2
    assert told in finished.stderr
    assert bench.server.received == []


def test_typing_embedded_overrides_a_base_url_of_the_environment(bench: Bench):
    write_manifest(bench.folder / "manifest.csv", ["a"])
    finished = invoke("run", "manifest.csv", "--embedded", MEDIABATCH_BASE_URL=bench.server.base_url)
    assert finished.code == 0, finished.stderr
    assert bench.server.received == []
    assert set(bench.store.results["endpoint"]) == {"embedded"}


def test_a_key_comes_from_a_file_too(bench: Bench):
    (bench.folder / "key").write_text("sk-from-file\n")
    assert bench.run("--api-key-file", "key", rows=["a"]).code == 0
    assert bench.server.received[0].headers["authorization"] == "Bearer sk-from-file"


def test_without_a_key_no_authorization_is_sent(bench: Bench):
    assert bench.run(rows=["a"], MEDIABATCH_API_KEY=None).code == 0
    assert "authorization" not in bench.server.received[0].headers
