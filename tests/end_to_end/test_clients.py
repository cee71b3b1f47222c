"""The `openai` client against ``mediabatch serve``, and our command against it as any endpoint."""

from __future__ import annotations

import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import openai
import pytest

from tests.end_to_end.nights import COMMAND, KEY, Store, clean_environment, run_command

MEDIA = Path(str(files("data") / "media"))
MODEL = "gemini-3.1-flash-lite-preview"


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``mediabatch serve`` as a process, which wants a key."""
    key_file = tmp_path_factory.mktemp("key") / "key"
    key_file.write_text(KEY)
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--api-key-file", str(key_file)],
        env=clean_environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+/v1", server.stdout.readline())
            assert address
            yield address[0]
        finally:
            server.terminate()


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


def part(kind: str, name: str, mime: str) -> dict[str, object]:
    url = f"data:{mime};base64,{b64encode((MEDIA / name).read_bytes()).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


EXAMPLE_CONTENT = [
    {"type": "text", "text": "请分析下面图片、音频、视频的内容"},
    part("image", "sunset.jpg", "image/jpeg"),
    part("audio", "greeting-zh.mp3", "audio/mpeg"),
    part("video", "three-scenes.mp4", "video/mp4"),
]


def test_the_openai_client_gets_an_analysis_of_the_examples_message(client: openai.OpenAI):
    reply = client.chat.completions.create(
        model=MODEL,
        max_tokens=2000,
        messages=[{"role": "user", "content": EXAMPLE_CONTENT}],  # type: ignore[list-item] # as the gateway has it
        stream=False,
    )
    (choice,) = reply.choices
    assert (reply.object, reply.model, choice.finish_reason) == ("chat.completion", MODEL, "stop")
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert all(fact in choice.message.content for fact in ("JPEG", "mp3", "h264"))


def test_the_openai_client_gets_usage_as_the_gateway_fills_it(client: openai.OpenAI):
    """VIDEO is left unnamed, so the named parts are less than the whole."""
    reply = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": EXAMPLE_CONTENT}],  # type: ignore[list-item]
    )
    usage = reply.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens + usage.completion_tokens == usage.total_tokens
    details = usage.prompt_tokens_details.model_dump()
    named = [details[name] for name in ("text_tokens", "image_tokens", "audio_tokens")]
    assert 0 < sum(named) < usage.prompt_tokens


def test_the_openai_client_recognises_a_wrong_key(base_url: str):
    with (
        openai.OpenAI(base_url=base_url, api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])


def test_the_openai_client_recognises_media_that_cannot_be_read(client: openai.OpenAI):
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": [part("image", "broken.jpg", "image/jpeg")]}],  # type: ignore[list-item]
        )
    assert raised.value.status_code >= 400
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["message"]


def test_the_openai_client_lists_models(client: openai.OpenAI):
    assert MODEL.removesuffix("-preview") in " ".join(model.id for model in client.models.list())


@pytest.mark.parametrize("dialect", ["newapi", "openai"])
def test_a_run_against_it_is_a_run_against_any_endpoint(base_url: str, tmp_path: Path, dialect: str):
    manifest = Path(str(files("data") / "manifests" / "example.csv"))

    finished = run_command(
        *("run", manifest, "--base-url", base_url, "--dialect", dialect, "--out", tmp_path / "out", "--json")
    )

    store = Store(tmp_path / "out")
    assert (finished.code, store.ids("failed")) == (5, ["broken-upload"]), finished.stderr
    assert finished.json["ok"] == len(store.ids("ok")) >= 16
    assert set(store.results["endpoint"]) == {base_url}
    assert store.result("broken-upload")["error_class"] in ("MediaUnreadable", "BadInput")
    tokens = {(count["modality"], count["direction"]) for count in store.costs.to_dicts()}
    assert tokens >= {("text", "input"), ("image", "input"), ("audio", "input"), ("text", "output")}


def test_a_run_with_a_wrong_key_halts(base_url: str, tmp_path: Path):
    manifest = Path(str(files("data") / "manifests" / "example.csv"))
    options = ["--base-url", base_url, "--out", tmp_path / "out", "--json"]

    finished = run_command("run", manifest, *options, env=clean_environment(MEDIABATCH_API_KEY="sk-wrong"))

    assert finished.code == 3
    assert {halt["error_class"] for halt in finished.json["halts"]} <= {"KeyRejected", "ChannelKeyRejected"}
    assert finished.json["not_attempted"] == finished.json["rows"]


def test_the_command_is_found_by_its_name():
    script = Path(sys.executable).with_name("mediabatch")
    assert run_command("--version", program=[str(script)]).stdout.startswith("mediabatch")
