"""Every row of the table of what endpoints answer when something is wrong, over real HTTP: once as an odd
answer among healthy ones, and once from the start.

A case says what the endpoint answers, how often the item is tried, and what becomes of it. In these runs an
item has five tries, one slot keeps the rows in their order, and a retry comes after milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import QUICK_RETRIES, spend_night
from tests.serving.answers import (
    HANG_UP,
    RESET,
    USAGE,
    Answer,
    completion,
    cut_off,
    empty,
    event_stream,
    gateway_error,
    in_turn,
    json_answer,
    page,
    raw,
    redirect,
)
from tests.serving.server import Connection, Play, Received

MAX_ATTEMPTS = 5
HEALTHY = ["healthy 1", "healthy 2", "healthy 3", "healthy 4"]
ODD = "the odd one"
AMONG_HEALTHY = [*HEALTHY[:2], ODD, *HEALTHY[2:]]  # two answer before it, so it comes after a success

Fate = Literal["transient", "terminal", "halting"]


@dataclass(frozen=True)
class Case:
    """``tries``: requests the item makes if the answer stays; ``fate``: what it is when they are used up."""

    name: str
    answer: Play
    error_class: str
    fate: Fate
    tries: int = 1
    state: str = "not_billed"
    http_status: int | None = None
    dialect: str = "newapi"


def transient(name: str, answer: Play, error_class: str, state: str = "not_billed", tries: int = 5) -> Case:
    return Case(name, answer, error_class, "transient", tries, state, _status(answer))


def terminal(name: str, answer: Play, error_class: str, state: str = "not_billed") -> Case:
    return Case(name, answer, error_class, "terminal", 1, state, _status(answer))


def halting(name: str, answer: Play, error_class: str, tries: int = 1, dialect: str = "newapi") -> Case:
    return Case(name, answer, error_class, "halting", tries, "not_billed", _status(answer), dialect)


def _status(answer: Play) -> int | None:
    return answer.status if isinstance(answer, Answer) else None


NOW = "Thu, 05 Mar 2026 11:57:37 GMT"
SLOW_DOWN = gateway_error(
    429, "rate_limit_exceeded", "当前分组上游负载已饱和，请稍后再试", "rate_limit_error"
)
NO_CHOICES = completion(choices=[], usage=USAGE)
BLOCKED = completion(
    "", finish_reason="content_filter", usage={**USAGE, "completion_tokens": 0, "total_tokens": 1000}
)


def not_converted(message: str, code: str = "convert_request_failed") -> Answer:
    return gateway_error(500, code, message)


CASES = [
    # 401, the key
    halting("401 with an empty code", gateway_error(401, "", "无效的令牌"), "KeyRejected"),
    halting("401 with a null code", gateway_error(401, None, "Invalid token"), "KeyRejected"),
    halting("401 with an empty body", empty(401), "KeyRejected"),
    halting("401 with an HTML page", page(401), "KeyRejected"),
    halting(
        "401 with OpenAI's code for a bad key",
        gateway_error(401, "invalid_api_key", "Incorrect API key provided"),
        "KeyRejected",
        dialect="openai",
    ),
    # 401, the gateway's channel key
    halting(
        "401 with the upstream's own code",
        gateway_error(401, "invalid_api_key", "Incorrect API key provided"),
        "ChannelKeyRejected",
        tries=3,
    ),
    halting(
        "401 with the upstream's number code",
        gateway_error(401, 40101, "authentication"),
        "ChannelKeyRejected",
        3,
    ),
    # credit
    halting(
        "403 insufficient_user_quota",
        gateway_error(403, "insufficient_user_quota", "用户额度不足, 剩余额度: ¥0.000000"),
        "CreditReserved",
        tries=2,
    ),
    halting(
        "403 pre_consume_token_quota_failed",
        gateway_error(403, "pre_consume_token_quota_failed", "令牌额度不足"),
        "CreditReserved",
        tries=2,
    ),
    halting("402 as JSON", gateway_error(402, "payment_required"), "OutOfCredit"),
    halting("402 with an empty body", empty(402), "OutOfCredit"),
    halting("402 with an HTML page", page(402), "OutOfCredit"),
    # 403
    terminal("403 with a moderation code", gateway_error(403, "sensitive_words_detected"), "ContentBlocked"),
    terminal("403 with a content code", gateway_error(403, "content_policy_violation"), "ContentBlocked"),
    halting("403 with a null code", gateway_error(403, None, "该令牌无权访问模型"), "AccessDenied"),
    halting(
        "403 with an empty code", gateway_error(403, "", "您的 IP 不在令牌允许访问的列表中"), "AccessDenied"
    ),
    halting("403 with a number code", gateway_error(403, 1010), "AccessDenied"),
    halting("403 with an HTML page", page(403, "Attention Required! | Cloudflare"), "AccessDenied"),
    # 404
    halting(
        "404 Invalid URL",
        gateway_error(404, "", "Invalid URL (POST /chat/completions)", "invalid_request_error"),
        "WrongAddress",
    ),
    halting("404 with an HTML page", page(404), "WrongAddress"),
    halting("404 with an empty body", empty(404), "WrongAddress"),
    halting("404 of an unknown model", gateway_error(404, "model_not_found"), "UnknownModel"),
    halting("a redirect", redirect("https://elsewhere.example/v1/chat/completions"), "WrongAddress"),
    terminal("404 with another code", gateway_error(404, "file_id_expired"), "NotServed"),
    # 400 and the like: this input
    terminal("400 prompt_blocked", gateway_error(400, "prompt_blocked"), "ContentBlocked"),
    terminal(
        "400 INVALID_ARGUMENT", gateway_error(400, "INVALID_ARGUMENT", "API key not valid."), "BadInput"
    ),
    terminal("400 with a number code", gateway_error(400, 400, "Unable to process input image"), "BadInput"),
    terminal("400 of unreadable media", gateway_error(400, "invalid_image_format"), "MediaUnreadable"),
    terminal("400 with a null code", gateway_error(400, None), "BadInput"),
    terminal("400 with an empty body", empty(400), "BadInput"),
    terminal("400 with an HTML page", page(400), "BadInput"),
    terminal("422 as JSON", gateway_error(422, "unprocessable_entity"), "BadInput"),
    terminal("422 as FastAPI writes it", json_answer(422, {"detail": [{"loc": ["body"]}]}), "BadInput"),
    terminal("413 as JSON", gateway_error(413, "request_too_large"), "TooLarge"),
    terminal("413 with an HTML page", page(413), "TooLarge"),
    terminal("413 with an empty body", empty(413), "TooLarge"),
    # timing
    transient("408", gateway_error(408, "request_timeout"), "TimingConflict"),
    transient("408 with an empty body", empty(408), "TimingConflict"),
    transient("409", gateway_error(409, None), "TimingConflict"),
    transient("425", empty(425), "TimingConflict"),
    # 429
    transient("429 as JSON", SLOW_DOWN, "Throttled"),
    transient("429 with an empty body", empty(429), "Throttled"),
    transient("429 with a number code", gateway_error(429, 429, "Resource exhausted"), "Throttled"),
    transient("429 with a null code", gateway_error(429, None), "Throttled"),
    transient("429 with an HTML page", page(429), "Throttled"),
    transient("429 with Retry-After in seconds", SLOW_DOWN.with_headers(retry_after="0"), "Throttled"),
    transient(
        "429 with Retry-After as a date", SLOW_DOWN.with_headers(retry_after=NOW, date=NOW), "Throttled"
    ),
    transient("429 with retry-after-ms", empty(429).with_headers(retry_after_ms="5"), "Throttled"),
    transient(
        "429 with a Retry-After nobody can read", empty(429).with_headers(retry_after="soon"), "Throttled"
    ),
    halting("429 insufficient_quota", gateway_error(429, "insufficient_quota"), "OutOfCredit"),
    halting(
        "429 insufficient_quota as a type", gateway_error(429, None, "", "insufficient_quota"), "OutOfCredit"
    ),
    # 500 about the media: the message tells
    terminal(
        "media download 403", not_converted("download file failed, status code: 403"), "MediaUnreadable"
    ),
    terminal("media download 404", not_converted("下载文件失败，状态码：404"), "MediaUnreadable"),
    terminal(
        "media download 410",
        not_converted("failed to get file: status code 410", "count_token_messages_failed"),
        "MediaUnreadable",
    ),
    terminal("media MIME", not_converted("mime type is not supported: text/html"), "MediaUnreadable"),
    terminal("media size", not_converted("file size exceeds maximum allowed size: 64MB"), "MediaUnreadable"),
    transient(
        "media time-out", not_converted("context deadline exceeded (Client.Timeout)"), "MediaHostFailed"
    ),
    transient("media DNS", not_converted("dial tcp: lookup cdn.example: no such host"), "MediaHostFailed"),
    transient("media host 503", not_converted("download failed, status code: 503"), "MediaHostFailed"),
    transient("a conversion that tells no cause", not_converted("出现未知错误"), "Overloaded"),
    halting("500 model_price_error", gateway_error(500, "model_price_error"), "NoGatewayPrice"),
    # 5xx
    *(
        transient(
            f"{status} as JSON", gateway_error(status, "do_request_failed"), "Overloaded", "possibly_billed"
        )
        for status in (500, 502, 503, 504)
    ),
    *(
        transient(f"{status} with an HTML page", page(status), "Overloaded", "possibly_billed")
        for status in (500, 502, 503, 504, *range(520, 531))
    ),
    transient("500 with an empty body", empty(500), "Overloaded", "possibly_billed"),
    transient("503 with a null code", gateway_error(503, None, "系统繁忙"), "Overloaded", "possibly_billed"),
    transient("503 with a number code", gateway_error(503, 503), "Overloaded", "possibly_billed"),
    transient(
        "503 with Retry-After",
        gateway_error(503, "overloaded").with_headers(retry_after="0"),
        "Overloaded",
        "possibly_billed",
    ),
    halting(
        "503 model_not_found",
        gateway_error(503, "model_not_found", "分组 default 下模型无可用渠道"),
        "NoChannel",
        tries=4,
    ),
    # 200, and yet
    transient(
        "200 with an error object",
        json_answer(200, {"error": {"message": "upstream error", "type": "upstream_error", "code": 500}}),
        "UpstreamFailed",
        "possibly_billed",
        tries=3,
    ),
    transient(
        "200 with an error object and usage",
        completion(choices=[], error={"message": "上游错误", "code": None}),
        "UpstreamFailed",
        "billed",
        tries=3,
    ),
    transient("200 without choices", NO_CHOICES, "EmptyReply", "billed", tries=2),
    transient(
        "200 without choices or usage",
        completion(choices=[], usage=None),
        "EmptyReply",
        "possibly_billed",
        tries=2,
    ),
    transient("200 blocked", BLOCKED, "EmptyReply", "billed", tries=2),
    transient(
        "200 with truncated JSON", Answer(200, completion().body[:200]), "BrokenReply", "possibly_billed"
    ),
    transient("200 with an HTML page", page(200), "BrokenReply", "possibly_billed"),
    transient("200 with an event stream", event_stream(), "BrokenReply", "possibly_billed"),
    transient("200 with an empty body", empty(200), "BrokenReply", "possibly_billed"),
    # the wire, after the request was written
    transient("a reset", RESET, "ConnectionLost", "possibly_billed"),
    transient("hanging up", HANG_UP, "ConnectionLost", "possibly_billed"),
    transient("a body that breaks off", cut_off(completion(), 100), "ConnectionLost", "possibly_billed"),
    transient("no HTTP", raw(b"220 smtp.example ESMTP\r\n"), "BrokenReply", "possibly_billed"),
]

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_retried = pytest.mark.parametrize(
    "case", [case for case in CASES if case.tries > 1], ids=lambda case: case.name
)


@each_case
def test_one_odd_item_among_healthy_ones_fails_alone(case: Case, serve: Serve, tmp_path: Path):
    """After a success even a halting answer is no more than this item's failure."""
    server = serve(lambda received: case.answer if received.text == ODD else completion())

    night = spend_night(tmp_path, server.base_url, AMONG_HEALTHY, dialect=case.dialect)

    attempts = night.store.attempts_of(ODD)
    assert server.times(ODD) == len(attempts) == case.tries
    assert {attempt["error_class"] for attempt in attempts} == {case.error_class}
    assert {attempt["state"] for attempt in attempts} == {case.state}
    assert {attempt["http_status"] for attempt in attempts} == {case.http_status}
    assert night.store.ids("failed") == [ODD]
    assert night.store.result(ODD)["error_class"] == case.error_class
    assert night.store.ids("ok") == HEALTHY
    assert [server.times(item) for item in HEALTHY] == [1, 1, 1, 1]
    assert night.store.rows() == [1, 2, 3, 4, 5]
    assert (night.code, night.summary.state) == (5, "done")


