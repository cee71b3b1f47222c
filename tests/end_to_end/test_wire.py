"""What can happen on the wire, against real sockets: which error it is, and whether it may be billed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from pyreqwest.client import ClientBuilder

from pipeline.errors import (
    AttemptError,
    AttemptTimedOut,
    BrokenReply,
    ConnectFailed,
    ConnectionLost,
    TooLarge,
    UsageError,
)
from pipeline.retry import RetryRules
from pipeline.transport import Answer as Arrived
from pipeline.transport import Timeouts, Transport, WireSettings, open_transport
from pipeline.wire import RustWire
from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import clean_environment, run_command, spend_night, write_manifest
from tests.serving.answers import (
    FORWARD,
    HANG,
    HANG_UP,
    RESET,
    Answer,
    after_reading,
    completion,
    cut_off,
    dripping,
    empty,
    gateway_error,
    gzip_bomb,
    in_turn,
    raw,
    redirect,
    stalled,
)
from tests.serving.certificates import ROOT, server_context
from tests.serving.server import Connection, Play, Received

QUESTION = b'{"model": "m", "messages": [{"role": "user", "content": "what is this?"}]}'
LARGE_QUESTION = QUESTION + b" " * 8_000_000  # more than the socket buffers between us and a server hold


def post(base_url: str, *, body: bytes = QUESTION, times: int = 1, **settings: Any) -> Arrived:
    """The last of ``times`` answers, over one transport."""

    async def send() -> Arrived:
        wire = WireSettings(f"{base_url}/chat/completions", headers={}, **settings)
        async with open_transport(wire) as transport:
            for _ in range(times - 1):
                await transport.post(body, "r1-1")
            return await transport.post(body, "r1-1")

    return anyio.run(send)


def failure(base_url: str, **settings: Any) -> AttemptError:
    with pytest.raises(AttemptError) as raised:
        post(base_url, **settings)
    return raised.value


def kind_and_state(error: AttemptError) -> tuple[type[AttemptError], str]:
    return type(error), error.state


@pytest.fixture
def nobody() -> str:
    """A base URL where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.fixture
def deaf() -> Iterator[str]:
    """A base URL whose queue of connections is full, so that connecting never ends."""
    with ExitStack() as sockets:
        listening = sockets.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


# --- nothing was sent ---


def test_a_refused_connection_is_not_billed(nobody: str):
    error = failure(nobody)
    assert kind_and_state(error) == (ConnectFailed, "not_billed")
    assert "refused" in str(error).lower()


def test_a_name_that_is_not_found_is_not_billed():
    assert kind_and_state(failure("http://no-such-host.invalid/v1")) == (ConnectFailed, "not_billed")


def test_a_connection_that_is_not_taken_in_time_is_not_billed(deaf: str):
    error = failure(deaf, timeouts=Timeouts(connect_s=0.2, read_s=5, total_s=5))
    assert kind_and_state(error) == (ConnectFailed, "not_billed")


def test_a_certificate_nobody_vouches_for_is_not_billed_and_named(serve: Serve):
    server = serve(lambda received: completion(), tls=server_context())
    error = failure(server.base_url)
    assert kind_and_state(error) == (ConnectFailed, "not_billed")
    assert "certificate" in str(error)
    assert server.received == []


def test_a_server_that_speaks_no_tls_is_not_billed(serve: Serve):
    server = serve(
        lambda received: completion(), on_connection=lambda number: raw(b"HTTP/1.1 400 Bad\r\n\r\n")
    )
    error = failure(f"https://{server.address}/v1")
    assert kind_and_state(error) == (ConnectFailed, "not_billed")


def test_a_handshake_that_never_ends_is_not_billed(serve: Serve):
    server = serve(lambda received: completion(), on_connection=lambda number: HANG)
    error = failure(f"https://{server.address}/v1", timeouts=Timeouts(connect_s=0.2, read_s=5, total_s=5))
    assert kind_and_state(error) == (ConnectFailed, "not_billed")


# --- something may have been sent ---


