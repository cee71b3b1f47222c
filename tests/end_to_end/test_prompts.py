"""Prompts, system prompts and parameters: what a person says → what an endpoint gets, over real HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import Finished, Store, invoke, write_manifest
from tests.serving.answers import completion, gateway_error
from tests.serving.server import Play, Received, Server

IMAGE = "https://h.example/{}.jpg"


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(lambda received: completion())


def row(name: str, **cells: str) -> dict[str, str]:
    return {"id": name, "image_url": IMAGE.format(name), **cells}


def run(server: Server, folder: Path, rows: list[Any], *words: str | Path, code: int = 0) -> Finished:
    manifest = write_manifest(folder / "m.csv", rows)
    done = invoke(
        "run", manifest, "--base-url", server.base_url, "--out", folder / "out", "--concurrency", "1", *words
    )
    assert done.code == code, done.stderr
    return done


def bodies(server: Server) -> list[dict[str, Any]]:
    return [received.json for received in server.received]


def test_a_prompt_is_filled_in_from_each_row(server: Server, tmp_path: Path):
    rows = [row("a", title="mug", lang="de"), row("b", title="cup", lang=""), row("c", title="", lang="fr")]
    run(
        server,
        tmp_path,
        rows,
        "--prompt",
        "Is it {{ title or 'anything' }}?{% if lang %} ({{ lang }}){% endif %}",
    )
    assert server.texts() == ["Is it mug? (de)", "Is it cup?", "Is it anything? (fr)"]
    assert '"prompt":"Is it mug? (de)"' in Store(tmp_path / "out").result("a")["request_json"]


def test_a_rows_own_prompt_is_said_as_it_stands(server: Server, tmp_path: Path):
    rows = [row("a", title="mug", prompt="What is {{ title }}?"), row("b", title="cup", prompt="")]
    run(server, tmp_path, rows, "--prompt", "{{ title }}?")
    assert server.texts() == ["What is {{ title }}?", "cup?"]


def test_a_prompt_and_a_system_prompt_come_from_a_file_and_the_row(server: Server, tmp_path: Path):
    (tmp_path / "prompt.txt").write_text("Describe {{ title }}.\n", "utf-8")
    rows = [row("a", title="mug"), row("b", title="cup", system_prompt="Be {{ rude }}.")]
    run(
        server, tmp_path, rows, "--prompt-file", tmp_path / "prompt.txt", "--system", "You know {{ title }}s."
    )
    assert [[message["content"] for message in body["messages"]] for body in bodies(server)] == [
        ["You know mugs.", [{"type": "text", "text": "Describe mug."}, image("a")]],
        ["Be {{ rude }}.", [{"type": "text", "text": "Describe cup."}, image("b")]],
    ]
    assert [body["messages"][0]["role"] for body in bodies(server)] == ["system", "system"]


def image(name: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": IMAGE.format(name)}}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--prompt", "See {{ titel }}"], "names the column 'titel', and"),
        (["--prompt", "a\n{{ title"], "the prompt, line 2: the template is broken"),
        (["--system", "{{ who }}"], "the system prompt, line 1"),
        (["--prompt-file", "no-such.txt"], "--prompt-file no-such.txt: cannot be read"),
        (["--prompt", "a", "--prompt-file", "b"], "exclude each other"),
        (["--system", " "], "--system: is empty"),
        (["--extra", "top_k=lots"], "NAME=JSON"),
        (["--extra", "top_k"], "NAME=JSON"),
        (["--extra", "model=1"], "--extra model: say it with --model"),
        (["--extra", "n=2"], "one answer is asked for"),
        (["--extra", "seed=2"], "say it with --seed"),
        (["--extra", "max_completion_tokens=2"], "say it as max_tokens"),
        (["--schema", "no-such.json"], "--schema no-such.json: cannot be read"),
        (["--temperature", "-1"], "-1"),
    ],
    ids=str,
)
def test_a_slip_is_a_sentence_before_the_night_starts(server: Server, tmp_path: Path, words: Any, told: str):
    done = run(server, tmp_path, [row("a", title="mug")], *words, code=2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not server.received
    assert not (tmp_path / "out" / "results").exists()


def test_a_row_that_cannot_be_filled_in_fails_and_the_night_goes_on(server: Server, tmp_path: Path):
    rows = [row("a", price="3"), row("b", price="dear"), row("c", price="4")]
    run(server, tmp_path, rows, "--prompt", "Is it worth {{ 2 // (price | int) }}?", code=5)
    store = Store(tmp_path / "out")
    failed = store.result("b")
    assert (failed["status"], failed["error_class"], failed["attempts"]) == ("failed", "PromptFailed", 0)
    assert failed["error_message"].startswith("row 2: the template of the prompt cannot be filled in (Zero")
    assert store.ids("ok") == ["a", "c"]


def test_parameters_come_from_options_the_config_file_and_the_row(server: Server, tmp_path: Path):
    config = tmp_path / "night.toml"
    config.write_text('temperature = 0.5\nseed = 1\n[extra]\ntop_k = 40\nsafety = {level = "low"}\n')
    rows = [
        row("a"),
        row("b", request_parameters='{"temperature": 1, "top_k": null, "stop": ["."]}'),
        row("c", request_parameters='{"max_tokens": 7}', max_tokens="5"),
        row("d", request_parameters='{"max_tokens": 7}'),
    ]
    words = (
        "--config",
        config,
        "--seed",
        "7",
        "--extra",
        "top_k=20",
        "--top-p",
        "0.9",
        "--reasoning-effort",
        "low",
    )
    run(server, tmp_path, rows, *words)
    said = [
        {name: value for name, value in body.items() if name not in ("model", "messages", "stream")}
        for body in bodies(server)
    ]
    usual = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "reasoning_effort": "low",
        "safety": {"level": "low"},
    }
    assert said == [
        {**usual, "max_tokens": 2000, "top_k": 20},
        {**usual, "max_tokens": 2000, "top_k": 20, "temperature": 1, "stop": ["."]},
        {**usual, "max_tokens": 5, "top_k": 20},
        {**usual, "max_tokens": 7, "top_k": 20},
    ]


def test_the_prompt_that_is_said_nearer_to_the_person_holds(server: Server, tmp_path: Path):
    config = tmp_path / "night.toml"
    (tmp_path / "p.txt").write_text("From a file.\n")
    config.write_text(f'prompt_file = "{tmp_path / "p.txt"}"\n')
    run(server, tmp_path, [row("a")], "--config", config)
    run(server, tmp_path, [row("a")], "--config", config, "--prompt", "Typed.")
    config.write_text('prompt = "From the config."\n')
    run(server, tmp_path, [row("a")], "--config", config, "--prompt-file", tmp_path / "p.txt", "--again")
    assert server.texts() == ["From a file.", "Typed.", "From a file."]


@pytest.mark.parametrize("extra", ["extra = 3", "[extra]\nn = 2", "[extra]\nat = 2026-01-01"])
def test_a_slip_in_the_table_of_extras_is_told(server: Server, tmp_path: Path, extra: str):
    (tmp_path / "night.toml").write_text(extra)
    done = run(server, tmp_path, [row("a")], "--config", tmp_path / "night.toml", code=2)
    assert "--config" in done.stderr
    assert "extra" in done.stderr


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("hot", "is no JSON object"),
        ("[1]", "holds a list"),
        ('{"model": "b"}', "sets 'model', which is not for rows: say it with --model"),
        ('{"stream": true}', "answers come whole"),
        ('{"max_tokens": "many"}', "not a whole number"),
    ],
)
def test_parameters_that_are_none_make_a_bad_row(server: Server, tmp_path: Path, cell: str, told: str):
    run(server, tmp_path, [row("a", request_parameters=cell), row("b", request_parameters="")], code=5)
    failed = Store(tmp_path / "out").result("a")
    assert failed["error_class"] == "RowError"
    assert told in failed["error_message"]
    assert Store(tmp_path / "out").ids("ok") == ["b"]


def test_a_column_that_is_merely_called_temperature_is_no_parameter(server: Server, tmp_path: Path):
    run(server, tmp_path, [row("a", temperature="39.5", seed="oak", system="Windows", parameters="220 V")])
    assert bodies(server)[0].keys() == {"model", "max_tokens", "messages", "stream"}
    assert len(bodies(server)[0]["messages"]) == 1


def test_a_dry_run_shows_what_would_be_sent_and_sends_and_writes_nothing(server: Server, tmp_path: Path):
    signed = "https://h.example/a.jpg?w=8&X-Amz-Date=d&X-Amz-Expires=900&X-Amz-Signature=secret"
    inline = "data:image/png;base64," + "QUJD" * 500
    (tmp_path / "local.jpg").write_bytes(b"pixels")
    rows = [
        {"id": "a", "image_url": signed, "title": "mug"},
        {"id": "b", "image_url": inline, "title": "cup"},
        {"id": "bad", "image_url": "", "title": "none"},
        {"id": "d", "image_url": "local.jpg", "title": "pot"},
    ]
    words = ("--prompt", "A {{ title }}?", "--system", "Be brief.", "--temperature", "0", "--dry-run")
    shown = run(server, tmp_path, rows, *words)
    assert "Be brief." in shown.stdout
    told = run(server, tmp_path, rows, *words, "--json").json["requests"]
    assert [one["item_id"] for one in told] == ["a", "b", "bad"]
    body = told[0]["body"]
    assert told[0]["url"] == f"{server.base_url}/chat/completions"
    assert body["messages"][1]["content"][0] == {"type": "text", "text": "A mug?"}
    assert body["temperature"] == 0
    assert "holds neither media nor a prompt" in told[2]["error"]
    for secret in ("secret", "QUJD" * 20):
        assert secret not in shown.stdout
    assert not server.received
    assert not (tmp_path / "out").exists()


def test_a_dry_run_finds_what_is_wrong_too(server: Server, tmp_path: Path):
    shown = run(server, tmp_path, [row("a")], "--prompt", "{{ titel }}", "--dry-run", code=2)
    assert "the template names the column 'titel'" in shown.stderr
    assert shown.stdout == ""


def test_an_item_is_asked_again_with_its_prompt_system_prompt_and_parameters(serve: Serve, tmp_path: Path):
    is_up = {"yet": False}

    def script(received: Received) -> Play:
        return completion() if is_up["yet"] else gateway_error(400, "INVALID_ARGUMENT")

    server = serve(script)
    rows = [row("a", title="mug"), row("b", title="cup", prompt="What?")]
    run(server, tmp_path, rows, "--prompt", "A {{ title }}?", "--system", "S.", "--seed", "1", code=5)
    is_up["yet"] = True
    first, out = bodies(server)[:2], ("--out", tmp_path / "out")
    assert invoke("reprocess", *out).code == 0
    assert bodies(server)[2:] == first


def test_an_item_is_asked_again_with_what_is_said_anew(serve: Serve, tmp_path: Path):
    is_up = {"yet": False}

    def script(received: Received) -> Play:
        return completion() if is_up["yet"] else gateway_error(400, "INVALID_ARGUMENT")

    server = serve(script)
    rows = [row("a", title="mug"), row("b", title="cup", prompt="What?")]
    run(server, tmp_path, rows, "--seed", "1", code=5)
    is_up["yet"] = True
    words = ("--prompt", "No {{ title }}?", "--system", "S.", "--temperature", "0.1", "--extra", "top_k=1")
    assert invoke("reprocess", "--out", tmp_path / "out", *words).code == 0
    again = bodies(server)[2:]
    assert [body["messages"][1]["content"][0]["text"] for body in again] == ["No mug?", "No cup?"]
    for body in again:
        assert body["messages"][0]["content"] == "S."
        assert (body["seed"], body["temperature"], body["top_k"]) == (1, 0.1, 1)


def test_a_template_said_anew_needs_its_columns(serve: Serve, tmp_path: Path):
    server = serve(lambda received: gateway_error(400, "INVALID_ARGUMENT"))
    run(server, tmp_path, [row("a", title="mug")], code=5)
    done = invoke("reprocess", "--out", tmp_path / "out", "--prompt", "{{ titel }}")
    assert done.code == 2
    assert "column 'titel'" in done.stderr


def test_what_the_system_prompt_says_is_part_of_what_is_asked(server: Server, tmp_path: Path):
    for words in ([], ["--system", "S."], ["--system", "S."], ["--temperature", "0"], ["--system", "T."]):
        run(server, tmp_path, [row("a")], *words)
    assert len(server.received) == 4


@pytest.mark.parametrize("words", [["--system", "S."], ["--seed", "3"], ["--prompt", "else"]])
def test_a_run_does_not_go_on_with_another_question(server: Server, tmp_path: Path, words: list[str]):
    run(server, tmp_path, [row("a"), row("b")], "--run-id", "r1", "--limit", "1")
    run_json = tmp_path / "out" / "runs" / "r1" / "run.json"
    run_json.write_text(run_json.read_text().replace('"state": "done"', '"state": "halted"'))
    done = run(server, tmp_path, [row("a"), row("b")], "--run-id", "r1", *words, code=2)
    assert "cannot go on, because this would change" in done.stderr
