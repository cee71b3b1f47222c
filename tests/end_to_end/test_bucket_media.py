"""Media in buckets, at a real S3 server: signed for the endpoint, or fetched and inlined."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.end_to_end.hosts import parts_of, seeing
from tests.end_to_end.nights import Finished, Store, clean_environment, run_command, write_manifest
from tests.media.contents import PAGE, picture
from tests.s3_server import SECRET, S3Server, s3_server
from tests.serving.answers import Answer, gateway_error, in_turn
from tests.serving.server import Play, Received, Server

__all__ = ["s3_server"]

PICTURE = picture("PNG", noise=True)
INLINE = f"data:image/png;base64 {len(PICTURE)}"


def night(
    folder: Path, s3: S3Server, urls: list[str], *more: str, script: Any = seeing, **env: str
) -> tuple[Finished, Store, list[Received]]:
    rows = [{"id": f"i{n}", "prompt": f"look {n}", "image_url": url} for n, url in enumerate(urls)]
    manifest = write_manifest(folder / "m.csv", rows)
    with Server(script) as endpoint:
        ran = run_command(
            *("run", manifest, "--base-url", endpoint.base_url, "--json", "--concurrency", "2", *more),
            cwd=folder,
            env=clean_environment(**{**s3.environment(folder), **env}),
        )
        return ran, Store(folder / "out"), list(endpoint.received)


def test_an_endpoint_is_given_an_address_that_is_signed_anew_for_every_attempt(
    tmp_path: Path, s3_server: S3Server
):
    bucket = s3_server.bucket("signed")
    bucket.write("海滩/a b+c.png", PICTURE)
    fetched: list[bytes] = []

    def script(received: Received) -> Play:
        (url,) = parts_of(received)
        with urllib.request.urlopen(url, timeout=10) as response:
            fetched.append(response.read())
        return in_turn(received, [gateway_error(503).after(1.1)], seeing(received))

    ran, store, received = night(tmp_path, s3_server, ["s3://signed/海滩/a b+c.png"], script=script)
    assert ran.code == 0, ran.stderr
    assert fetched == [PICTURE, PICTURE]
    signed = [parse_qs(urlsplit(parts_of(one)[0]).query) for one in received]
    assert {query["X-Amz-Expires"][0] for query in signed} == {"3600"}
    assert len({query["X-Amz-Signature"][0] for query in signed}) == 2
    (row,) = store.results.to_dicts()
    assert [one["url"] for one in row["media"]] == ["s3://signed/海滩/a b+c.png"]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(query["X-Amz-Signature"][0].encode() in content for query in signed), path
            assert SECRET.encode() not in content, path
    written = "".join(frame.write_json() for frame in (store.results, store.attempts, store.costs))
    assert "Signature" not in written
    again, _, asked = night(tmp_path, s3_server, ["s3://signed/海滩/a b+c.png"])
    assert (again.json["skipped"], asked) == (1, [])


@pytest.mark.parametrize("media", ["inline", "auto"])
def test_objects_go_inline_where_that_is_asked_for_or_needed(tmp_path: Path, s3_server: S3Server, media: str):
    bucket = s3_server.bucket(f"inlined-{media}")
    bucket.write("a.png", PICTURE)

    def script(received: Received) -> Play:
        if parts_of(received)[0].startswith("http"):
            return gateway_error(500, "convert_request_failed", "download: dial tcp: i/o timeout")
        return seeing(received)

    ran, store, received = night(
        tmp_path, s3_server, [f"s3://inlined-{media}/a.png"] * 1, "--media", media, script=script
    )
    assert ran.code == 0, ran.stderr
    assert parts_of(received[-1]) == [INLINE]
    assert len(received) == (1 if media == "inline" else 2)
    assert store.result("i0")["media"][0]["url"] == f"s3://inlined-{media}/a.png"


def test_what_is_not_there_or_no_picture_fails_its_own_row(tmp_path: Path, s3_server: S3Server):
    bucket = s3_server.bucket("mixed")
    bucket.write("good.png", PICTURE)
    bucket.write("page.png", PAGE)
    bucket.write("huge.png", bytes(20_000_001))
    urls = [
        *("s3://mixed/good.png", "s3://mixed/none.png", "s3://mixed/page.png", "s3://mixed/huge.png"),
        *("s3://no-such-bucket-here/a.png",),
    ]
    ran, store, received = night(tmp_path, s3_server, urls, "--media", "inline")
    assert ran.code == 5
    assert len(received) == 1
    failed = store.results.filter(status="failed")
    assert dict(failed.select("item_id", "error_class").iter_rows()) == {
        "i1": "MediaMissing",
        "i2": "MediaMistaken",
        "i3": "MediaOversized",
        "i4": "MediaMissing",
    }
    assert store.result("i1")["error_message"] == "s3://mixed/none.png: its host answers 404"


def test_a_bucket_that_refuses_or_stumbles_is_told_apart(tmp_path: Path, s3_server: S3Server):
    bucket = s3_server.bucket("stumbling")
    for name in ("denied", "flaky", "down"):
        bucket.write(name, PICTURE)
    came: dict[str, int] = {}

    def script(received: Received) -> Play | None:
        name = received.target.rpartition("/")[2]
        came[name] = came.get(name, 0) + 1
        if name == "denied":
            return Answer(
                403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"}
            )
        if name == "down" or (name == "flaky" and came[name] < 4):
            return Answer(503, b"<Error><Code>SlowDown</Code></Error>", {"Content-Type": "application/xml"})
        return None

    with s3_server.behind(script) as (proxied, _):
        urls = [f"s3://stumbling/{name}" for name in ("denied", "flaky", "down")]
        ran, store, _ = night(tmp_path, proxied, urls, "--media", "inline", "--max-attempts", "3")
    assert ran.code == 5
    assert store.ids("ok") == ["i1"]
    assert store.result("i0")["error_class"] == "MediaMissing"
    assert store.result("i2")["error_class"] == "FetchFailed"
    assert came["denied"] == 1


def test_without_the_extra_a_sentence_comes_before_the_night(tmp_path: Path, s3_server: S3Server):
    manifest = write_manifest(tmp_path / "m.csv", [{"image_url": "s3://any/a.png"}])
    program = "import sys; sys.modules['obstore'] = None; from jobs.__main__ import main; main()"
    with Server(seeing) as endpoint:
        ran = run_command(
            *("run", manifest, "--base-url", endpoint.base_url),
            cwd=tmp_path,
            program=[sys.executable, "-c", program],
        )
        assert endpoint.received == []
    assert ran.code == 2
    assert "row 1: media in buckets need an extra: pip install 'mediabatch[cloud]'" in ran.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_signed_fails_its_row_with_the_reason(tmp_path: Path, s3_server: S3Server):
    """Azure signs only for a named account."""
    ran, store, received = night(tmp_path, s3_server, ["az://container/a.png"])
    assert (ran.code, received) == (5, [])
    (row,) = store.results.to_dicts()
    assert row["error_class"] == "MediaGone"
    assert row["error_message"].startswith("az://container/a.png: ")


def test_show_names_what_the_store_does_not_keep(tmp_path: Path, s3_server: S3Server):
    s3_server.bucket("shown").write("a.png", PICTURE)
    night(tmp_path, s3_server, ["s3://shown/a.png"])
    shown = run_command("show", "i0", cwd=tmp_path)
    assert "<s3://shown/a.png signed, or as a data: URL>" in shown.stdout
    told = json.loads(run_command("show", "i0", "--json", cwd=tmp_path).stdout)
    assert "Signature" not in json.dumps(told)
