"""Whatever an endpoint sends: an answer or an error of ours, and counts that add up."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dialects import DIALECTS, Dialect, media_seen
from pipeline.errors import AttemptError
from pipeline.records import MEDIA_MODALITIES, Media, Reply, Request, Usage
from tests.dialects.made import REPLIES

QUICK = settings(deadline=None, max_examples=300)

requests = st.lists(st.sampled_from(MEDIA_MODALITIES), max_size=4).map(
    lambda modalities: Request("m", "p", tuple(Media(m, "https://e.com/x") for m in modalities), {})
)
dialects = st.sampled_from(list(DIALECTS.values()))

numbers = st.one_of(
    st.integers(-5, 3000),
    st.integers(),
    st.floats(),
    st.integers(0, 3000).map(float),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
)
anything: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, anything)


def some(keys: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


details = mostly(
    some(
        {
            f"{name}_tokens": numbers
            for name in ("text", "audio", "image", "video", "document", "cached", "reasoning")
        }
    )
)
usages = mostly(
    some(
        {
            **dict.fromkeys(
                (
                    "prompt_tokens",
                    "completion_tokens",
                    "total_tokens",
                    "input_tokens",
                    "output_tokens",
                    "prompt_cache_hit_tokens",
                    "cached_tokens",
                    "reasoning_tokens",
                    "claude_cache_creation_5_m_tokens",
                    "claude_cache_creation_1_h_tokens",
                    "cost",
                ),
                numbers,
            ),
            "prompt_tokens_details": details,
            "input_tokens_details": details,
            "completion_tokens_details": details,
            "output_tokens_details": details,
        }
    )
)
parts = mostly(some({"type": mostly(st.just("text")), "text": mostly(st.text(max_size=8))}))
messages = mostly(
    some(
        {
            "content": mostly(st.one_of(st.text(max_size=8), st.lists(parts, max_size=3))),
            "refusal": mostly(st.text(max_size=8)),
        }
    )
)
choices = mostly(
    st.lists(
        mostly(
            some(
                {
                    "message": messages,
                    "finish_reason": mostly(st.sampled_from(["stop", "length", "content_filter"])),
                    "error": anything,
                }
            )
        ),
        max_size=2,
    )
)
bodies = mostly(
    some({"id": anything, "model": anything, "choices": choices, "usage": usages, "error": mostly(st.none())})
)


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()  # takes NaN, infinities and lone surrogates, as some servers write them


def usage_of(body: bytes, request: Request, dialect: Dialect) -> Usage | None:
    """The usage of the reply, or of the reply that an error carries; any other exception fails the test."""
    error: AttemptError | None = None
    reply: Reply | None
    try:
        reply = dialect.parse(body, request)
    except AttemptError as caught:
        error, reply = caught, caught.reply
    if error is None:
        assert reply is not None
        assert reply.text is not None
    else:
        assert str(error).isprintable()
        assert error.state in ("not_billed", "billed", "possibly_billed")
    if reply is None:
        return None
    for text in (reply.text, reply.finish_reason, reply.model, reply.reply_id):
        assert text is None or text.encode() is not None
    assert isinstance(media_seen(request, reply.usage), tuple)
    return reply.usage


def assert_counts_add_up(usage: Usage) -> None:
    assert all(type(count.tokens) is int and count.tokens > 0 for count in usage.counts)
    assert sum(count.tokens for count in usage.counts) == usage.total_tokens
    inputs = sum(count.tokens for count in usage.counts if count.direction == "input")
    assert inputs == usage.prompt_tokens
    leaves = [(count.modality, count.direction, count.kind) for count in usage.counts]
    outputs = [leaf for leaf in leaves if leaf != ("unattributed", "output", "fresh")]
    assert len(set(outputs)) == len(outputs)  # an unattributed output may also be the excess of the total
    assert usage.raw.encode()


@settings(deadline=None, max_examples=500)
@given(body=bodies, request=requests, dialect=dialects)
def test_any_json_is_a_reply_or_an_error_and_its_counts_add_up(
    body: Any, request: Request, dialect: Dialect
) -> None:
    usage = usage_of(as_bytes(body), request, dialect)
    if usage is not None:
        assert_counts_add_up(usage)


@settings(deadline=None, max_examples=500)
@given(usage=usages, request=requests)
def test_any_usage_gives_counts_that_add_up(usage: Any, request: Request) -> None:
    body = as_bytes({"choices": [{"message": {"content": "x"}}], "usage": usage})
    found = usage_of(body, request, DIALECTS["newapi"])
    if found is not None:
        assert_counts_add_up(found)


@QUICK
@given(body=st.binary(max_size=200), request=requests, dialect=dialects)
def test_any_bytes_are_a_reply_or_an_error(body: bytes, request: Request, dialect: Dialect) -> None:
    usage = usage_of(body, request, dialect)
    if usage is not None:
        assert_counts_add_up(usage)


@QUICK
@given(data=st.data(), request=requests, dialect=dialects)
def test_a_damaged_reply_is_a_reply_or_an_error(data: Any, request: Request, dialect: Dialect) -> None:
    whole = data.draw(st.sampled_from(sorted(REPLIES.glob("*.json")))).read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    kept = data.draw(st.integers(at, len(whole)))
    usage = usage_of(whole[:at] + data.draw(st.binary(max_size=4)) + whole[kept:], request, dialect)
    if usage is not None:
        assert_counts_add_up(usage)


@QUICK
@given(
    status=st.integers(0, 700),
    headers=st.dictionaries(
        st.sampled_from(
            ["retry-after", "retry-after-ms", "date", "location", "x-request-id", "x-oneapi-request-id"]
        ),
        st.text(max_size=30),
    ),
    body=st.one_of(st.binary(max_size=100), bodies.map(as_bytes), anything.map(as_bytes)),
    dialect=dialects,
)
def test_any_failure_is_an_error_of_ours(
    status: int, headers: dict[str, str], body: bytes, dialect: Dialect
) -> None:
    error = dialect.classify(status, headers, body)
    assert isinstance(error, AttemptError)
    assert str(error).isprintable()
    assert str(error).encode()
    assert error.retry_after_s is None or 0 <= error.retry_after_s < float("inf")
    assert error.request_id is None or error.request_id.encode()


@QUICK
@given(prompt=st.text(), model=st.text(max_size=20), dialect=dialects)
def test_any_prompt_travels_unchanged(prompt: str, model: str, dialect: Dialect) -> None:
    body = orjson.loads(dialect.render(Request(model, prompt, (), {}), ()))
    assert body["messages"][0]["content"] == [{"type": "text", "text": prompt}]
    assert body["model"] == model


@pytest.mark.parametrize("name", [path.stem for path in sorted(REPLIES.glob("*.json"))])
@settings(deadline=None, max_examples=20)
@given(request=requests)
def test_recorded_replies_add_up_whatever_was_sent(name: str, request: Request) -> None:
    usage = usage_of((REPLIES / f"{name}.json").read_bytes(), request, DIALECTS["openai"])
    if usage is not None:
        assert_counts_add_up(usage)
