"""Limits, a latency, and answers that go wrong by lot."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from jobs.serve import serve
from pipeline.embedded import serve_embedded
from pipeline.embedded.refusals import Refusal
from pipeline.embedded.trouble import FAULTS, Course, Fault, Trouble
from tests.embedded.conftest import body, text_part

pytestmark = pytest.mark.anyio


async def asked(trouble: Trouble) -> httpx.Response:
    async with serve_embedded(trouble=trouble) as base_url, httpx.AsyncClient(trust_env=False) as client:
        return await client.post(f"{base_url}/chat/completions", json=body(text_part("Hi")))


async def test_without_trouble_an_answer_is_an_answer():
    response = await asked(Trouble())
    assert response.json()["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("throttled", 429, "rate_limit_exceeded"),
        ("overloaded", 503, "UNAVAILABLE"),
        ("upstream-error", 200, "upstream_error"),
    ],
)
async def test_a_fault_may_be_an_error_in_the_gateways_shape(fault: Fault, status: int, code: str):
    response = await asked(Trouble({fault: 1.0}))
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_a_bad_gateway_answers_with_a_page():
    response = await asked(Trouble({"bad-gateway": 1.0}))
    assert (response.status_code, response.headers["content-type"]) == (502, "text/html; charset=utf-8")


async def test_a_blocked_answer_is_paid_and_has_no_text():
    answer = (await asked(Trouble({"blocked": 1.0}))).json()
    [choice] = answer["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "content_filter")
    assert answer["usage"]["total_tokens"] > 0


async def test_an_answer_may_lack_its_usage():
    answer = (await asked(Trouble({"no-usage": 1.0}))).json()
    assert "usage" not in answer
    assert answer["choices"][0]["message"]["content"]


async def test_a_broken_answer_is_no_json():
    response = await asked(Trouble({"broken": 1.0}))
    assert response.status_code == 200
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
        response.json()


async def test_a_reset_breaks_the_connection():
    with pytest.raises(httpx.TransportError):
        await asked(Trouble({"reset": 1.0}))


async def test_an_answer_takes_its_latency():
    began = time.monotonic()
    assert (await asked(Trouble(latency_s=0.2))).status_code == 200
    assert time.monotonic() - began >= 0.2


async def drawn(course: Course) -> str:
    async def answer() -> dict[str, object]:
        return {"choices": [{"message": {"content": "Hi"}}], "usage": {}}

    try:
        completion, fault = await course.ask(answer)
    except Refusal as refusal:
        return str(refusal.status)
    return fault or ("ok" if "usage" in completion else "no-usage")


async def test_shares_are_kept_and_a_seed_repeats_them():
    """Of 2,000: a tenth throttled, a fifth broken; four standard deviations are 54 and 72."""
    shares: Mapping[Fault, float] = {"throttled": 0.1, "broken": 0.2}
    first, again, other = (Course(Trouble(shares, seed=seed)) for seed in (1, 1, 2))
    told = [await drawn(first) for _ in range(2000)]
    counts = Counter(told)
    assert abs(counts["429"] - 200) < 54
    assert abs(counts["broken"] - 400) < 72
    assert set(counts) == {"429", "broken", "ok"}
    assert [await drawn(again) for _ in range(2000)] == told
    assert [await drawn(other) for _ in range(2000)] != told


async def test_past_its_requests_a_minute_it_says_429_until_the_first_is_a_minute_old():
    now = 0.0
    course = Course(Trouble(rpm=2), clock=lambda: now)
    assert [await drawn(course) for _ in range(3)] == ["ok", "ok", "429"]
    now = 59.9
    assert await drawn(course) == "429"
    now = 60.0
    assert [await drawn(course) for _ in range(3)] == ["ok", "ok", "429"]


async def test_past_its_slots_it_says_429_and_gives_them_back():
    course = Course(Trouble(slots=2, latency_s=0.01))
    told = await asyncio.gather(*(drawn(course) for _ in range(5)))
    assert Counter(told) == {"ok": 2, "429": 3}
    assert await drawn(course) == "ok"


@pytest.mark.parametrize(
    "value", ["overloaded", "overloaded=2", "overloaded=x", "overloded=0.1", "reset=nan"]
)
def test_a_fault_that_nobody_knows_is_a_usage_error(value: str):
    result = CliRunner().invoke(serve, ["--fault", value])
    assert result.exit_code == 2
    assert f"--fault {value!r}: NAME=SHARE" in result.output
    assert all(name in result.output for name in FAULTS)


def test_shares_are_at_most_one_together():
    result = CliRunner().invoke(serve, ["--fault", "overloaded=0.6", "--fault", "reset=0.6"])
    assert result.exit_code == 2
    assert "more than 1 together" in result.output


def test_every_fault_is_explained():
    page = " ".join(CliRunner().invoke(serve, ["--help"]).output.split())
    module = (Path(__file__).parents[2] / "pipeline/embedded/trouble.py").read_text("utf-8")
    assert all(f"    {name} " in module for name in FAULTS)
    assert all(name in page for name in FAULTS)
