"""What endpoints answer when something is wrong, row by row of the table the design was built on."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pipeline import errors
from pipeline.dialects import DIALECTS
from pipeline.dialects.media_causes import media_cause
from pipeline.errors import AttemptError
from pipeline.records import AttemptState

NOBODY = object()  # no code at all


def failure(
    status: int,
    code: Any = NOBODY,
    message: str = "something is wrong",
    *,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    dialect: str = "newapi",
    **more: Any,
) -> AttemptError:
    error = {"message": message, "type": "new_api_error", "param": "", **more}
    if code is not NOBODY:
        error["code"] = code
    return DIALECTS[dialect].classify(
        status, headers or {}, orjson.dumps({"error": error}) if body is None else body
    )


HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

ROWS: list[tuple[int, Any, type[AttemptError]]] = [
    # 401: the key; an upstream's own code is about the gateway's channel key
    (401, "", errors.KeyRejected),
    (401, None, errors.KeyRejected),
    (401, NOBODY, errors.KeyRejected),
    (401, "invalid_api_key", errors.ChannelKeyRejected),
    (401, 401, errors.ChannelKeyRejected),
    # 403: credit, content, or denied
    (403, "insufficient_user_quota", errors.CreditReserved),
    (403, "pre_consume_token_quota_failed", errors.CreditReserved),
    (403, "content_policy_violation", errors.ContentBlocked),
    (403, "moderation_blocked", errors.ContentBlocked),
    (403, "access_denied", errors.AccessDenied),
    (403, "account_blocked", errors.AccessDenied),
    (403, "", errors.AccessDenied),
    # 402: the account
    (402, "", errors.OutOfCredit),
    (402, 402, errors.OutOfCredit),
    # 404: address, model, or this input
    (404, "", errors.WrongAddress),
    (404, None, errors.WrongAddress),
    (404, "model_not_found", errors.UnknownModel),
    (404, "ModelNotFound", errors.UnknownModel),
    (404, "model_not_exist", errors.UnknownModel),
    (404, "file_not_here", errors.NotServed),
    # 400, 422: this input
    (400, "prompt_blocked", errors.ContentBlocked),
    (400, "content_filter", errors.ContentBlocked),
    (400, "DataInspectionFailed", errors.ContentBlocked),
    (400, "InvalidParameter.DataInspection", errors.MediaUnreadable),
    (400, "INVALID_ARGUMENT", errors.BadInput),
    (400, 400, errors.BadInput),
    (400, "", errors.BadInput),
    (400, None, errors.BadInput),
    (400, "invalid_image_url", errors.MediaUnreadable),
    (400, "image_parse_error", errors.MediaUnreadable),
    (400, "invalid_base64_image", errors.MediaUnreadable),
    (400, "unsupported_image_media_type", errors.MediaUnreadable),
    (422, "", errors.BadInput),
    # 413, 408, 409, 425
    (413, "", errors.TooLarge),
    (408, "", errors.TimingConflict),
    (409, None, errors.TimingConflict),
    (425, "", errors.TimingConflict),
    # 429: slow down, or no credit
    (429, "rate_limit_exceeded", errors.Throttled),
    (429, 429, errors.Throttled),
    (429, None, errors.Throttled),
    (429, "insufficient_quota", errors.OutOfCredit),
    # 500
    (500, "model_price_error", errors.NoGatewayPrice),
    (400, "model_price_error", errors.NoGatewayPrice),  # newer builds
    (500, "sensitive_words_detected", errors.ContentBlocked),
    (500, "do_request_failed", errors.Overloaded),
    (500, None, errors.Overloaded),
    (500, "model_not_found", errors.Overloaded),
    # 502 to 504, 520 to 530
    (502, "", errors.Overloaded),
    (503, "", errors.Overloaded),
    (503, "get_channel_failed", errors.Overloaded),
    (503, "model_not_found", errors.NoChannel),
    (504, 504, errors.Overloaded),
    *[(status, "", errors.Overloaded) for status in range(520, 531)],
    # what is left
    (301, "", errors.WrongAddress),
    (308, "", errors.WrongAddress),
    (405, "", errors.BadInput),
    (415, "", errors.BadInput),
    (451, "", errors.BadInput),
    (204, "", errors.Unexpected),
    (600, "", errors.Unexpected),
]


@pytest.mark.parametrize(("status", "code", "error"), ROWS)
def test_status_and_code_decide(status: int, code: Any, error: type[AttemptError]) -> None:
    assert type(failure(status, code)) is error


@pytest.mark.parametrize(("status", "code", "error"), ROWS)
def test_no_message_changes_what_status_and_code_decided(
    status: int, code: Any, error: type[AttemptError]
) -> None:
    misleading = "rate limit 429 insufficient_quota content_filter invalid api key model_not_found timeout"
    assert type(failure(status, code, misleading)) is error


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, b"", errors.Throttled),
        (502, HTML, errors.Overloaded),
        (524, HTML, errors.Overloaded),
        (500, b"", errors.Overloaded),
        (401, b"", errors.KeyRejected),
        (403, HTML, errors.AccessDenied),
        (404, HTML, errors.WrongAddress),
        (404, b"404 page not found", errors.WrongAddress),
        (404, b'{"detail":"Not Found"}', errors.WrongAddress),
        (413, HTML, errors.TooLarge),
        (400, b"\xff\x00", errors.BadInput),
        (429, b'{"error":"slow down"}', errors.Throttled),
        (429, b'{"error":{"type":"insufficient_quota","code":null}}', errors.OutOfCredit),
    ],
)
def test_a_body_may_be_anything(status: int, body: bytes, error: type[AttemptError]) -> None:
    assert type(failure(status, body=body)) is error


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","code":404}}',
        b'{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","code":404}',
        b'[{"error":{"code":404,"message":"models/x is not found","status":"NOT_FOUND"}}]',
        b'{"type":"error","error":{"type":"not_found_error","message":"model: x"}}',
    ],
)
def test_a_code_that_repeats_the_status_leaves_an_unknown_model_to_the_type(body: bytes) -> None:
    assert type(failure(404, body=body)) is errors.UnknownModel


@pytest.mark.parametrize("code", ["", None, "invalid_api_key", "account_deactivated"])
def test_at_openai_itself_a_401_is_always_the_key(code: Any) -> None:
    assert type(failure(401, code, dialect="openai")) is errors.KeyRejected


CONVERT = ["convert_request_failed", "count_token_failed", "count_token_messages_failed"]


@pytest.mark.parametrize("code", CONVERT)
@pytest.mark.parametrize(
    "message",
    [
        "failed to download file, status code: 404",
        "failed to download file, status code: 403 (request id: 2026030511573767603)",
        "get file base64 from url 'https://e.com/timeout.jpg' failed: status code: 410",
        "mime type is not supported by Gemini: 'text/html', url: 'https://***.com/***', supported: []",
        "file size exceeds maximum allowed size: 64MB",
        "failed to decode base64 data: illegal base64 data at input byte 4",
        "failed to decode image config: unsupported format",
        'Get "https://e.com/a": tls: failed to verify certificate: x509: certificate is valid for b',
        "request reject: private IP address not allowed: 10.0.0.1",
        "下载文件失败，状态码：404",
        "不支持的文件类型 text/html",
        "文件大小超过限制 20MB",
    ],
)
def test_media_that_is_gone_or_unfit_is_terminal(code: str, message: str) -> None:
    error = failure(500, code, message)
    assert type(error) is errors.MediaUnreadable
    assert error.state == "not_billed"


@pytest.mark.parametrize("code", CONVERT)
@pytest.mark.parametrize(
    "message",
    [
        "failed to download file, status code: 503",
        "failed to download file, status code: 429",
        'failed to download file: Get "https://e.com/404.jpg": dial tcp: lookup e.com: no such host',
        'Get "https://e.com/a.jpg": context deadline exceeded (Client.Timeout exceeded)',
        "read tcp 10.0.0.1:5->1.2.3.4:443: read: connection reset by peer",
        "failed to read file content: unexpected EOF",
        "net/http: TLS handshake timeout",
        "下载文件超时",
        "下载失败，状态码 502",
    ],
)
def test_a_media_host_that_failed_just_now_is_tried_again(code: str, message: str) -> None:
    assert type(failure(500, code, message)) is errors.MediaHostFailed


def test_a_conversion_that_failed_for_no_stated_reason_is_tried_again_and_was_not_billed() -> None:
    error = failure(500, "convert_request_failed", "something else")
    assert type(error) is errors.Overloaded
    assert error.state == "not_billed"


def test_the_media_patterns_decide_nothing_outside_their_codes() -> None:
    assert (
        type(failure(500, "bad_response", "failed to download file, status code: 404")) is errors.Overloaded
    )
    assert type(failure(502, "convert_request_failed", "status code: 404")) is errors.Overloaded


def test_the_words_of_a_url_say_nothing() -> None:
    assert media_cause("cannot use https://e.com/timeout-status-code-503-mime.jpg") == "unknown"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250.5", "retry-after": "9"}, 0.2505),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        (
            {"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"},
            30.0,
        ),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": "garbage"}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "9" * 400}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_asked_for_is_read_in_all_its_spellings(
    status: int, headers: dict[str, str], wait_s: float | None
) -> None:
    assert failure(status, headers=headers).retry_after_s == wait_s


def test_the_gateways_own_request_id_comes_first() -> None:
    both = {"x-oneapi-request-id": "2026A", "x-request-id": "req_1"}
    assert failure(500, headers=both).request_id == "2026A"
    assert failure(500, headers={"x-request-id": "req_1"}).request_id == "req_1"
    assert failure(500).request_id is None


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("a_code", "a_code"),
        (1301, "1301"),
        (429.0, "429"),
        ("", None),
        (None, None),
        (True, None),
        ([], None),
    ],
)
def test_a_code_is_compared_as_text(code: Any, text: str | None) -> None:
    assert failure(400, code).code == text


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [
        (429, None, "not_billed"),
        (401, "", "not_billed"),
        (400, None, "not_billed"),
        (500, None, "possibly_billed"),
        (504, None, "possibly_billed"),
        (204, None, "possibly_billed"),
    ],
)
def test_what_is_known_of_the_bill(status: int, code: Any, state: AttemptState) -> None:
    assert failure(status, code).state == state


def test_a_sentence_says_what_happened_what_to_do_and_what_was_said() -> None:
    error = failure(401, "", "无效的令牌 (request id: 2026030511573767603)")
    assert str(error) == ("the endpoint rejects the key (401): check MEDIABATCH_API_KEY; it says: 无效的令牌")


def test_a_key_that_may_be_the_gateways_or_ours_is_said_to_be_either() -> None:
    """The default dialect is a gateway's; OpenAI itself refuses a wrong key with a code of its own."""
    assert "where no gateway stands between, check MEDIABATCH_API_KEY" in str(failure(401, "invalid_api_key"))


