"""OpenAI batch files as manifests: what a request holds is taken over, the rest is a bad row that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.manifest import Defaults, open_manifest
from pipeline.records import BadRow, Item

NIGHT = Defaults("default-model", "default prompt", {"max_tokens": 2000})
PNG = "data:image/png;base64,aGk="


def line(body: Mapping[str, Any] | str, custom_id: str | None = "one", **more: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **more}


def asking(content: object, *before: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "a-model", "messages": [*before, {"role": "user", "content": content}], **more}


def rows(folder: Path, *lines: object, ending: str = "jsonl") -> list[Item | BadRow]:
    path = folder / f"batch.{ending}"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return [row for batch in open_manifest(str(path)).read(NIGHT) for row in batch]


def item(folder: Path, body: Mapping[str, Any]) -> Item:
    (row,) = rows(folder, line(body))
    assert isinstance(row, Item), row.error
    return row


def problem(folder: Path, body: Any, **more: Any) -> str:
    (row,) = rows(folder, line(body, **more))
    assert isinstance(row, BadRow)
    return str(row.error)


def test_text_system_media_and_parameters_are_taken_over(tmp_path: Path):
    content = [
        {"type": "image_url", "image_url": {"url": "https://h.example/a.png", "detail": "auto"}},
        {"type": "text", "text": "what"},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"type": "video_url", "video_url": "https://h.example/a.mp4"},
        {"type": "text", "text": "is it?"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
    ]
    system = {"role": "system", "content": "Be brief."}
    body = asking(content, system, temperature=0, max_completion_tokens=50, seed=None, stream=True)
    row = item(tmp_path, body)
    request = row.request
    assert (row.id, request.model, request.prompt, request.system) == (
        "one",
        "a-model",
        "what\nis it?",
        "Be brief.",
    )
    assert request.parameters == {"max_tokens": 50, "temperature": 0}
    assert [(media.modality, media.url) for media in request.media] == [
        ("image", "https://h.example/a.png"),
        ("audio", "data:audio/wav;base64,aGk="),
        ("video", "https://h.example/a.mp4"),
        ("document", "data:application/pdf;base64,aGk="),
    ]


def test_what_a_line_leaves_open_is_the_runs(tmp_path: Path):
    request = item(tmp_path, {"messages": [{"role": "user", "content": "hello"}]}).request
    assert (request.model, request.prompt, request.parameters) == (
        "default-model",
        "hello",
        {"max_tokens": 2000},
    )


def test_media_without_text_are_asked_without_text(tmp_path: Path):
    request = item(tmp_path, asking([{"type": "image_url", "image_url": {"url": PNG}}])).request
    assert request.prompt == ""


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            asking("again?", {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}),
            "several turns",
        ),
        (asking("a", tools=[{"type": "function"}]), "'tools', which cannot be asked here"),
        (asking("a", n=2), "several answers"),
        (asking([{"type": "file", "file": {"file_id": "file-1"}}]), "an uploaded file"),
        (
            asking([{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]),
            "the detail of an image",
        ),
        (asking([{"type": "input_text", "text": "a"}]), "a part of type 'input_text'"),
        (asking([{"type": "image_url", "image_url": {"url": "ftp://h/a.png"}}]), "has the scheme 'ftp'"),
        (asking([]), "asks nothing"),
        ({"model": "m", "messages": []}, "has no user message"),
        ({"model": "m"}, "has no list of messages"),
        (asking("a", max_tokens=-1), "not a whole number above zero"),
        (17, "is no JSON object"),
        ("{", "is no JSON ("),
    ],
)
def test_what_cannot_be_asked_is_a_bad_row_that_says_so(tmp_path: Path, body: Any, sentence: str):
    told = problem(tmp_path, body)
    assert told.startswith("row 1, column 'body': ")
    assert sentence in told


def test_other_endpoints_than_chat_completions_are_not_asked(tmp_path: Path):
    assert "/v1/embeddings; only /v1/chat/completions" in problem(tmp_path, asking("a"), url="/v1/embeddings")


def test_a_custom_id_that_comes_again_shadows_nothing(tmp_path: Path):
    first, second = rows(tmp_path, line(asking("a")), line(asking("b")))
    assert (first.id, second.id) == ("one", "one#2")
    assert isinstance(second, BadRow)


def test_a_line_without_a_custom_id_is_named_by_what_it_asks(tmp_path: Path):
    (first,) = rows(tmp_path, line(asking("a"), None))
    (again,) = rows(tmp_path, line(asking("a"), None))
    assert isinstance(first, Item)
    assert first.id == again.id


def test_rows_that_are_passed_over_keep_their_ids(tmp_path: Path):
    path = tmp_path / "batch.jsonl"
    lines = [line(asking(name), "same" if name != "c" else None) for name in "abc"]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    manifest = open_manifest(str(path))
    ((_, second, third),) = manifest.read(NIGHT)
    ((later,),) = manifest.read(NIGHT, bytearray([0, 1, 1, 0]))
    assert second.id == "same#2"
    assert later.id == third.id


def test_ndjson_with_columns_of_its_own_is_no_batch_file(tmp_path: Path):
    (row,) = rows(tmp_path, {"custom_id": "mine", "body": "blue", "prompt": "why?"})
    assert isinstance(row, Item)
    assert row.request.prompt == "why?"


def test_a_note_says_that_it_is_read_as_one(tmp_path: Path):
    rows(tmp_path, line(asking("a")))
    (note,) = open_manifest(str(tmp_path / "batch.jsonl")).notes
    assert "OpenAI batch file" in note
