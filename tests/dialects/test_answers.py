"""What stands in the body of a 200."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pipeline.dialects import DIALECTS
from pipeline.errors import (
    BrokenReply,
    ContentBlocked,
    CreditReserved,
    EmptyReply,
    OutOfCredit,
    UpstreamFailed,
)
from pipeline.records import Reply
from tests.dialects.made import answer, request_of

USAGE = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}


def parse(body: bytes) -> Reply:
    return DIALECTS["newapi"].parse(body, request_of())


def choice(content: Any = None, finish: Any = "stop", **message: Any) -> list[Any]:
    return [{"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("yes", "yes"),
        ("", ""),
        (None, ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "thinking", "text": "hm"}, {"type": "text", "text": "b"}, 7, None, {}], "b"),
        ({"text": "a"}, ""),
        (7, ""),
    ],
)
def test_content_may_be_a_string_null_or_parts(content: Any, text: str) -> None:
    assert parse(answer(choices=choice(content))).text == text


def test_a_refusal_is_the_text() -> None:
    reply = parse(answer(choices=choice(None, refusal="I can't help with that.")))
    assert (reply.text, reply.finish_reason) == ("I can't help with that.", "stop")


@pytest.mark.parametrize("finish", ["length", "stop", None, "tool_calls"])
def test_an_empty_text_that_was_not_blocked_is_an_answer(finish: str | None) -> None:
    reply = parse(answer(USAGE, choices=choice("", finish)))
    assert (reply.text, reply.finish_reason) == ("", finish)


def test_a_cut_text_is_an_answer_with_its_finish_reason() -> None:
    assert parse(answer(choices=choice("half a sen", "length"))).finish_reason == "length"


def test_a_text_that_a_filter_cut_is_an_answer() -> None:
    assert parse(answer(choices=choice("half", "content_filter"))).text == "half"


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY", "PROHIBITED_CONTENT"])
def test_blocked_and_empty_is_no_answer(finish: str) -> None:
    with pytest.raises(EmptyReply) as caught:
        parse(answer(USAGE, choices=choice(" \n", finish)))
    assert caught.value.state == "billed"
    assert caught.value.reply is not None


@pytest.mark.parametrize("choices", [[], None, {}, "x", [None], [{}], [{"message": None}]])
def test_no_choice_is_no_answer_and_its_usage_is_kept(choices: Any) -> None:
    with pytest.raises(EmptyReply) as caught:
        parse(answer(USAGE, choices=choices))
    assert caught.value.state == "billed"
    assert caught.value.reply is not None
    assert caught.value.reply.usage is not None
    assert caught.value.reply.usage.total_tokens == 13


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}])
def test_no_choice_and_no_tokens_may_have_been_billed(usage: Any) -> None:
    with pytest.raises(EmptyReply) as caught:
        parse(answer(usage, choices=[]))
    assert caught.value.state == "possibly_billed"


@pytest.mark.parametrize(
    ("body", "came"),
    [
        (b"", "an empty body"),
        (b"  \n", "an empty body"),
        (b"<!doctype html><html><h1>502</h1>", "a page instead of JSON: <!doctype html>"),
        (b'data: {"choices":[]}\n\ndata: [DONE]', "an event stream, although none was asked for: data:"),
        (b": keep-alive\n\n", "an event stream"),
        (b'{"choices":[{"message":{"content":"cut', "JSON that is cut off or damaged (38 bytes): {"),
        (b"upstream connect error", "something that is not JSON: upstream connect error"),
        (b"[1, 2]", "a JSON array instead of a chat completion: [1, 2]"),
        (b'"hello"', "a bare JSON value instead of a chat completion"),
        (b'{"status":"ok"}', 'a JSON object without choices: {"status":"ok"}'),
        (b"\xff\xfe\x00", "something that is not JSON"),
    ],
)
def test_what_came_instead_is_said(body: bytes, came: str) -> None:
    with pytest.raises(BrokenReply) as caught:
        parse(body)
    assert came in str(caught.value)
    assert len(str(caught.value)) < 220
    assert caught.value.state == "possibly_billed"


def test_an_error_object_in_a_200_means_the_upstream_failed() -> None:
    with pytest.raises(UpstreamFailed, match="upstream timed out") as caught:
        parse(b'{"error":{"message":"upstream timed out","type":"upstream_error","code":"bad_response"}}')
    assert caught.value.state == "possibly_billed"
    assert caught.value.code == "bad_response"
    assert caught.value.http_status == 200


def test_an_error_object_with_usage_was_billed() -> None:
    with pytest.raises(UpstreamFailed) as caught:
        parse(answer(USAGE, error={"message": "cut"}))
    assert caught.value.state == "billed"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("content_filter", ContentBlocked),
        ("insufficient_quota", OutOfCredit),
        ("insufficient_user_quota", CreditReserved),
        (502, UpstreamFailed),
    ],
)
def test_the_code_of_an_error_in_a_200_decides(code: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse(orjson.dumps({"error": {"message": "m", "code": code}}))


def test_an_error_inside_a_choice_counts() -> None:
    with pytest.raises(UpstreamFailed, match="provider went away"):
        parse(
            answer(USAGE, choices=[{"error": {"message": "provider went away", "code": 502}, "message": {}}])
        )


def test_gemini_puts_its_error_into_an_array() -> None:
    with pytest.raises(UpstreamFailed, match="quota"):
        parse(b'[{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED"}}]')


@pytest.mark.parametrize("error", [None, {}, "", {"message": "", "type": "", "param": "", "code": None}])
def test_an_error_object_that_says_nothing_is_no_error(error: Any) -> None:
    assert parse(answer(error=error)).text == "yes"


def test_lone_surrogates_do_not_lose_a_paid_reply() -> None:
    body = answer(USAGE).replace(b'"yes"', b'"a\\ud800b\\ud83d\\ude00"')
    reply = parse(body)
    assert reply.text == "a\ufffdb😀"
    assert reply.usage is not None
    assert reply.usage.total_tokens == 13


def test_bytes_that_are_no_utf8_do_not_lose_a_paid_reply() -> None:
    reply = parse(answer(USAGE).replace(b'"yes"', b'"a\xffb"'))
    assert reply.text == "a\ufffdb"
    assert reply.usage is not None


def test_a_byte_order_mark_is_no_harm() -> None:
    assert parse(b"\xef\xbb\xbf" + answer()).text == "yes"


def test_nan_and_huge_numbers_do_not_lose_a_paid_reply() -> None:
    body = answer(USAGE).replace(b'"total_tokens":13', b'"total_tokens":13,"cost":NaN,"x":' + b"9" * 400)
    reply = parse(body)
    assert reply.usage is not None
    assert reply.usage.total_tokens == 13
    assert reply.reported_cost is None


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"usage":' * 5_000, b'{"a":' * 800 + b"1" + b"}" * 800])
def test_deep_nesting_is_a_broken_reply(deep: bytes) -> None:
    with pytest.raises(BrokenReply):
        parse(deep)


def test_deep_nesting_inside_usage_does_not_lose_a_paid_reply() -> None:
    deep = b'{"a":' * 600 + b"1" + b"}" * 600
    reply = parse(answer(USAGE).replace(b'"total_tokens":13', b'"total_tokens":13,"x":' + deep))
    assert reply.usage is not None
    assert reply.usage.total_tokens == 13


def test_the_older_completions_spelling_is_text_too() -> None:
    assert parse(answer(choices=[{"text": "yes", "finish_reason": "stop"}])).text == "yes"


def test_names_of_the_wrong_type_are_unknown() -> None:
    reply = parse(answer(id=7, model=None, choices=choice("yes", 7)))
    assert (reply.reply_id, reply.model, reply.finish_reason) == (None, None, None)