@each_case
def test_an_endpoint_that_answers_so_from_the_start(case: Case, serve: Serve, tmp_path: Path):
    """What halts leaves every row not attempted and says why; anything else fails each item for itself."""
    server = serve(lambda received: case.answer)
    items = ["a", "b", "c"]
    # A 429 holds everybody for a second where no answer has shown how long one takes: two tries will do.
    most = 2 if case.error_class == "Throttled" else MAX_ATTEMPTS

    retry = replace(QUICK_RETRIES, max_attempts=most)
    night = spend_night(tmp_path, server.base_url, items, dialect=case.dialect, retry=retry)

    assert night.store.rows() == [1, 2, 3]
    if case.fate == "halting":
        assert (night.code, night.store.run["state"]) == (3, "halted")
        assert night.store.ids("not_attempted") == items
        assert [halt["error_class"] for halt in night.store.run["halts"]] == [case.error_class]
        assert max(map(server.times, items)) == case.tries
    else:
        assert (night.code, night.store.run["state"]) == (5, "done")
        assert night.store.ids("failed") == items
        assert set(night.store.results["error_class"]) == {case.error_class}
        assert [server.times(item) for item in items] == [min(case.tries, most)] * 3
    assert len(server.received) == night.store.attempts.height


@each_retried
def test_an_item_is_ok_once_the_endpoint_has_recovered(case: Case, serve: Serve, tmp_path: Path):
    server = serve(lambda received: in_turn(received, [case.answer], then=completion()))

    night = spend_night(tmp_path, server.base_url, [ODD], dialect=case.dialect)

    assert night.code == 0
    assert [attempt["error_class"] for attempt in night.store.attempts_of(ODD)] == [case.error_class, None]
    assert [attempt["state"] for attempt in night.store.attempts_of(ODD)] == [case.state, "billed"]
    result = night.store.result(ODD)
    assert (result["status"], result["attempts"], result["error_class"]) == ("ok", 2, None)