@pytest.mark.parametrize("body", [QUESTION, LARGE_QUESTION], ids=["small", "large"])
def test_a_reset_before_the_request_was_read_is_possibly_billed(serve: Serve, body: bytes):
    # One byte is read, for a reset that comes sooner is a failure to connect.
    server = serve(lambda received: completion(), on_connection=lambda number: after_reading(1, RESET))
    assert kind_and_state(failure(server.base_url, body=body)) == (ConnectionLost, "possibly_billed")


def test_a_reset_in_the_middle_of_the_request_is_possibly_billed(serve: Serve):
    server = serve(lambda received: completion(), on_connection=lambda number: after_reading(100_000, RESET))
    error = failure(server.base_url, body=LARGE_QUESTION)
    assert kind_and_state(error) == (ConnectionLost, "possibly_billed")


def test_a_reset_after_the_head_of_the_request_is_possibly_billed(serve: Serve):
    server = serve(lambda received: completion(), on_head=lambda received: RESET)
    error = failure(server.base_url, body=LARGE_QUESTION)
    assert kind_and_state(error) == (ConnectionLost, "possibly_billed")


@pytest.mark.parametrize("play", [RESET, HANG_UP], ids=["reset", "hung up"])
@pytest.mark.parametrize("body", [QUESTION, LARGE_QUESTION], ids=["small", "large"])
def test_a_connection_that_ends_without_an_answer_is_possibly_billed(serve: Serve, play: Play, body: bytes):
    server = serve(lambda received: play)
    assert kind_and_state(failure(server.base_url, body=body)) == (ConnectionLost, "possibly_billed")
    assert len(server.received) == 1  # nothing beneath us asked again


@pytest.mark.parametrize("play", [RESET, HANG_UP], ids=["reset", "hung up"])
def test_a_kept_connection_that_ends_without_an_answer_is_possibly_billed(serve: Serve, play: Play):
    """A library that sends again of its own accord would pay twice."""
    server = serve(lambda received: in_turn(received, [completion()], then=play))
    assert kind_and_state(failure(server.base_url, times=2)) == (ConnectionLost, "possibly_billed")
    assert [received.connection for received in server.received] == [1, 1]


def test_no_answer_in_time_is_possibly_billed(serve: Serve):
    server = serve(lambda received: HANG)
    error = failure(server.base_url, timeouts=Timeouts(connect_s=5, read_s=0.2, total_s=5))
    assert kind_and_state(error) == (AttemptTimedOut, "possibly_billed")
    assert len(server.received) == 1


def test_a_body_that_stalls_is_possibly_billed(serve: Serve):
    server = serve(lambda received: stalled(completion(), 100))
    error = failure(server.base_url, timeouts=Timeouts(connect_s=5, read_s=0.2, total_s=5))
    assert kind_and_state(error) == (AttemptTimedOut, "possibly_billed")


def test_a_body_that_drips_is_cut_by_the_time_of_the_whole_attempt(serve: Serve):
    server = serve(lambda received: dripping(every_s=0.05))
    error = failure(server.base_url, timeouts=Timeouts(connect_s=5, read_s=5, total_s=0.3))
    assert kind_and_state(error) == (AttemptTimedOut, "possibly_billed")


def test_a_request_that_nobody_reads_is_cut_by_the_time_of_the_whole_attempt(serve: Serve):
    async def read_nothing(received: object, connection: object) -> None:
        await anyio.sleep(2)

    server = serve(lambda received: completion(), on_connection=lambda number: read_nothing)
    error = failure(
        server.base_url, body=LARGE_QUESTION, timeouts=Timeouts(connect_s=5, read_s=5, total_s=0.3)
    )
    assert kind_and_state(error) == (AttemptTimedOut, "possibly_billed")


def test_a_body_shorter_than_announced_is_possibly_billed(serve: Serve):
    server = serve(lambda received: cut_off(completion(), 100))
    assert kind_and_state(failure(server.base_url)) == (ConnectionLost, "possibly_billed")


