"""JSON that may be anything, headers that may be anything, and words fit to be stored and shown.

Owns the tolerance: nothing here raises on what an endpoint sent. Refuses to judge it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

LONGEST_MESSAGE = 300  # characters of a provider's own words that go into an error
MOST_KEPT_BYTES = 4_096  # of a body that is no good answer


def load(body: bytes) -> Any:
    """The JSON value, or `NOT_JSON`.

    orjson first. What it refuses is given to the standard library, which takes lone surrogates, NaN, a
    byte order mark and (replaced) bytes that are no UTF-8: such a reply was paid for all the same.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return json.loads(body.decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError):
            return NOT_JSON


class _NotJson:
    def __repr__(self) -> str:
        return "NOT_JSON"


NOT_JSON = _NotJson()


def storable(text: object) -> str | None:
    """The text with lone surrogates replaced, so that it can be written as UTF-8; None if it is no text."""
    if type(text) is not str:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def json_text(value: object) -> str:
    """The value as compact JSON text, storable as UTF-8."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a lone surrogate, an integer past 64 bits, or nested too deep for orjson
        try:
            return json.dumps(value, separators=(",", ":"))
        except (ValueError, RecursionError):
            return "null"


def plain(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """One clean line: secrets masked, control characters gone, cut at ``longest`` characters."""
    text = storable(text) or ""
    # Looking at more than this would let a hostile body buy time; a cut secret is still masked.
    text = _mask(text[: 4 * longest + 1000])
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def said(body: bytes) -> str:
    """What is kept of a body that is no good answer: on one line, as `plain` leaves it."""
    return plain(body[:MOST_KEPT_BYTES].decode("utf-8", "replace"), MOST_KEPT_BYTES)


def request_id(headers: Mapping[str, str]) -> str | None:
    """new-api's id where there is one, else the usual header."""
    value = headers.get("x-oneapi-request-id") or headers.get("x-request-id")
    return (plain(value, 200) or None) if value else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait the endpoint asks for, in seconds, never negative; None where it names none one can read.

    Three spellings: ``retry-after-ms`` (the finest, so it wins), ``retry-after`` in seconds, and as an
    HTTP date, which is compared with the answer's own ``date``: the two clocks need not agree with ours.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return seconds
    then = _http_date(value)
    if then is None:
        return None
    now = _http_date(headers.get("date")) or datetime.now(UTC)
    return max(0.0, (then - now).total_seconds())


def _number(text: str | None) -> float | None:
    if text is None or not _DECIMAL.fullmatch(text.strip()):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _http_date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


_DECIMAL = re.compile(r"[0-9]{1,300}(\.[0-9]{0,300})?")

# What must not travel from a provider's message into a store or a terminal: keys, and the signed part of
# media URLs. Gateways mask some of it themselves; upstream messages passed through are not masked.
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\bdata:[\w.+/-]{0,80}(?:;[\w=.-]{1,40}){0,4},[A-Za-z0-9+/=%_-]+"), "data:***"),
    (re.compile(r"(https?://)[^\s/\"'@]{1,200}@"), r"\1***@"),
    (re.compile(r"(https?://[^\s\"'?<>]{1,2000})\?[^\s\"'<>]+"), r"\1?***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=*-]{4,}"), r"\1 ***"),
    (re.compile(r"(?i)\b(sk|pk|rk|ak|gsk|xai|hf|r8)([-_])[\w*.-]{4,}"), r"\1\2***"),
    (re.compile(r"\bAIza[\w-]{10,}"), "AIza***"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w.-]+"), "eyJ***"),
    (
        re.compile(
            r"(?i)((?:api[-_ ]?key|access[-_ ]?token|secret|authorization|password|令牌|密钥)"
            r"(?:\s+provided)?[^A-Za-z0-9]{1,4})(?=[\w.*-]*[0-9*])[\w.*-]{6,}"
        ),
        r"\1***",
    ),
    (
        re.compile(
            r"(?i)((?:key|token|令牌|密钥)[^A-Za-z0-9]{1,4})(?=[\w.*-]*[0-9])(?=[\w.*-]*[a-z])[\w.*-]{16,}"
        ),
        r"\1***",
    ),
)


def _mask(text: str) -> str:
    for pattern, mask in _SECRETS:
        text = pattern.sub(mask, text)
    return text
