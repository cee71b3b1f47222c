"""Downloads: what is fetched, and how each way of failing is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from aiohttp import web

from pipeline.embedded.question import MediaPart
from pipeline.embedded.reading import Fetcher, decode_data_url
from pipeline.embedded.refusals import Refusal
from tests.embedded.conftest import MEDIA, body, media_part

pytestmark = pytest.mark.anyio


@pytest.fixture
async def media_host(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A host of media with good and bad habits."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    app = web.Application()

    async def sunset(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(MEDIA / "sunset.jpg")

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            return response

    async def stuck(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def status(request: web.Request) -> web.StreamResponse:
        return web.Response(status=int(request.match_info["status"]))

    async def moved(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(request.query["to"])

    app.router.add_get("/sunset.jpg", sunset)
    app.router.add_get("/endless", endless)
    app.router.add_get("/stuck", stuck)
    app.router.add_get("/moved", moved)
    app.router.add_get("/status/{status}", status)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def refusal_of(url: str, *, max_bytes: int = 1_000_000, timeout_s: float = 5.0) -> str:
    """The sentence with which a download is refused; it is always the gateway's 500."""
    fetcher = Fetcher(max_bytes=max_bytes, timeout_s=timeout_s)
    try:
        with pytest.raises(Refusal) as refused:
            await fetcher.fetch(url)
    finally:
        await fetcher.close()
    assert (refused.value.status, refused.value.code) == (500, "convert_request_failed")
    return refused.value.message


async def test_a_url_is_fetched_and_analysed(client: httpx.AsyncClient, media_host: str):
    asked = body(media_part("image", f"{media_host}/sunset.jpg"))
    response = await client.post("/chat/completions", json=asked)
    assert "JPEG, 1280 x 853 px" in response.json()["choices"][0]["message"]["content"]


async def test_a_redirect_is_followed(client: httpx.AsyncClient, media_host: str):
    asked = body(media_part("image", f"{media_host}/moved?to=/sunset.jpg"))
    assert (await client.post("/chat/completions", json=asked)).status_code == 200


async def test_a_redirect_leads_to_no_local_file(media_host: str):
    assert "failed" in await refusal_of(f"{media_host}/moved?to=file:///etc/hostname")


@pytest.mark.parametrize("status", [403, 404, 410, 503])
async def test_a_failed_download_is_told_with_its_status(
    client: httpx.AsyncClient, media_host: str, status: int
):
    response = await client.post(
        "/chat/completions", json=body(media_part("image", f"{media_host}/status/{status}"))
    )
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (500, "convert_request_failed")
    assert f"failed to download file, status code: {status}" in error["message"]


async def test_a_refused_connection_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can have the port meanwhile
        port = taken.getsockname()[1]
        assert "connection refused" in await refusal_of(f"http://127.0.0.1:{port}/a.jpg")


async def test_a_host_that_does_not_answer_is_a_timeout(media_host: str):
    assert "timeout after 0.2 s" in await refusal_of(f"{media_host}/stuck", timeout_s=0.2)


async def test_a_download_is_given_up_at_the_size_limit_though_no_length_was_stated(media_host: str):
    sentence = "file size exceeds maximum allowed size: 1 MB"
    assert sentence in await refusal_of(f"{media_host}/endless", max_bytes=1024**2)


async def test_a_stated_length_past_the_limit_is_not_read_at_all(media_host: str):
    assert "file size exceeds" in await refusal_of(f"{media_host}/sunset.jpg", max_bytes=1000)


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://h/a.jpg", "sunset.jpg", "gs://bucket/a.jpg", "http://"]
)
async def test_only_http_and_data_urls_are_served(url: str):
    assert f"get file data from '{url}' failed" in await refusal_of(url)


async def test_a_signature_in_a_url_is_not_repeated(media_host: str):
    assert "secret" not in await refusal_of(f"{media_host}/404?signature=secret")


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,aGVsbG8=",
        "data:;base64,aGVs%0AbG8%3D",
        "data:text/plain,hel%6Co",
        "DATA:,hello",
    ],
)
def test_a_data_url_is_decoded_in_every_spelling(url: str):
    assert decode_data_url(MediaPart("here", url)) == b"hello"
