"""`run --export-batch FILE`: the requests a run would send, in a file, and nothing sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.keys import request_key
from pipeline.manifest import Defaults, open_manifest
from pipeline.records import Item
from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import invoke, run_command, write_manifest
from tests.serving.answers import completion

ROWS = [
    {"id": "one", "image_url": "https://h.example/1.png", "prompt": "what?"},
    {"id": "two", "audio_url": "https://h.example/2.wav", "prompt": "这是什么？"},
    {"id": "bad"},
    {"id": "three", "image_url": "https://h.example/1.png", "prompt": "what?"},
    {"id": "four", "prompt": "4", "max_tokens": "9"},
]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_it_writes_what_would_be_sent_and_sends_nothing(serve: Serve, tmp_path: Path):
    server = serve(lambda received: completion())
    manifest = write_manifest(tmp_path / "m.csv", ROWS)
    where = ["--base-url", server.base_url, "--out", tmp_path / "out"]
    done = invoke("run", manifest, *where, "--export-batch", tmp_path / "batch.jsonl")
    assert done.code == 0, done.stderr
    assert server.received == []
    assert not (tmp_path / "out").exists()
    written = lines(tmp_path / "batch.jsonl")
    assert [one["custom_id"] for one in written] == ["one", "two", "four"]
    assert {(one["method"], one["url"]) for one in written} == {("POST", "/v1/chat/completions")}
    assert done.stdout.startswith("3 requests (0.0 MB) → ")
    assert "1 that ask the same as an earlier row" in done.stderr
    assert "1 that cannot be asked, the first: row 3: holds neither media nor a prompt" in done.stderr

    assert invoke("run", manifest, *where, "--concurrency", "1").code == 5
    assert [received.json for received in server.received] == [one["body"] for one in written]

    again = invoke("run", manifest, *where, "--export-batch", tmp_path / "again.jsonl", "--json")
    told = again.json
    assert (told["requests"], told["skipped"], told["bad"]) == (0, 4, 1)
    assert lines(tmp_path / "again.jsonl") == []


def test_without_an_endpoint_it_is_in_openais_own_dialect(tmp_path: Path):
    manifest = write_manifest(tmp_path / "m.csv", ["a"])
    done = run_command("run", manifest, "--export-batch", tmp_path / "b.jsonl", "--out", tmp_path / "out")
    assert done.code == 0, done.stderr
    (one,) = lines(tmp_path / "b.jsonl")
    assert one["body"]["max_completion_tokens"] == 2000


@pytest.mark.parametrize("dialect", ["openai", "newapi", "newapi-strings"])
def test_read_again_as_a_manifest_it_asks_the_same(tmp_path: Path, dialect: str):
    (tmp_path / "tone.wav").write_bytes(b"RIFF....WAVE")
    rows = [
        *ROWS,
        {"id": "inline", "audio_url": "tone.wav", "prompt": "what do you hear?"},
        {"id": "film", "video_url": "https://h.example/a.mp4", "prompt": "hm"},
        {"id": "paper", "image_url": "data:image/png;base64,aGk="},
    ]
    manifest = write_manifest(tmp_path / "m.csv", rows)
    batch = tmp_path / "batch.jsonl"
    out = ["--out", tmp_path / "out"]
    assert invoke("run", manifest, "--dialect", dialect, "--export-batch", batch, *out).code == 0
    night = Defaults(
        "gemini-3.1-flash-lite-preview", "Analyse the content of the attached media.", {"max_tokens": 2000}
    )

    def keys(path: Path) -> dict[str, str]:
        found = [row for batch in open_manifest(str(path)).read(night) for row in batch]
        return {row.id: request_key(row.request) for row in found if isinstance(row, Item)}

    asked = keys(manifest)
    del (
        asked["three"],
        asked["inline"],
    )  # a repeat; and a file's content, which counts otherwise than its bytes
    again = keys(batch)
    assert "inline" in again
    del again["inline"]
    assert again == asked


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path):
    manifest = write_manifest(tmp_path / "m.csv", ["a"])
    done = invoke(
        "run", manifest, "--export-batch", tmp_path / "nowhere" / "b.jsonl", "--out", tmp_path / "out"
    )
    assert done.code == 3
    assert done.stderr.startswith("error: cannot write to ")