def test_an_answer_that_was_cut_off_is_ok_and_says_so(serve: Serve, tmp_path: Path):
    server = serve(lambda received: completion("a picture of", finish_reason="length"))

    night = spend_night(tmp_path, server.base_url, ["long"])

    result = night.store.result("long")
    assert (result["status"], result["finish_reason"], result["text"]) == ("ok", "length", "a picture of")
    assert (night.code, len(server.received)) == (0, 1)


def test_a_blocked_answer_is_priced_at_what_its_usage_says(serve: Serve, tmp_path: Path):
    """Two tries of 1,000 text tokens x $0.25/M."""
    server = serve(lambda received: BLOCKED)

    night = spend_night(tmp_path, server.base_url, ["blocked"])

    assert night.store.costs.select("attempt", "tokens", "cost").rows() == [
        (1, 1000, Decimal("0.00025")),
        (2, 1000, Decimal("0.00025")),
    ]
    assert night.store.result("blocked")["cost"] == Decimal("0.0005")


# --- when one answer too many stops the run ---

REJECTED = gateway_error(401, "", "无效的令牌")


def rejecting(items: Sequence[str]) -> object:
    return lambda received: REJECTED if received.text in items else completion()


def test_five_halting_answers_in_a_row_after_a_success_halt(serve: Serve, tmp_path: Path):
    bad = [f"bad {n}" for n in range(1, 6)]
    server = serve(rejecting(bad))

    night = spend_night(tmp_path, server.base_url, ["good", *bad, "late 1", "late 2"])

    assert (night.code, night.store.run["state"]) == (3, "halted")
    assert night.store.ids("ok") == ["good"]
    assert night.store.ids("failed") == bad[:4]
    assert night.store.ids("not_attempted") == [bad[4], "late 1", "late 2"]
    assert night.store.rows() == list(range(1, 9))
    assert len(server.received) == 6