def test_a_redirect_says_where_it_points() -> None:
    error = failure(301, headers={"location": "https://e.com/login?next=%2Fv1&token=abc"}, body=HTML)
    assert "redirects to https://e.com/login?***" in str(error)
    assert "token=abc" not in str(error)


def test_a_page_is_quoted_by_its_title() -> None:
    assert str(failure(502, body=HTML)).endswith("it says: 502 Bad Gateway")


def test_a_message_is_one_line_of_at_most_300_characters() -> None:
    text = str(failure(400, None, "a\nb\x00\x1b[31mc\u202e\t" + "长" * 5000))
    said = text.partition("it says: ")[2]
    assert said.startswith("a b [31mc 长")
    assert said.isprintable()
    assert len(said) == 300


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdefghij0123456789",
        "sk-proj-abc_DEF-0123456789",
        "sk-or-v1-0123456789abcdef",
        "AIzaSyA0123456789abcdefghijklmnopqrstu",
        "Bearer abcdef0123456789",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "api_key=my0secret0key",
        "API key: zz9plural9z9alpha",
        "token [0123456789abcdef0123]",
        "无效的令牌 0123456789abcdefgh",
        "https://bucket.s3.amazonaws.com/a.jpg?X-Amz-Signature=0123456789abcdef",
        "https://user:pa55word@e.com/a.jpg",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA",
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_secret_in_a_message_is_masked(secret: str, dialect: str) -> None:
    tail = "pa55word" if "pa55word" in secret else secret[-10:]
    for text in (f"bad {secret} given", f"bad '{secret}'", secret, "x" * 290 + " " + secret):
        for body in (None, text.encode(), f"<title>{text}</title>".encode()):
            error = failure(400, None, text, body=body, dialect=dialect)
            assert tail not in str(error)


def test_the_word_after_provided_is_masked_as_openai_writes_it() -> None:
    error = failure(401, "invalid_api_key", "Incorrect API key provided: tok*****7890. You can find it at x")
    assert "7890" not in str(error)


def test_an_ordinary_message_is_left_alone() -> None:
    said = "The key of task-force 2 is disk-space; token 131072 of 131071; see https://docs.e.com/errors"
    assert str(failure(400, None, said)).endswith(said)
