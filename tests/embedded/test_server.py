"""The endpoint over real HTTP: answers, usage, keys and refusals."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections import Counter

import httpx
import openai
import pytest

from pipeline.embedded import serve_embedded
from pipeline.embedded.analysis import Analysis, analyse
from pipeline.embedded.analyst import Analyst
from pipeline.embedded.question import MediaPart
from tests.embedded.conftest import BROKEN, MEDIA, body, data_url, media_part, text_part

pytestmark = pytest.mark.anyio

# The usage of the recorded gateway reply, with its numbers.
RECORDED_USAGE = {
    "prompt_tokens": 2064,
    "completion_tokens": 230,
    "total_tokens": 2294,
    "prompt_tokens_details": {"cached_tokens": 0, "text_tokens": 9, "audio_tokens": 399, "image_tokens": 0},
    "completion_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0},
    "output_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0},
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": None,
    "claude_cache_creation_5_m_tokens": 0,
    "claude_cache_creation_1_h_tokens": 0,
}


async def ask(client: httpx.AsyncClient, asked: object) -> httpx.Response:
    return await client.post("/chat/completions", json=asked)


def assert_refused(response: httpx.Response, status: int, code: str, sentence: str) -> None:
    """In the gateway's shape, with the request's id in the message and in the header."""
    assert response.status_code == status
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert sentence in error["message"]
    assert error["message"].endswith(f"(request id: {response.headers['X-Oneapi-Request-Id']})")


async def test_the_openai_client_works_unchanged(endpoint: str):
    async with openai.AsyncOpenAI(base_url=endpoint, api_key="any", max_retries=0) as client:
        completion = await client.chat.completions.create(
            model="gemini-2.5-flash",
            max_tokens=2000,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": data_url("sunset.jpg", "image/jpeg")}},
                        {
                            "type": "input_audio",
                            "input_audio": {
                                "data": b64encode((MEDIA / "beeps.wav").read_bytes()).decode(),
                                "format": "wav",
                            },
                        },
                    ],
                }
            ],
        )
        models = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("gemini-2.5-flash")
    text = completion.choices[0].message.content
    assert text is not None
    assert "Image 1: JPEG, 1280 x 853 px" in text
    assert "Audio 1: wav" in text
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.audio_tokens == 77  # 2.4 s x 32 = 76.8
    assert one.id in models


async def test_usage_has_the_recorded_replys_keys_and_types_and_no_others(client: httpx.AsyncClient):
    usage = (await ask(client, body(text_part("Hi")))).json()["usage"]

    def shape(value: object) -> object:
        return {key: shape(inner) for key, inner in value.items()} if isinstance(value, dict) else type(value)

    assert shape(usage) == shape(RECORDED_USAGE)
    assert list(usage) == list(RECORDED_USAGE)


async def test_image_audio_and_video_together_leave_the_pictures_unnamed(client: httpx.AsyncClient):
    """Gemini 3: text 9; audio 6.0 s x 32 = 192 for the soundtrack, plus the spoken mp3. In the total alone
    are the image's 1120 and the video's 6 x 70 = 420."""
    spoken = await ask(client, body(media_part("audio", data_url("greeting-zh.mp3"))))
    spoken_tokens = spoken.json()["usage"]["prompt_tokens_details"]["audio_tokens"]
    asked = body(
        text_part("请分析下面图片、音频、视频的内容"),
        media_part("image", data_url("sunset.jpg")),
        media_part("audio", data_url("greeting-zh.mp3")),
        media_part("video", data_url("three-scenes.mp4")),
        model="gemini-3.1-flash-lite-preview",
        stream=False,
    )
    reply = (await ask(client, asked)).json()
    details = reply["usage"]["prompt_tokens_details"]
    assert details["text_tokens"] == 9
    assert details["audio_tokens"] == spoken_tokens + 192
    assert details["image_tokens"] == 0
    assert reply["usage"]["prompt_tokens"] == 9 + spoken_tokens + 192 + 1120 + 420
    assert (
        reply["usage"]["total_tokens"]
        == reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]
    )


async def test_a_reply_is_a_chat_completion_of_the_model_that_was_asked(client: httpx.AsyncClient):
    response = await ask(
        client, {"model": "my-model", "messages": [{"role": "user", "content": "Plain text."}]}
    )
    reply = response.json()
    assert response.status_code == 200
    assert (reply["object"], reply["model"]) == ("chat.completion", "my-model")
    assert re.fullmatch(r"chatcmpl-\d{20}[0-9a-f]{8}", reply["id"])
    assert reply["id"] == f"chatcmpl-{response.headers['X-Oneapi-Request-Id']}"
    assert "“Plain text.”" in reply["choices"][0]["message"]["content"]


async def test_max_tokens_cuts_the_text_and_says_so(client: httpx.AsyncClient):
    reply = (await ask(client, body(text_part("Hi"), max_tokens=10))).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 10
    assert len(reply["choices"][0]["message"]["content"]) == 40  # 4 characters a token


async def test_an_unreadable_medium_is_an_invalid_argument(client: httpx.AsyncClient):
    response = await ask(client, body(media_part("image", data_url(BROKEN, "image/jpeg"))))
    assert_refused(response, 400, "INVALID_ARGUMENT", "Unable to process input image")
    assert "messages[0].content[0].image_url" in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
async def test_bytes_that_are_no_medium_are_named_as_they_were_sent(client: httpx.AsyncClient, kind: str):
    response = await ask(client, body(media_part(kind, "data:text/plain;base64,aGVsbG8=")))
    assert_refused(response, 400, "INVALID_ARGUMENT", f"Unable to process input {kind}")


async def test_broken_base64_is_an_invalid_argument(client: httpx.AsyncClient):
    response = await ask(client, body(media_part("image", "data:image/png;base64,@@@@")))
    assert_refused(response, 400, "INVALID_ARGUMENT", "Base64 decoding failed")


async def test_a_body_that_is_no_json_is_refused(client: httpx.AsyncClient):
    response = await client.post("/chat/completions", content=b"{")
    assert_refused(response, 400, "invalid_request", "no JSON")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/embeddings"), ("GET", "/chat/completions"), ("GET", "/")]
)
async def test_an_unknown_path_is_an_invalid_url(client: httpx.AsyncClient, method: str, path: str):
    response = await client.request(method, path)
    assert_refused(response, 404, "", f"Invalid URL ({method} /v1{path})")
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_missing_v1_is_an_invalid_url(endpoint: str):
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(
            endpoint.removesuffix("/v1") + "/chat/completions", json=body(text_part("Hi"))
        )
    assert_refused(response, 404, "", "Invalid URL (POST /chat/completions)")


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic right", "right"])
async def test_with_a_key_every_other_one_is_refused(header: str | None):
    async with serve_embedded(api_key="right") as base_url, httpx.AsyncClient(trust_env=False) as client:
        headers = {} if header is None else {"Authorization": header}
        url = f"{base_url}/chat/completions"
        refused = await client.post(url, json=body(text_part("Hi")), headers=headers)
        answered = await client.post(
            url, json=body(text_part("Hi")), headers={"Authorization": "Bearer right"}
        )
    assert_refused(refused, 401, "", "Invalid token")
    assert answered.status_code == 200


async def test_every_answer_has_a_request_id_of_its_own(client: httpx.AsyncClient):
    responses = [await ask(client, body(text_part("Hi"))) for _ in range(3)]
    assert len({response.headers["X-Oneapi-Request-Id"] for response in responses}) == 3


async def test_many_requests_for_one_medium_decode_it_once():
    measured: Counter[bytes] = Counter()

    def counting(content: bytes) -> Analysis:
        measured[content] += 1
        return analyse(content)

    async with Analyst(counting) as analyst:
        part = MediaPart("here", data_url("sunset.jpg"))
        results = await asyncio.gather(*(analyst.analyse_all([part]) for _ in range(50)))
        again = await analyst.analyse_all([part])
    assert list(measured.values()) == [1]
    assert all(result == again for result in results)


async def test_the_server_is_gone_when_the_block_ends():
    async with serve_embedded() as base_url:
        pass
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{base_url}/models")
