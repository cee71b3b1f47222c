"""Neither the key nor a secret header stands in anything that is written or printed, debug level included."""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import (
    Finished,
    Store,
    clean_environment,
    invoke,
    run_command,
    write_manifest,
)
from tests.serving.answers import (
    RESET,
    Answer,
    completion,
    gateway_error,
    json_answer,
    page,
    raw,
    redirect,
)
from tests.serving.server import Play, Received, Server

# Shapeless: no pattern tells that these are secrets.
KEY = "qXv7TnnB2w0LpE4s"
HEADER = "mauve.armadillo.9175"
PROXY_PASSWORD = "tangerine-6038"
SIGNATURE = "c0ffee5ec2e7"
SECRETS = [KEY, HEADER, PROXY_PASSWORD, SIGNATURE]

DEBUG = [
    sys.executable,
    "-c",
    "import logging; logging.basicConfig(level=logging.DEBUG); logging.debug('all of it');"
    "from jobs.__main__ import main; main()",
]
ENVIRONMENT = clean_environment(
    MEDIABATCH_API_KEY=KEY,
    PYTHONASYNCIODEBUG="1",
    RUST_LOG="trace",
    RUST_BACKTRACE="full",
    RUST_LIB_BACKTRACE="1",
)
TELLING = {
    "id": "a",
    "prompt": "ok",
    "image_url": f"https://cdn.example/a.jpg?X-Amz-Signature={SIGNATURE}&x-amz-date=1",
}


def echo(received: Received) -> str:
    """What a careless endpoint says about the request."""
    return (
        f"令牌 {received.headers['authorization']} is unknown, headers: {json.dumps(dict(received.headers))}"
    )


def careless(received: Received) -> Play:
    """Answers by the first word of the prompt, and tells everything it knows."""
    said = echo(received)
    match (received.text or "").split()[0]:
        case "status":
            return gateway_error(int((received.text or "").split()[1]), "", said)
        case "page":
            return page(502, said)
        case "error":
            return json_answer(200, {"error": {"message": said, "code": KEY, "type": KEY}})
        case "code":
            return gateway_error(400, f"bad_key_{KEY}", said, KEY)
        case "redirect":
            return redirect(f"https://elsewhere.example/?key={KEY}&h={HEADER}")
        case "html":
            return Answer(200, said.encode())
        case "id":
            return gateway_error(400, "", said).with_headers(
                x_oneapi_request_id=f"id-{KEY}", x_request_id=KEY
            )
        case "reset":
            return RESET
        case "garbage":
            return raw(said.encode())
    return completion()


STATUSES = ["400", "401", "402", "403", "404", "413", "418", "429", "500", "503"]
ODD = [
    *(f"status {status}" for status in STATUSES),
    "page",
    "error",
    "code",
    "redirect",
    "html",
    "id",
    "reset",
    "garbage",
]


def readable(folder: Path) -> Iterator[tuple[str, str]]:
    """Everything in a folder as text: names, raw bytes, and Parquet unpacked."""
    for path in sorted(folder.rglob("*")):
        yield str(path), str(path)
        if path.is_file():
            yield str(path), path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                yield f"{path}, unpacked", pl.read_parquet(path, hive_partitioning=False).write_json()


