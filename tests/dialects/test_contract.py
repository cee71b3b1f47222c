"""What every entry of the table must do."""

from __future__ import annotations

import orjson
import pytest

from pipeline.dialects import DEFAULT_DIALECT, DIALECTS, Dialect
from pipeline.errors import AttemptError, HaltingError, TerminalError, TransientError
from pipeline.records import Media, Reply, Request
from tests.dialects.made import EXAMPLE, EXAMPLE_URLS, recorded, request_of

pytestmark = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))


def test_an_entry_goes_by_its_own_name(dialect: Dialect) -> None:
    assert DIALECTS[dialect.name] is dialect


def test_the_default_is_in_the_table(dialect: Dialect) -> None:
    assert DEFAULT_DIALECT in DIALECTS


def test_the_path_is_appended_to_a_base_url(dialect: Dialect) -> None:
    assert dialect.path.startswith("/")
    assert not dialect.path.endswith("/")


def test_a_body_is_one_json_object_that_asks_for_no_stream(dialect: Dialect) -> None:
    body = orjson.loads(dialect.render(EXAMPLE, EXAMPLE_URLS))
    assert body["model"] == EXAMPLE.model
    assert body["stream"] is False


def test_the_text_comes_first_and_then_the_media_in_their_order(dialect: Dialect) -> None:
    body = orjson.loads(dialect.render(EXAMPLE, EXAMPLE_URLS))
    [message] = body["messages"]
    assert message["role"] == "user"
    assert message["content"][0] == {"type": "text", "text": EXAMPLE.prompt}
    assert [next(url for url in EXAMPLE_URLS if url in str(part)) for part in message["content"][1:]] == list(
        EXAMPLE_URLS
    )


def test_rendering_the_same_request_twice_gives_the_same_bytes(dialect: Dialect) -> None:
    assert dialect.render(EXAMPLE, EXAMPLE_URLS) == dialect.render(EXAMPLE, EXAMPLE_URLS)


def test_a_parameter_cannot_change_what_is_asked(dialect: Dialect) -> None:
    request = Request("m", "p", (), {"stream": True, "messages": [], "model": "other", "top_p": 0.5})
    body = orjson.loads(dialect.render(request, ()))
    assert (body["model"], body["stream"], len(body["messages"]), body["top_p"]) == ("m", False, 1, 0.5)


def test_media_without_their_urls_are_a_bug_that_surfaces(dialect: Dialect) -> None:
    with pytest.raises(ValueError, match="shorter"):
        dialect.render(EXAMPLE, EXAMPLE_URLS[:2])


def test_a_document_is_a_file_part_with_both_its_fields(dialect: Dialect) -> None:
    url = "https://example.com/a/report.pdf?x=1"
    request = Request("m", "p", (Media("document", url),), {})
    part = orjson.loads(dialect.render(request, (url,)))["messages"][0]["content"][1]
    assert part == {"type": "file", "file": {"filename": "report.pdf", "file_data": url}}


def test_the_recorded_example_parses(dialect: Dialect) -> None:
    reply = dialect.parse(recorded("newapi_example"), EXAMPLE)
    assert isinstance(reply, Reply)
    assert reply.usage is not None
    assert reply.usage.total_tokens == 2294


@pytest.mark.parametrize("status", [0, 100, 201, 204, 301, *range(400, 432), *range(500, 531), 999])
def test_every_status_is_an_error_with_a_fate_and_a_sentence(dialect: Dialect, status: int) -> None:
    for body in (b"", b"<html><title>Oops</title>", b'{"error":{"message":"x","code":7}}', b"[]", b"\xff"):
        error = dialect.classify(status, {}, body)
        assert isinstance(error, TransientError | TerminalError | HaltingError)
        assert error.http_status == status
        assert str(error)
        assert "\n" not in str(error)


def test_nothing_that_is_no_completion_is_a_reply(dialect: Dialect) -> None:
    with pytest.raises(AttemptError):
        dialect.parse(b"{}", request_of())