def test_four_halting_answers_in_a_row_do_not_halt(serve: Serve, tmp_path: Path):
    bad = [f"bad {n}" for n in range(1, 9)]
    server = serve(rejecting(bad))
    rows = ["good", *bad[:4], "good again", *bad[4:], "good at last"]

    night = spend_night(tmp_path, server.base_url, rows)

    assert (night.code, night.store.run["state"]) == (5, "done")
    assert night.store.ids("failed") == bad
    assert night.store.ids("ok") == ["good", "good again", "good at last"]


def test_an_ordinary_failure_in_between_breaks_the_row(serve: Serve, tmp_path: Path):
    bad = [f"bad {n}" for n in range(1, 9)]

    def script(received: Received) -> Play:
        return gateway_error(400, "INVALID_ARGUMENT") if received.text == "odd" else rejecting(bad)(received)

    server = serve(script)

    night = spend_night(tmp_path, server.base_url, ["good", *bad[:4], "odd", *bad[4:]])

    assert (night.code, len(night.store.ids("failed"))) == (5, 9)


def test_a_halt_concerns_the_model_that_was_refused(serve: Serve, tmp_path: Path):
    def script(received: Received) -> Play:
        return gateway_error(404, "model_not_found") if received.model == "no-such" else completion()

    rows = [
        {"id": f"{model} {n}", "prompt": f"{model} {n}", "model": model}
        for n in (1, 2)
        for model in ("no-such", "gemini-3.1-flash-lite-preview")
    ]

    night = spend_night(tmp_path, serve(script).base_url, rows)

    assert night.code == 3
    assert night.store.ids("not_attempted") == ["no-such 1", "no-such 2"]
    assert len(night.store.ids("ok")) == 2
    assert [halt["model"] for halt in night.store.run["halts"]] == ["no-such"]


