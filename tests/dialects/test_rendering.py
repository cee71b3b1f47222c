"""Bodies, as the endpoints document them."""

from __future__ import annotations

from types import MappingProxyType

import orjson
import pytest

from pipeline.dialects import DIALECTS
from pipeline.records import Media, MediaModality, Request
from tests.dialects.made import EXAMPLE, EXAMPLE_URLS

NEWAPI, OPENAI = DIALECTS["newapi"], DIALECTS["openai"]


def test_the_example_is_rendered_key_for_key() -> None:
    assert NEWAPI.render(EXAMPLE, EXAMPLE_URLS).decode() == (
        '{"model":"gemini-3.1-flash-lite-preview","max_tokens":2000,"messages":[{"role":"user","content":['
        '{"type":"text","text":"请分析下面图片、音频、视频的内容"},'
        '{"type":"image_url","image_url":{"url":"https://s2.loli.net/2024/02/01/QSWVdw9bX56gj7O.jpg"}},'
        '{"type":"audio_url","audio_url":{"url":"https://cdn.openai.com/API/docs/audio/alloy.wav"}},'
        '{"type":"video_url","video_url":{"url":"https://cdn.bigmodel.cn/agent-demos/lark/113123.mov"}}'
        ']}],"stream":false}'
    )


def part_of(dialect: str, modality: MediaModality, url: str) -> object:
    request = Request("m", "p", (Media(modality, url),), {})
    return orjson.loads(DIALECTS[dialect].render(request, (url,)))["messages"][0]["content"][1]


def test_openai_takes_inline_audio_as_input_audio() -> None:
    assert part_of("openai", "audio", "data:audio/x-wav;base64,UklGRg==") == {
        "type": "input_audio",
        "input_audio": {"data": "UklGRg==", "format": "wav"},
    }


@pytest.mark.parametrize(
    ("mime", "format_"),
    [
        ("audio/wav", "wav"),
        ("audio/vnd.wave", "wav"),
        ("audio/mpeg", "mp3"),
        ("AUDIO/MP3", "mp3"),
        ("audio/mp4", "m4a"),
        ("audio/ogg", "ogg"),
        ("audio/flac", "flac"),
        ("", "wav"),
    ],
)
def test_the_audio_format_follows_the_mime_type(mime: str, format_: str) -> None:
    part = part_of("openai", "audio", f"data:{mime};base64,AAAA")
    assert isinstance(part, dict)
    assert part["input_audio"]["format"] == format_


def test_openai_leaves_an_audio_url_to_servers_that_fetch_it() -> None:
    assert part_of("openai", "audio", "https://e.com/a.wav") == {
        "type": "audio_url",
        "audio_url": {"url": "https://e.com/a.wav"},
    }


def test_audio_that_is_inline_but_not_base64_stays_a_url() -> None:
    url = "data:audio/wav,%52%49"
    assert part_of("openai", "audio", url) == {"type": "audio_url", "audio_url": {"url": url}}


def test_newapi_takes_inline_audio_as_a_url() -> None:
    url = "data:audio/wav;base64,UklGRg=="
    assert part_of("newapi", "audio", url) == {"type": "audio_url", "audio_url": {"url": url}}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_images_are_url_objects_everywhere(dialect: str) -> None:
    url = "https://e.com/x"
    assert part_of(dialect, "image", url) == {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_sound_and_video_are_objects_or_plain_strings_as_the_dialect_says(modality: MediaModality) -> None:
    name, url = f"{modality}_url", "https://e.com/x"
    assert part_of("newapi", modality, url) == {"type": name, name: {"url": url}}
    assert part_of("newapi-strings", modality, url) == {"type": name, name: url}


def test_a_document_inline_gets_a_name_by_its_type() -> None:
    url = "data:text/plain;base64,aGk="
    part = part_of("newapi", "document", url)
    assert part == {"type": "file", "file": {"filename": "document.txt", "file_data": url}}


def test_openai_spells_the_output_limit_anew() -> None:
    request = Request("m", "p", (), {"max_tokens": 2000, "temperature": 0})
    body = orjson.loads(OPENAI.render(request, ()))
    assert "max_tokens" not in body
    assert list(body) == ["model", "max_completion_tokens", "temperature", "messages", "stream"]


def test_an_output_limit_given_in_the_new_spelling_wins() -> None:
    request = Request("m", "p", (), {"max_tokens": 2000, "max_completion_tokens": 50})
    assert orjson.loads(OPENAI.render(request, ()))["max_completion_tokens"] == 50


def test_other_parameters_go_through_as_they_are() -> None:
    schema = MappingProxyType({"type": "json_object"})
    request = Request("m", "p", (), MappingProxyType({"response_format": schema, "seed": 7}))
    body = orjson.loads(NEWAPI.render(request, ()))
    assert body["response_format"] == {"type": "json_object"}
    assert body["seed"] == 7


def test_media_without_a_prompt_send_no_empty_text() -> None:
    request = Request("m", "", (Media("image", "https://e.com/x"),), {})
    content = orjson.loads(NEWAPI.render(request, ("https://e.com/x",)))["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url"]
