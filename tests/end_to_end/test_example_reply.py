"""The recorded example: the reply of a real gateway, served to the row that was asked."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.end_to_end.nights import KEY, Finished, Store, run_command, write_manifest
from tests.serving.answers import EXAMPLE_REPLY, REQUEST_ID
from tests.serving.server import Server

ROW = {
    "id": "gateway-example",
    "image_url": "https://s2.loli.net/2024/02/01/QSWVdw9bX56gj7O.jpg",
    "audio_url": "https://cdn.openai.com/API/docs/audio/alloy.wav",
    "video_url": "https://cdn.bigmodel.cn/agent-demos/lark/113123.mov",
    "prompt": "请分析下面图片、音频、视频的内容",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(lambda received: EXAMPLE_REPLY) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("example")


@pytest.fixture(scope="module")
def finished(server: Server, folder: Path) -> Finished:
    manifest = write_manifest(folder / "manifest.csv", [ROW])
    return run_command("run", manifest, "--base-url", server.base_url, "--json", cwd=folder)


@pytest.fixture(scope="module")
def store(finished: Finished, folder: Path) -> Store:
    assert finished.code == 0, finished.stderr
    return Store(folder / "out")


def test_every_token_is_priced_once(store: Store):
    """9 text and 1,656 image+video x $0.25/M, 399 audio x $0.50/M, 230 out x $1.50/M."""
    charged = store.costs.select("modality", "direction", "kind", "tokens", "cost", "provenance")
    assert sorted(charged.rows()) == [
        ("audio", "input", "fresh", 399, Decimal("0.0001995"), "reported"),
        ("image+video", "input", "fresh", 1656, Decimal("0.000414"), "derived"),
        ("text", "input", "fresh", 9, Decimal("0.00000225"), "reported"),
        ("text", "output", "fresh", 230, Decimal("0.000345"), "derived"),
    ]
    assert set(store.costs["currency"]) == {"USD"}


def test_the_whole_reply_costs_exactly_0_00096075(store: Store, finished: Finished):
    result = store.result("gateway-example")
    assert result["cost"] == result["cost_low"] == result["cost_high"] == Decimal("0.00096075")
    assert (result["currency"], result["unpriced_tokens"]) == ("USD", 0)
    assert store.costs["cost"].sum() == Decimal("0.00096075")
    assert finished.json["cost"] == {"USD": "0.00096075"}


def test_the_result_holds_what_was_answered(store: Store):
    result = store.result("gateway-example")
    assert result["status"] == "ok"
    assert result["text"].startswith("这段视频主要展示了以下内容:\n\n1. **初始画面**")
    assert result["text"].endswith("操作演示视频。")
    assert result["finish_reason"] == "stop"
    assert result["reply_id"] == "chatcmpl-toio20260305115737676032340t6X05q67"
    tokens = [result[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    assert tokens == [2064, 230, 2294]
    assert [media["modality"] for media in result["media"]] == ["image", "audio", "video"]


def test_the_attempt_is_billed_and_bears_the_gateways_request_id(store: Store):
    (attempt,) = store.attempts_of("gateway-example")
    assert (attempt["state"], attempt["http_status"], attempt["request_id"]) == ("billed", 200, REQUEST_ID)


def test_the_body_has_exactly_the_shape_of_the_example(store: Store, server: Server):
    (received,) = server.received
    assert received.json == {
        "model": "gemini-3.1-flash-lite-preview",
        "max_tokens": 2000,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "请分析下面图片、音频、视频的内容"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "https://s2.loli.net/2024/02/01/QSWVdw9bX56gj7O.jpg"},
                    },
                    {
                        "type": "audio_url",
                        "audio_url": {"url": "https://cdn.openai.com/API/docs/audio/alloy.wav"},
                    },
                    {
                        "type": "video_url",
                        "video_url": {"url": "https://cdn.bigmodel.cn/agent-demos/lark/113123.mov"},
                    },
                ],
            }
        ],
        "stream": False,
    }


def test_it_is_posted_with_the_key_as_bearer(store: Store, server: Server):
    (received,) = server.received
    assert (received.method, received.target) == ("POST", "/v1/chat/completions")
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["content-type"] == "application/json"


def test_columns_are_those_of_the_design_in_their_order(store: Store):
    assert store.results.columns[:6] == ["run_id", "job", "item_id", "request_key", "row", "status"]
    assert store.results.schema["cost"] == pl.Decimal(38, 12)
    assert store.costs.schema["price_per_mtok"] == pl.Decimal(18, 6)
    assert store.results.schema["finished_at"] == pl.Datetime("us", "UTC")


def test_nothing_but_the_endpoint_is_contacted(store: Store, server: Server):
    """Media hosts are left alone, and there is no preflight: one row, one request."""
    targets = [(received.method, received.target) for received in server.received]
    assert targets == [("POST", "/v1/chat/completions")]
