"""A running endpoint, a host of media, and the shipped media."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

from pipeline.embedded import serve_embedded

MEDIA = Path(str(files("data") / "media"))
BROKEN = "broken.jpg"


@pytest.fixture
def anyio_backend() -> str:
    """The endpoint is aiohttp's and needs the asyncio loop."""
    return "asyncio"


@pytest.fixture
async def endpoint() -> AsyncIterator[str]:
    async with serve_embedded() as base_url:
        yield base_url


@pytest.fixture
async def client(endpoint: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=endpoint, trust_env=False, timeout=60) as client:
        yield client


def data_url(name: str, mime: str = "application/octet-stream") -> str:
    return f"data:{mime};base64,{b64encode((MEDIA / name).read_bytes()).decode()}"


def body(*parts: dict[str, object], model: str = "gemini-2.5-flash", **fields: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": list(parts)}], **fields}


def text_part(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def media_part(kind: str, url: str) -> dict[str, object]:
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}
