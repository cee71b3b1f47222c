"""How the embedded endpoint says no: the statuses, codes and sentences of the gateway it stands in for.

The shapes follow the new-api family of gateways: ``{"error": {"message", "type", "param", "code"}}`` with a
message that ends in the request's id. What the gateway itself refuses is of type ``new_api_error``; what the
model behind it would refuse is passed through as ``upstream_error``.
"""

from __future__ import annotations

from pipeline.media.probing import UnreadableMedia


class Refusal(Exception):
    """An answer that is no completion."""

    def __init__(self, status: int, message: str, *, type: str = "new_api_error", code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code

    def body(self, request_id: str) -> dict[str, object]:
        message = f"{self.message} (request id: {request_id})"
        return {"error": {"message": message, "type": self.type, "param": "", "code": self.code}}


def wrong_key() -> Refusal:
    return Refusal(401, "Invalid token")


def unknown_path(method: str, path: str) -> Refusal:
    return Refusal(404, f"Invalid URL ({method} {path})", type="invalid_request_error")


def invalid_request(problem: str) -> Refusal:
    """The body itself is wrong, whatever the media are."""
    return Refusal(400, problem, code="invalid_request")


def body_too_large(limit_bytes: int) -> Refusal:
    limit = f"{limit_bytes // 1024**2} MB"
    return Refusal(413, f"request body is larger than {limit}", code="read_request_body_failed")


def invalid_argument(problem: str) -> Refusal:
    """What the model's own API would refuse about the input."""
    return Refusal(400, problem, type="upstream_error", code="INVALID_ARGUMENT")


def throttled(limit: str) -> Refusal:
    return Refusal(429, f"too many requests: {limit}", code="rate_limit_exceeded")


def overloaded() -> Refusal:
    return Refusal(503, "the model is overloaded; try again later", type="upstream_error", code="UNAVAILABLE")


def upstream_failed() -> Refusal:
    """Told with status 200, as some gateways do."""
    return Refusal(200, "the upstream failed", type="upstream_error", code="upstream_error")


def unreadable(place: str, problem: UnreadableMedia) -> Refusal:
    """``place`` says which part of the request holds the medium, and what its sender took it for."""
    sent_as = place.rpartition(".")[2].removesuffix("_url").removeprefix("input_")
    kind = sent_as if problem.kind == "medium" else problem.kind
    return invalid_argument(f"Unable to process input {kind} ({place}): {problem.reason}")


def download_failed(url: str, cause: str) -> Refusal:
    """The medium could not be fetched; ``cause`` holds the download's status or what went wrong."""
    return Refusal(500, f"get file data from '{url}' failed: {cause}", code="convert_request_failed")


def bug(error: Exception) -> Refusal:
    return Refusal(500, f"the embedded endpoint failed: {type(error).__name__}: {error}", code="embedded_bug")