def test_bytes_that_are_no_http_are_possibly_billed(serve: Serve):
    server = serve(lambda received: raw(b"220 smtp.example ESMTP\r\n"))
    assert kind_and_state(failure(server.base_url)) == (BrokenReply, "possibly_billed")


# --- size and compression ---


def test_a_reply_as_large_as_the_cap_is_taken(serve: Serve):
    server = serve(lambda received: Answer(200, b"x" * 100_000))
    assert len(post(server.base_url, max_reply_bytes=100_000).body) == 100_000


def test_a_reply_over_the_cap_is_dropped_and_possibly_billed(serve: Serve):
    server = serve(lambda received: Answer(200, b"x" * 100_001))
    error = failure(server.base_url, max_reply_bytes=100_000)
    assert kind_and_state(error) == (TooLarge, "possibly_billed")
    assert "100000 bytes" in str(error)


def test_a_reply_without_end_is_dropped_at_the_cap(serve: Serve):
    server = serve(lambda received: dripping(every_s=0, chunk=b"x" * 65536))
    error = failure(server.base_url, max_reply_bytes=1_000_000)
    assert kind_and_state(error) == (TooLarge, "possibly_billed")


def test_a_small_reply_that_unpacks_to_a_hundred_megabytes_is_dropped_at_the_cap(serve: Serve):
    bomb = gzip_bomb(100_000_000)
    assert len(bomb.body) < 200_000
    server = serve(lambda received: bomb)
    error = failure(server.base_url, max_reply_bytes=1_000_000, timeouts=Timeouts(total_s=20))
    assert kind_and_state(error) == (TooLarge, "possibly_billed")


def test_a_compressed_reply_is_unpacked(serve: Serve):
    server = serve(lambda received: completion("packed").gzipped())
    answer = post(server.base_url)
    assert answer.body == completion("packed").body
    assert "gzip" in server.received[0].headers["accept-encoding"]


def test_a_compressed_error_is_unpacked_too(serve: Serve):
    server = serve(lambda received: gateway_error(400, "prompt_blocked").gzipped())
    answer = post(server.base_url)
    assert (answer.status, answer.body) == (400, gateway_error(400, "prompt_blocked").body)


def test_a_reply_that_cannot_be_unpacked_is_broken_and_possibly_billed(serve: Serve):
    server = serve(lambda received: Answer(200, b"not gzip at all", {"Content-Encoding": "gzip"}))
    assert kind_and_state(failure(server.base_url)) == (BrokenReply, "possibly_billed")


def test_a_compressed_reply_that_breaks_off_is_possibly_billed(serve: Serve):
    packed = completion("packed " * 1000).gzipped()
    server = serve(lambda received: Answer(200, packed.body[:-20], packed.headers))
    assert failure(server.base_url).state == "possibly_billed"


