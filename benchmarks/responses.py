"""HTTP as the server writes and reads it: whole responses, and a request's length."""

from __future__ import annotations

_LENGTH = b"\r\ncontent-length:"


def response(status: str, body: bytes, *headers: str) -> bytes:
    """One whole HTTP response."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body)}",
        "X-Oneapi-Request-Id: 20260305115737676032340t6X05q67",
        *(["Content-Type: application/json"] if body else []),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def content_length(head: bytes) -> int | None:
    head = head.lower()
    start = head.find(_LENGTH)
    if start < 0:
        return None
    start += len(_LENGTH)
    end = head.find(b"\r", start)
    return int(head[start : end if end >= 0 else None])
