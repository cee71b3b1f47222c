"""The body of a status 200 → `Reply`, or the error it really is.

Owns what a chat completion looks like, in every spelling the family uses. Whatever the bytes are, the
result is a `Reply` or an `AttemptError`; an error carries the usage, where there is one, because it was
paid for. Next: `usage` counts the tokens.
"""

from __future__ import annotations

from typing import Any

from pipeline.dialects.failures import error_in_200
from pipeline.dialects.usage import read_usage, reported_cost
from pipeline.dialects.wire import NOT_JSON, load, plain, storable
from pipeline.errors import BrokenReply, EmptyReply
from pipeline.records import AttemptState, Reply, Request

# OpenAI's word for a blocked answer, and Gemini's own, which some gateways pass through.
_BLOCKED = frozenset(
    {"content_filter", "safety", "prohibited_content", "blocklist", "spii", "recitation", "image_safety"}
)


def parse_chat(body: bytes, request: Request) -> Reply:
    """The reply in the body of a 200.

    Text is the first choice's message; parts are joined with a newline, a refusal counts as text. An empty
    text is an answer too (all tokens went to reasoning, or the model had nothing to say), unless it was
    blocked.

    Raises:
        BrokenReply: no chat completion came.
        EmptyReply: no choices, or blocked with an empty text.
        AttemptError: the body holds an ``error`` object; which class, its code says.
    """
    answer = load(body)
    if type(answer) is list and answer and type(answer[0]) is dict and "error" in answer[0]:
        answer = answer[0]  # Gemini's compatible endpoint puts its error objects into an array
    if type(answer) is not dict:
        raise BrokenReply(f"the endpoint answered 200 with {_what_came(answer, body)}", http_status=200)
    usage = answer.get("usage")
    choice, problem = _first_choice(answer.get("choices"))
    text = _text_of(choice)
    finish_reason = storable(choice.get("finish_reason"))
    reply = Reply(
        text=text,
        finish_reason=finish_reason,
        model=storable(answer.get("model")),
        reply_id=storable(answer.get("id")),
        usage=read_usage(usage, request),
        reported_cost=reported_cost(usage) if usage else None,
    )
    error = answer.get("error") or choice.get("error")
    if error and not (type(error) is dict and not any(error.values())):  # some always send an empty one
        raise error_in_200(error, reply if reply.usage else None)
    if text and not problem and not text.isspace():
        return reply
    if "choices" not in answer and usage is None:
        raise BrokenReply(f"the endpoint answered 200 with {_what_came(answer, body)}", http_status=200)
    if not problem and (finish_reason or "").lower() in _BLOCKED and not (text or "").strip():
        problem = f"blocked the answer ({plain(finish_reason or '', 40)})"
    if problem:
        raise EmptyReply(
            f"the endpoint {problem}",
            http_status=200,
            state=_state(reply),
            reply=reply if reply.usage else None,
        )
    return reply


def _state(reply: Reply) -> AttemptState | None:
    """Billed where tokens are counted; None leaves it to the class, which thinks it possible."""
    return "billed" if reply.usage and reply.usage.total_tokens else "possibly_billed"


def _first_choice(choices: object) -> tuple[dict[str, Any], str]:
    """The first choice, and what is wrong with it, if anything."""
    if not choices or type(choices) is not list:
        return {}, "gave no choices"
    choice = choices[0]
    if type(choice) is not dict:
        return {}, "gave a choice that is no object"
    if type(choice.get("message")) is not dict and type(choice.get("text")) is not str:
        return choice, "gave a choice without a message"
    return choice, ""


def _text_of(choice: dict[str, Any]) -> str | None:
    message = choice.get("message")
    if type(message) is not dict:
        return storable(choice.get("text"))  # the older completions spelling
    content = message.get("content")
    if type(content) is str:
        text = storable(content) or ""
    elif type(content) is list:
        text = "\n".join(
            storable(part["text"]) or ""
            for part in content
            if type(part) is dict
            and type(part.get("text")) is str
            and part.get("type") in ("text", "output_text", None)
        )
    else:
        text = ""
    return text or storable(message.get("refusal")) or ""


def _what_came(answer: object, body: bytes) -> str:
    """A sentence's end: what stands in the body instead of a chat completion."""
    head = plain(bytes(body[:400]).decode("utf-8", "replace"), 80)
    start = bytes(body[:400]).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "an empty body"
    if answer is NOT_JSON:
        if start.startswith((b"data:", b"event:", b":", b"id:", b"retry:")):
            return f"an event stream, although none was asked for: {head}"
        if start.startswith(b"<"):
            return f"a page instead of JSON: {head}"
        if start.startswith((b"{", b"[")):
            return f"JSON that is cut off or damaged ({len(body)} bytes): {head}"
        return f"something that is not JSON: {head}"
    if type(answer) is dict:
        return f"a JSON object without choices: {head}"
    kind = "a JSON array" if type(answer) is list else "a bare JSON value"
    return f"{kind} instead of a chat completion: {head}"