def test_what_is_in_flight_when_a_model_halts_is_waited_for(serve: Serve, tmp_path: Path):
    """The first is rejected while the second is under way, which ends as it ends; the third is not asked."""

    both_are_there = asyncio.Event()

    async def reject_later(received: Received, connection: Connection) -> None:
        await both_are_there.wait()
        await REJECTED(received, connection)

    def script(received: Received) -> Play:
        if received.text == "rejected":
            return reject_later
        both_are_there.set()
        return completion().after(0.3)

    server = serve(script)

    night = spend_night(tmp_path, server.base_url, ["rejected", "under way", "late"], slots=2)

    assert night.code == 3
    assert night.store.ids("ok") == ["under way"]
    assert night.store.ids("not_attempted") == ["rejected", "late"]
    assert len(server.received) == 2


TWENTY_FIVE = [f"item {n:02}" for n in range(1, 26)]
INVALID = gateway_error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")


@pytest.mark.parametrize("slots", [1, 4])
def test_a_run_whose_first_twenty_answers_all_end_alike_halts(serve: Serve, tmp_path: Path, slots: int):
    server = serve(lambda received: INVALID)

    night = spend_night(tmp_path, server.base_url, TWENTY_FIVE, slots=slots)

    assert (night.code, night.store.run["state"]) == (3, "halted")
    assert 20 <= len(server.received) < 20 + slots
    assert len(night.store.ids("failed")) == len(server.received)
    assert len(night.store.ids("not_attempted")) == 25 - len(server.received)
    assert night.store.rows() == list(range(1, 26))
    assert "BadInput" in night.store.run["halts"][0]["message"]


@pytest.mark.parametrize(
    "other", [completion(), gateway_error(413, None)], ids=["a success", "another class"]
)
def test_twenty_first_answers_of_which_one_differs_do_not_halt(serve: Serve, tmp_path: Path, other: Play):
    server = serve(lambda received: other if received.text == "item 07" else INVALID)

    night = spend_night(tmp_path, server.base_url, TWENTY_FIVE)

    assert (night.code, night.store.run["state"]) == (5, "done")
    assert night.store.rows() == list(range(1, 26))
    assert len(night.store.ids("failed")) == 25 - (isinstance(other, Answer) and other.status == 200)


def test_an_outage_in_between_is_no_verdict_on_the_items(serve: Serve, tmp_path: Path):
    """The other twenty still end alike, so the run halts, however late this one gives up."""
    server = serve(lambda received: empty(500) if received.text == "item 07" else INVALID)

    night = spend_night(tmp_path, server.base_url, TWENTY_FIVE)

    assert night.code == 3
    assert len(set(night.store.ids("failed")) - {"item 07"}) == 20


def test_bad_rows_are_no_answers(serve: Serve, tmp_path: Path):
    """Twenty-two bad rows say nothing about the endpoint."""
    rows = [{"id": f"bad {n}", "image_url": "ftp://example.com/a.jpg"} for n in range(22)]
    server = serve(lambda received: completion())

    night = spend_night(tmp_path, server.base_url, [*rows, {"id": "good", "prompt": "good"}])

    assert (night.code, len(server.received)) == (5, 1)
    assert night.store.ids("ok") == ["good"]
    assert len(night.store.ids("failed")) == 22
