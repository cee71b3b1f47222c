"""Any status but 200, or an error object inside a 200 → an error of our tree.

Owns the table of what endpoints answer when something is wrong: by status and code, never by the text of a
message (the one exception is `media_causes`). Refuses policy: how often a class is tried, and when a run
halts, stands with the classes in `pipeline.errors`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline import errors
from pipeline.dialects.media_causes import is_about_conversion, media_cause
from pipeline.dialects.wire import NOT_JSON, load, plain, request_id, retry_after_s
from pipeline.errors import AttemptError
from pipeline.records import AttemptState, Reply


@dataclass(frozen=True, slots=True)
class _Complaint:
    """What an error body says. ``code`` is "" where it is missing, null or empty."""

    code: str
    type: str
    message: str
    is_json: bool


@dataclass(frozen=True, slots=True)
class _Verdict:
    error: type[AttemptError]
    happened: str
    advice: str = ""
    state: AttemptState | None = None


def classify_failure(
    status: int, headers: Mapping[str, str], body: bytes, *, is_gateway: bool
) -> AttemptError:
    """The error a status other than 200 means.

    ``is_gateway``: a 401 with a code of its own was passed through from behind the gateway, and so is not
    about our key.
    """
    complaint = _read(load(body), body)
    verdict = _verdict(status, complaint, headers, is_gateway)
    return _error(
        verdict,
        complaint,
        status,
        request_id=request_id(headers),
        retry_after_s=retry_after_s(headers),
    )


def error_in_200(error: object, reply: Reply | None) -> AttemptError:
    """The error that an ``error`` object in the body of a 200 means; ``reply`` where usage came with it."""
    complaint = _read({"error": error}, b"")
    if _is_content(complaint.code):
        verdict = _BLOCKED
    elif "insufficient_quota" in (complaint.code, complaint.type):
        verdict = _NO_CREDIT
    elif complaint.code in _CREDIT_CODES:
        verdict = _RESERVED
    else:
        verdict = _Verdict(errors.UpstreamFailed, "the endpoint answered 200, but with an error")
    return _error(verdict, complaint, 200, reply=reply)


def _error(
    verdict: _Verdict,
    complaint: _Complaint,
    status: int,
    *,
    request_id: str | None = None,
    retry_after_s: float | None = None,
    reply: Reply | None = None,
) -> AttemptError:
    sentence = f"{verdict.happened} ({', '.join(filter(None, (str(status), plain(complaint.code, 80))))})"
    if verdict.advice:
        sentence += f": {verdict.advice}"
    # The id is filed in a column of its own, and ids make equal messages differ.
    said = plain(_REQUEST_ID.sub("", complaint.message))
    if said:
        sentence += f"; it says: {said}"
    return verdict.error(
        sentence,
        http_status=status,
        code=plain(complaint.code, 100) or None,
        request_id=request_id,
        state=verdict.state if reply is None else None,
        reply=reply,
        retry_after_s=retry_after_s,
    )


_BLOCKED = _Verdict(errors.ContentBlocked, "a content rule of the endpoint refuses this input")
_NO_CREDIT = _Verdict(errors.OutOfCredit, "the account has no credit left", "top it up, then resume")
_RESERVED = _Verdict(
    errors.CreditReserved,
    "the credit left does not cover this request",
    "top up the account, or the key's quota, if it stays so",
)
_BAD_INPUT = _Verdict(errors.BadInput, "the endpoint refuses this request")
_UNREADABLE = _Verdict(errors.MediaUnreadable, "the endpoint cannot read the media of this request")
_OVERLOADED = _Verdict(errors.Overloaded, "the endpoint, or what is behind it, failed")
_UNKNOWN_MODEL = _Verdict(
    errors.UnknownModel, "the endpoint does not know the model", "check --model, and what the key may use"
)
_NO_GATEWAY_PRICE = _Verdict(
    errors.NoGatewayPrice,
    "the gateway has no price for the model",
    "its operator has to set one, or choose another --model",
)

_CREDIT_CODES = frozenset({"insufficient_user_quota", "pre_consume_token_quota_failed"})

# Codes of moderation, in the spellings of new-api, OpenAI, Azure, DashScope and Ark. Written narrowly: a
# bare "blocked" or "content" also stands in codes about accounts and content types.
_CONTENT = re.compile(
    r"prompt_?blocked|moderation|sensitive|safety|prohibited_?content|csam|responsible_?ai|policy_?violation"
    r"|datainspection_?failed|data_inspection_failed|content_?(?:filter|policy|blocked|violation|management)"
)
# Codes about the media of a request: OpenAI's (invalid_image_url, image_parse_error, …), and DashScope's
# for a download that failed while it was inspected.
_MEDIA = re.compile(
    r"^invalidparameter\.datainspection$"
    r"|(?=.*(?:image|audio|video|media|file|base64))"
    r".*(?:invalid|unsupported|parse|decod|download|fetch|format|not_?found|too_?(?:large|small)|empty|corrupt)"
)
_UNKNOWN_MODEL_CODE = re.compile(
    r"model.*(?:not_?found|not_?exist|unknown|invalid)|(?:unknown|invalid)_?model"
)
# A code that only repeats the status tells nothing; there the type does (vLLM, SGLang, Gemini, Anthropic).
_NOT_FOUND_TYPES = frozenset({"notfounderror", "not_found", "not_found_error"})


def _is_content(code: str) -> bool:
    return _CONTENT.search(code.lower()) is not None


def _verdict(status: int, complaint: _Complaint, headers: Mapping[str, str], is_gateway: bool) -> _Verdict:
    code = complaint.code
    # What a code says beyond doubt, whatever the status: gateways let operators remap statuses, and
    # new-api answers 500 to its own word list.
    if status >= 400:
        if _is_content(code):
            return _BLOCKED
        if code == "model_price_error":
            return _NO_GATEWAY_PRICE
    if 300 <= status < 400:
        return _redirected(headers)
    if 400 <= status < 500:
        return _client_error(status, complaint, is_gateway)
    if 500 <= status < 600:
        return _server_error(status, complaint)
    return _Verdict(errors.Unexpected, "the endpoint answered with a status nobody foresaw")


def _client_error(status: int, complaint: _Complaint, is_gateway: bool) -> _Verdict:
    code = complaint.code
    match status:
        case 400:
            return _UNREADABLE if _MEDIA.match(code.lower()) else _BAD_INPUT
        case 401:
            if is_gateway and code:
                return _Verdict(
                    errors.ChannelKeyRejected,
                    "the upstream of the gateway rejects the gateway's own key",
                    "where no gateway stands between, check MEDIABATCH_API_KEY",
                )
            return _Verdict(errors.KeyRejected, "the endpoint rejects the key", "check MEDIABATCH_API_KEY")
        case 402:
            return _NO_CREDIT
        case 403:
            if code in _CREDIT_CODES:
                return _RESERVED
            return _Verdict(
                errors.AccessDenied,
                "the endpoint denies access",
                "check what the account, this address and the key may use",
            )
        case 404:
            return _not_found(complaint)
        case 408 | 409 | 425:
            return _Verdict(errors.TimingConflict, "the endpoint could not take the request just now")
        case 413:
            return _Verdict(errors.TooLarge, "the request is too large for the endpoint")
        case 429:
            if "insufficient_quota" in (code, complaint.type):
                return _NO_CREDIT
            return _Verdict(errors.Throttled, "the endpoint asks to slow down")
        case _:
            return _BAD_INPUT


def _not_found(complaint: _Complaint) -> _Verdict:
    code = complaint.code.lower()
    if _UNKNOWN_MODEL_CODE.search(code):
        return _UNKNOWN_MODEL
    if code in ("", "404") and complaint.type.lower() in _NOT_FOUND_TYPES:
        return _UNKNOWN_MODEL
    if not complaint.is_json or code == "":
        return _Verdict(
            errors.WrongAddress,
            "no chat-completions endpoint answers there",
            "check --base-url (it includes /v1)",
        )
    return _Verdict(errors.NotServed, "the endpoint does not serve this request")


def _server_error(status: int, complaint: _Complaint) -> _Verdict:
    code = complaint.code
    if status == 503 and code == "model_not_found":
        return _Verdict(
            errors.NoChannel,
            "no channel of the gateway serves the model at the moment",
            "check --model if it stays so",
        )
    if status == 500 and is_about_conversion(code):
        match media_cause(complaint.message):
            case "gone":
                return _UNREADABLE
            case "passing":
                return _Verdict(
                    errors.MediaHostFailed, "the gateway could not fetch the media of this request just now"
                )
            case _:
                # It failed before the gateway sent anything on, so nothing was billed.
                return _Verdict(
                    errors.Overloaded, "the gateway could not convert the request", state="not_billed"
                )
    return _OVERLOADED


def _redirected(headers: Mapping[str, str]) -> _Verdict:
    target = plain(headers.get("location") or "", 200)
    where = f"to {target}" if target else "without saying where to"
    return _Verdict(
        errors.WrongAddress,
        f"the base URL redirects {where}",
        "set --base-url to the address that answers itself",
    )


def _read(answer: object, body: bytes) -> _Complaint:
    """Tolerant: the family's object, an array around it (Gemini), fields at the top (vLLM), `detail`
    (FastAPI), a bare string, an HTML page, nothing."""
    if answer is NOT_JSON:
        return _Complaint("", "", _page_title(body), is_json=False)
    if type(answer) is list and answer:
        answer = answer[0]
    if type(answer) is not dict:
        return _Complaint("", "", answer if type(answer) is str else "", is_json=True)
    inner = answer.get("error")
    if type(inner) is str and inner:
        return _Complaint(_word(answer.get("code")), _word(answer.get("type")), inner, is_json=True)
    fields = inner if type(inner) is dict and inner else answer
    message = fields.get("message") or fields.get("detail") or fields.get("msg") or ""
    return _Complaint(
        code=_word(fields.get("code")),
        type=_word(fields.get("type")) or _word(fields.get("status")),
        message=message if type(message) is str else plain(repr(message)[:2000]),
        is_json=True,
    )


def _word(value: object) -> str:
    """A code as text: endpoints write it as a string, a number or null."""
    if type(value) is str:
        return value.strip()
    if type(value) is int and abs(value) < 10**18:
        return str(value)
    return f"{value:g}" if type(value) is float else ""


_REQUEST_ID = re.compile(r"\s*\(request id: \w*\)\s*$")
_TITLE = re.compile(r"<title[^>]*>([^<]{1,300})", re.IGNORECASE)


def _page_title(body: bytes) -> str:
    text = bytes(body[:4000]).decode("utf-8", "replace")
    title = _TITLE.search(text)
    return title.group(1) if title else text
