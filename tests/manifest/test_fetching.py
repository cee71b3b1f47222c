"""A manifest at an http(s) address: fetched as a whole, within limits, or refused in a sentence."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ManifestError
from pipeline.manifest import Defaults, is_address, open_manifest
from pipeline.manifest.fetching import Patience, fetch
from pipeline.records import BadRow
from tests.serving.answers import HANG, Answer, cut_off, dripping, empty, in_turn, page, redirect, stalled
from tests.serving.certificates import ROOT, server_context
from tests.serving.server import Script, Server

ROWS = b"id,prompt\na,what?\nb,why?\n"
NIGHT = Defaults("a-model", "what is it?", {})
SIGNATURE = "c0ffee5ec2e7"


@pytest.fixture
def at() -> Iterator[Any]:
    with ExitStack() as servers:

        def start(script: Script, name: str = "manifest.csv", **settings: Any) -> str:
            server = servers.enter_context(Server(script, **settings))
            return f"{'https' if server.tls else 'http'}://{server.address}/{name}"

        yield start


def told(address: str, **more: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        fetch(address, **more)
    return str(caught.value)


def test_it_is_read_like_a_file_and_its_copy_goes(at: Any):
    manifest = open_manifest(at(lambda received: Answer(200, ROWS)))
    rows = [row for batch in manifest.read(NIGHT) for row in batch]
    assert [row.id for row in rows] == ["a", "b"]
    (copy,) = manifest.paths
    assert copy.is_file()
    del manifest, rows
    gc.collect()
    assert not copy.exists()


@pytest.mark.parametrize("name", ["deep/m.CSV?format=csv&x=m.tsv", "m.csv#part", "%E5%A4%9C.csv"])
def test_the_path_tells_the_format_and_the_query_does_not(at: Any, name: str):
    assert open_manifest(at(lambda received: Answer(200, ROWS), name)).format == "CSV"


def test_the_same_rows_have_the_same_digest_here_and_there(at: Any, tmp_path: Path):
    (tmp_path / "here.csv").write_bytes(ROWS)
    there = open_manifest(at(lambda received: Answer(200, ROWS)))
    assert there.digest == open_manifest(str(tmp_path / "here.csv")).digest


def test_a_redirect_is_followed_and_a_busy_server_asked_again(at: Any):
    answers = [redirect("/manifest.csv?moved"), page(503), page(503)]
    address = at(lambda received: in_turn(received, answers, Answer(200, ROWS)))
    assert open_manifest(address).rows_total == 2


def test_a_user_in_the_address_is_sent_as_basic_authorization_and_not_shown(at: Any):
    def script(received: Any) -> Answer:
        return Answer(200, ROWS) if received.headers.get("authorization") == "Basic YTpwYXNz" else empty(401)

    address = at(script)
    assert open_manifest(address.replace("://", "://a:pass@")).rows_total == 2
    assert "other" not in told(address.replace("://", "://a:other@"))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (page(404), "there is nothing at this address (404)"),
        (page(403), "access is refused (403); if it was signed, it may have expired: give it again, whole"),
        (page(418), "the server answers with 418"),
        (cut_off(Answer(200, ROWS), 12), "broke off after 12 of 25 bytes; start again"),
    ],
)
def test_what_cannot_be_had_is_a_sentence(at: Any, answer: Any, sentence: str):
    address = at(lambda received: answer, f"m.csv?X-Amz-Signature={SIGNATURE}&X-Amz-Date=1")
    assert told(address) == f"{address.partition('?')[0]}: {sentence}"


def test_a_server_that_says_nothing_or_goes_silent_is_given_up(at: Any):
    patience = Patience(silence_s=0.2)
    assert told(at(lambda received: HANG), patience=patience).endswith(": nothing came for 0.2 s")
    silent = at(lambda received: stalled(Answer(200, ROWS), 10))
    assert told(silent, patience=patience).endswith(": nothing came for 0.2 s")


def test_a_body_that_never_ends_is_given_up_by_time_and_by_size(at: Any):
    endless = at(lambda received: dripping(0.02, b"x" * 1000))
    assert told(endless, patience=Patience(total_s=0.3)).endswith("did not come whole within 0.3 s")
    assert told(endless, patience=Patience(size_bytes=3000)).endswith("is larger than 0 MB")


def test_nobody_there_is_a_sentence():
    assert told("http://127.0.0.1:9/m.csv").endswith(": cannot be reached (Connection refused)")


def test_a_page_instead_of_a_manifest_is_told_of_by_its_address(at: Any):
    address = at(lambda received: page(200, "please log in"))
    with pytest.raises(ManifestError) as caught:
        open_manifest(address)
    assert str(caught.value).startswith(
        f"{address}, line 1: is not CSV, as its ending says; it looks like HTML"
    )


def test_paths_in_it_begin_nowhere(at: Any):
    manifest = open_manifest(at(lambda received: Answer(200, b"id,image_url\na,pics/a.png\n")))
    ((row,),) = manifest.read(NIGHT)
    assert isinstance(row, BadRow)
    assert "is no whole address, and the manifest was fetched" in str(row.error)


def test_addresses_and_paths_are_told_apart():
    assert all(
        map(
            is_address,
            ["https://h.example/m.csv", "HTTP://h.example/m", "s3://b/m.csv", "gs://b/m", "az://c/m"],
        )
    )
    assert not any(map(is_address, ["m.csv", "/s3/m.csv", "nights/*.csv", "c:/m.csv", "ftp://h/m.csv"]))


def test_a_certificate_is_trusted_that_ca_file_names(at: Any):
    address = at(lambda received: Answer(200, ROWS), tls=server_context())
    assert "its certificate is not trusted" in told(address)
    assert open_manifest(address, ca_file=ROOT).rows_total == 2