def assert_no_secret(finished: Finished, folder: Path) -> None:
    told = [("stdout", finished.stdout), ("stderr", finished.stderr), *readable(folder)]
    leaks = {
        (secret, where, text[max(0, text.index(secret) - 60) : text.index(secret) + 40])
        for where, text in told
        for secret in SECRETS
        if secret in text
    }
    assert leaks == set()


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(careless)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store goes; the manifest, which may hold signed URLs, stands elsewhere."""
    return tmp_path / "out"


def night(folder: Path, base_url: str, rows: list[object], *options: str, **env: str) -> Finished:
    manifest = write_manifest(folder.parent / "manifest.csv", rows)
    arguments = ["--base-url", base_url, "--header", f"X-Team={HEADER}", "--out", folder, "--max-attempts", 1]
    return run_command(
        *("run", manifest, *arguments, "--concurrency", 1, *options),
        env={**ENVIRONMENT, **env},
        program=DEBUG,
    )


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["tables", "json"])
def test_not_after_a_night_of_all_kinds_of_answers(server: Server, folder: Path, options: list[str]):
    healthy = [f"ok {n}" for n in range(len(ODD))]
    rows = [TELLING, *(row for pair in zip(ODD, healthy, strict=True) for row in pair)]

    finished = night(folder, server.base_url, rows, *options)

    assert finished.code == 5, finished.stderr
    assert KEY in server.received[0].headers["authorization"]
    assert server.received[0].headers["x-team"] == HEADER
    assert SIGNATURE in server.received[0].body.decode()
    assert len(server.received) == len(rows)
    assert "DEBUG:root:all of it" in finished.stderr
    assert_no_secret(finished, folder)


@pytest.mark.parametrize("odd", ["status 401", "redirect", "error"])
def test_not_when_the_endpoint_answers_so_from_the_start(server: Server, folder: Path, odd: str):
    finished = night(folder, server.base_url, [odd])

    assert finished.code in (3, 5), finished.stderr
    assert_no_secret(finished, folder)


def test_not_when_nobody_answers_not_even_the_proxy(folder: Path):
    proxy = f"http://night:{PROXY_PASSWORD}@127.0.0.1:9"

    finished = night(folder, "http://127.0.0.1:9/v1", ["ok"], HTTP_PROXY=proxy)

    assert finished.code == 3, finished.stderr
    assert_no_secret(finished, folder)


def test_not_when_the_store_stops_taking_writes(server: Server, folder: Path):
    folder.mkdir()
    (folder / "results").write_text("a file where a folder should be")

    finished = night(folder, server.base_url, [TELLING, "status 400"])

    assert finished.code == 3, finished.stderr
    assert_no_secret(finished, folder)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to make printing fail")
def test_not_in_the_traceback_of_a_crash(server: Server, folder: Path):
    manifest = write_manifest(folder.parent / "manifest.csv", [TELLING])
    options = ["--base-url", server.base_url, "--header", f"X-Team={HEADER}", "--out", str(folder), "--json"]

    with open("/dev/full", "w") as full:  # the summary cannot be printed: a crash at the very end
        done = subprocess.run(
            [*DEBUG, "run", str(manifest), *options],
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )

    assert done.returncode not in (0, 2, 3, 5)
    assert "No space left on device" in done.stderr
    assert_no_secret(Finished(done.returncode, "", done.stderr), folder)


@pytest.mark.parametrize(
    ("options", "env"),
    [
        (["--header", f"{HEADER}"], {}),
        (["--header", f"X-Team={HEADER}\x01"], {}),
        (["--header", f"X Team={HEADER}"], {}),
        (["--base-url", f"https://night:{KEY}@example.com/v1"], {}),
        (["--base-url", f"https://example.com/v1?key={KEY}"], {}),
        (["--base-url", f"gopher://{KEY}@example.com"], {}),
        ([], {"MEDIABATCH_API_KEY": f"{KEY} with spaces"}),
        ([], {"MEDIABATCH_API_KEY": f"{KEY}\u00e9"}),
        ([], {"HTTP_PROXY": f"http://night:{PROXY_PASSWORD}@:bad", "HTTPS_PROXY": f"::{PROXY_PASSWORD}"}),
    ],
)
def test_not_in_the_sentence_about_a_mistake(folder: Path, options: list[str], env: dict[str, str]):
    manifest = write_manifest(folder.parent / "manifest.csv", ["ok"])

    finished = invoke(
        *("run", manifest, "--base-url", "http://127.0.0.1:9/v1", "--out", folder, "--max-attempts", 1),
        *options,
        **{"MEDIABATCH_API_KEY": KEY, **env},
    )

    assert finished.code in (2, 3), finished.stderr
    assert_no_secret(finished, folder)


def test_not_in_what_show_and_export_tell(server: Server, folder: Path):
    assert night(folder, server.base_url, [TELLING, "status 401", "code"]).code == 5

    for command in (
        ["show", "a"],
        ["show", "a", "--json"],
        ["show", "status 401"],
        ["show", "code", "--json"],
        ["export", folder / "answers.ndjson"],
    ):
        finished = run_command(*command, "--out", folder, env=ENVIRONMENT, program=DEBUG)
        assert finished.code == 0, finished.stderr
        if command[0] == "show":
            assert "***" in finished.stdout or "MEDIABATCH_API_KEY" in finished.stdout
            assert_no_secret(finished, folder)


def test_a_real_answer_keeps_its_words_but_for_the_key(serve: Serve, folder: Path):
    """A header such as `X-Title` may well stand in a text; a key has no business there."""
    server = serve(lambda received: completion(f"{HEADER} is not {KEY}"))

    assert night(folder, server.base_url, ["ok"]).code == 0

    assert Store(folder).result("ok")["text"] == f"{HEADER} is not ***"


@pytest.mark.parametrize(
    "name", ["api-key", "X-Goog-Api-Key", "Proxy-Authorization", "Cookie", "X-Auth-Token"]
)
def test_a_header_that_is_called_a_key_is_none_of_an_answers_words(serve: Serve, folder: Path, name: str):
    server = serve(lambda received: completion(f"I was sent {received.headers[name.lower()]}."))

    assert night(folder, server.base_url, ["ok"], "--header", f"{name}=qU7.pL9-wE3_zX5").code == 0

    assert Store(folder).result("ok")["text"] == "I was sent ***."


def test_a_short_key_is_a_word_like_any_other(serve: Serve, folder: Path):
    """A rehearsal's key may be `any`."""
    server = serve(lambda received: completion("any picture, many pictures"))

    assert night(folder, server.base_url, ["ok"], MEDIABATCH_API_KEY="any").code == 0

    assert Store(folder).result("ok")["text"] == "any picture, many pictures"


@pytest.mark.parametrize("written", [json.dumps, html.escape, quote])
def test_not_however_the_endpoint_writes_it(serve: Serve, folder: Path, written: Callable[[str], str]):
    key = 'q"X/v7<T&n+n=B2'
    server = serve(lambda received: Answer(400, f"key {written(key)}".encode()))

    finished = night(folder, server.base_url, ["ok"], MEDIABATCH_API_KEY=key)

    message = Store(folder).result("ok")["error_message"]
    assert "***" in message
    assert "v7" not in message
    assert "v7" not in finished.stdout


def test_the_key_is_not_visible_in_the_list_of_processes(serve: Serve, folder: Path):
    """It is never an argument; the environment of a process is its owner's."""
    with_arguments = []

    def script(received: Received) -> Play:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                with_arguments.append(process.read_bytes())
            except OSError:
                continue
        return completion()

    if not os.path.isdir("/proc/self"):
        pytest.skip("needs /proc")
    assert night(folder, serve(script).base_url, ["ok"]).code == 0
    assert any(b"jobs.__main__" in arguments for arguments in with_arguments)
    assert not any(KEY.encode() in arguments for arguments in with_arguments)