def test_a_reply_that_comes_in_pieces_is_taken_whole(serve: Serve):
    async def answer_in_pieces(received: Received, connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for size_bytes in (3, 100_000, 7):
            await anyio.sleep(0.02)
            await connection.send(b"%x\r\n%s\r\n" % (size_bytes, b"x" * size_bytes))
        await connection.send(b"0\r\n\r\n")

    server = serve(lambda received: answer_in_pieces)
    assert post(server.base_url).body == b"x" * 100_010


# --- headers ---


def test_a_header_that_comes_twice_is_one_with_both_values(serve: Serve):
    server = serve(
        lambda received: raw(b"HTTP/1.1 200 OK\r\nX-Via: a\r\nx-via: b\r\nContent-Length: 0\r\n\r\n")
    )
    assert post(server.base_url).headers["x-via"] == "a, b"


def test_a_header_that_is_no_ascii_costs_neither_the_answer_nor_the_other_headers(serve: Serve):
    head = "HTTP/1.1 200 OK\r\nServer: café\r\nX-Request-Id: r-7\r\nContent-Length: 2\r\n\r\nhi"
    server = serve(lambda received: raw(head.encode("latin-1")))
    answer = post(server.base_url)
    assert (answer.status, answer.body, answer.headers["x-request-id"]) == (200, b"hi", "r-7")


def test_a_header_that_a_person_set_stands_in_the_place_of_ours(serve: Serve):
    async def send() -> Arrived:
        wire = WireSettings(f"{server.base_url}/x", {"content-type": "text/json"})
        async with open_transport(wire) as transport:
            return await transport.post(QUESTION, "r1-1")

    async def say_the_head_back(received: Received, connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        await Answer(200, head)(received, connection)
        connection.close()

    server = serve(lambda received: completion(), on_connection=lambda number: say_the_head_back)
    assert anyio.run(send).body.lower().count(b"content-type:") == 1


# --- the seam ---


def test_any_transport_of_httpx_carries_a_post(serve: Serve):
    async def send() -> Arrived:
        wire = WireSettings(f"{server.base_url}/chat/completions", {"X-Team": "night"})
        async with Transport(wire, httpx.AsyncHTTPTransport()) as transport:
            return await transport.post(QUESTION, "r1-1")

    server = serve(lambda received: completion("carried").gzipped())
    assert anyio.run(send).body == completion("carried").body
    (received,) = server.received
    assert received.body == QUESTION
    assert (received.headers["x-team"], received.headers["idempotency-key"]) == ("night", "r1-1")
    assert received.headers["content-type"] == "application/json"


def test_our_wire_carries_a_client_of_httpx(serve: Serve):
    async def ask() -> httpx.Response:
        wire = RustWire(ClientBuilder().build(), longest_body_bytes=100_000)
        async with httpx.AsyncClient(transport=wire) as client:
            return await client.post(f"{server.base_url}/x", json={"model": "m"})

    server = serve(lambda received: completion("carried").gzipped())
    response = anyio.run(ask)
    assert (response.status_code, response.content) == (200, completion("carried").body)
    assert server.received[0].json == {"model": "m"}


def test_a_scope_that_is_cancelled_during_an_attempt_ends_there(serve: Serve):
    async def give_up() -> bool:
        async with open_transport(WireSettings(f"{server.base_url}/x", {})) as transport:
            with anyio.move_on_after(0.1) as scope:
                await transport.post(QUESTION, "r1-1")
            return scope.cancelled_caught

    server = serve(lambda received: HANG)
    assert anyio.run(give_up)


# --- addresses, connections, proxies ---


def test_a_redirect_is_not_followed(serve: Serve):
    elsewhere = serve(lambda received: completion())
    server = serve(lambda received: redirect(elsewhere.base_url, 307))
    assert post(server.base_url).status == 307
    assert elsewhere.received == []


def test_one_connection_carries_request_after_request(serve: Serve):
    server = serve(lambda received: completion())
    post(server.base_url, times=20)
    assert (len(server.received), server.connections) == (20, 1)


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(serve: Serve):
    async def answer_and_hang_up(received: Received, connection: Connection) -> None:
        await completion()(received, connection)
        connection.close()

    async def ask_twice() -> int:
        wire = WireSettings(f"{server.base_url}/chat/completions", headers={})
        async with open_transport(wire) as transport:
            await transport.post(QUESTION, "r1-1")
            await anyio.sleep(0.05)
            return (await transport.post(QUESTION, "r1-1")).status

    server = serve(lambda received: answer_and_hang_up)
    assert anyio.run(ask_twice) == 200
    assert (len(server.received), server.connections) == (2, 2)


def test_http_1_1_is_spoken_where_http_2_is_offered_too(serve: Serve):
    """With a server's usual 128 streams a connection, one connection would be the bottleneck of a night."""
    offers_both = server_context()
    offers_both.set_alpn_protocols(["h2", "http/1.1"])
    server = serve(lambda received: completion(), tls=offers_both)
    assert post(server.base_url, ca_file=ROOT).status == 200


def test_an_error_answer_leaves_its_connection_usable(serve: Serve):
    server = serve(lambda received: empty(429))
    post(server.base_url, times=5)
    assert server.connections == 1


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_proxy_variable_is_honoured(serve: Serve, monkeypatch: pytest.MonkeyPatch, variable: str):
    server, proxy = serve(lambda received: completion()), serve(lambda received: FORWARD)
    monkeypatch.setenv(variable, f"http://{proxy.address}")
    assert post(server.base_url).status == 200
    assert [received.target for received in proxy.received] == [f"{server.base_url}/chat/completions"]
    assert len(server.received) == 1


def test_hosts_named_in_no_proxy_are_asked_directly(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    server, proxy = serve(lambda received: completion()), serve(lambda received: FORWARD)
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
    assert post(server.base_url).status == 200
    assert proxy.received == []


def test_tls_goes_through_a_tunnel_of_the_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    server = serve(lambda received: completion(), tls=server_context())
    proxy = serve(lambda received: FORWARD)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    assert post(server.base_url, ca_file=ROOT).status == 200
    assert [(received.method, received.target) for received in proxy.received] == [
        ("CONNECT", server.address)
    ]


def test_a_proxy_that_opens_no_tunnel_is_not_billed(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    proxy = serve(lambda received: empty(502))
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    assert kind_and_state(failure("https://127.0.0.1:9/v1")) == (ConnectFailed, "not_billed")


def test_a_proxy_that_is_not_there_is_not_billed(monkeypatch: pytest.MonkeyPatch, nobody: str):
    monkeypatch.setenv("HTTP_PROXY", nobody.removesuffix("/v1"))
    assert kind_and_state(failure("http://127.0.0.1:9/v1")) == (ConnectFailed, "not_billed")


# --- certificates ---


def test_a_custom_authority_is_trusted(serve: Serve):
    server = serve(lambda received: completion(), tls=server_context())
    assert post(server.base_url, ca_file=ROOT).status == 200


def test_a_custom_authority_named_in_ssl_cert_file_is_trusted(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    server = serve(lambda received: completion(), tls=server_context())
    monkeypatch.setenv("SSL_CERT_FILE", str(ROOT))
    assert post(server.base_url).status == 200


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nnonsense\n"])
def test_a_ca_file_that_is_none_is_a_persons_mistake(tmp_path: Path, content: bytes | None):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"ca\.pem"):
        post("https://127.0.0.1:9/v1", ca_file=path)


# --- through the command ---


def test_the_command_takes_proxy_authority_and_headers(serve: Serve, tmp_path: Path):
    server = serve(lambda received: completion(), tls=server_context())
    proxy = serve(lambda received: FORWARD)
    manifest = write_manifest(tmp_path / "manifest.csv", ["a", "b"])
    options = [
        "--ca-file",
        ROOT,
        "--header",
        "X-Team=night",
        "--header",
        "X-Empty=",
        "--out",
        tmp_path / "out",
    ]

    finished = run_command(
        *("run", manifest, "--base-url", server.base_url, *options),
        env=clean_environment(HTTPS_PROXY=f"http://{proxy.address}"),
    )

    assert finished.code == 0, finished.stderr
    assert {received.method for received in proxy.received} == {"CONNECT"}
    assert [received.headers["x-team"] for received in server.received] == ["night", "night"]
    assert [received.headers["x-empty"] for received in server.received] == ["", ""]


@pytest.mark.parametrize("trouble", ["refused", "no such host", "unknown authority"])
def test_a_night_without_a_connection_halts_says_why_and_bills_nothing(
    serve: Serve, tmp_path: Path, nobody: str, trouble: str
):
    server = serve(lambda received: completion(), tls=server_context())
    base_url = {"refused": nobody, "no such host": "http://no-such-host.invalid/v1"}.get(
        trouble, server.base_url
    )

    night = spend_night(tmp_path, base_url, ["a", "b"], retry=RetryRules(max_attempts=2, first_wait_s=0.001))

    assert (night.code, night.store.run["state"]) == (3, "halted")
    (halt,) = night.store.run["halts"]
    assert halt["error_class"] == "ConnectFailed"
    assert "could not connect to" in halt["message"]
    assert night.store.ids("not_attempted") == ["a", "b"]
    assert set(night.store.attempts["state"]) == {"not_billed"}
    assert night.store.run["totals"]["possibly_billed"] == 0
    assert server.received == []
