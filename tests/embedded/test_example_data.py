"""The shipped example: its manifest, its files, and what the endpoint answers to each row."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

from tests.embedded.conftest import MEDIA, body, data_url, media_part, text_part

MANIFESTS = Path(str(files("data") / "manifests"))
KINDS = ("image", "audio", "video")


def rows(name: str) -> list[dict[str, str]]:
    with (MANIFESTS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def media_of(row: dict[str, str]) -> list[tuple[str, str]]:
    """(modality, file name or URL) of each medium in a row."""
    cells = [(kind, row[f"{kind}_url"]) for kind in KINDS if row[f"{kind}_url"]]
    return [
        (kind, url) for kind, cell in cells for url in (json.loads(cell) if cell.startswith("[") else [cell])
    ]


def test_the_example_has_every_kind_of_row():
    example = rows("example.csv")
    kinds_of = [{kind for kind, _ in media_of(row)} for row in example]
    assert len(example) >= 16
    assert set(KINDS) in kinds_of
    assert any(
        len(media_of(row)) == 2 and kinds == {"image"} for row, kinds in zip(example, kinds_of, strict=True)
    )
    assert any("\u4e00" <= character <= "\u9fff" for row in example for character in row["prompt"])
    assert sum(not row["prompt"] for row in example) > len(example) / 2
    assert len({row["id"] for row in example}) == len(example)


def test_every_shipped_medium_is_asked_about():
    asked = {Path(url).name for row in rows("example.csv") for _, url in media_of(row)}
    assert asked == {path.name for path in MEDIA.iterdir()}


def test_the_shipped_media_stay_small():
    assert sum(path.stat().st_size for path in MEDIA.iterdir()) < 2_500_000


@pytest.mark.anyio
async def test_exactly_one_row_of_the_example_fails_and_it_is_the_broken_one(client: httpx.AsyncClient):
    failed = {}
    for row in rows("example.csv"):
        parts = [media_part(kind, data_url(Path(url).name)) for kind, url in media_of(row)]
        response = await client.post(
            "/chat/completions", json=body(text_part(row["prompt"] or "Describe."), *parts)
        )
        if response.status_code != 200:
            failed[row["id"]] = (response.status_code, response.json()["error"]["code"])
    assert failed == {"broken-upload": (400, "INVALID_ARGUMENT")}


def test_the_gateway_example_is_one_row_of_three_public_urls():
    (row,) = rows("gateway-example.csv")
    assert [kind for kind, _ in media_of(row)] == ["image", "audio", "video"]
    assert all(url.startswith("https://") for _, url in media_of(row))
    assert row["prompt"] == "请分析下面图片、音频、视频的内容"
