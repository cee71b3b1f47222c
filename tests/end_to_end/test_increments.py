"""Night after night over one store: what was answered is not asked, and what changed is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import Night, Store, invoke, spend_night, write_manifest
from tests.serving.answers import completion, gateway_error
from tests.serving.server import Play, Received, Server

SIGNED = "https://h.example/a.jpg?w=8&X-Amz-Date={day}&X-Amz-Expires=900&X-Amz-Signature={day}f"


@pytest.fixture
def server(serve: Serve) -> Server:
    """Refuses prompts that begin with `bad`."""

    def script(received: Received) -> Play:
        is_bad = (received.text or "").startswith("bad")
        return gateway_error(400, "INVALID_ARGUMENT") if is_bad else completion()

    return serve(script)


def asked(server: Server, folder: Path, rows: list[Any], **changes: Any) -> int:
    """How many requests a night of these rows sent."""
    before = len(server.received)
    spend_night(folder, server.base_url, rows, **changes)
    return len(server.received) - before


def row(url: str, **more: str) -> Mapping[str, str]:
    return {"id": "one", "image_url": url, **more}


@pytest.mark.parametrize(
    ("monday", "tuesday"),
    [
        (row(SIGNED.format(day="20260305")), row(SIGNED.format(day="20260306"))),
        (
            row("https://h.example/a.jpg?sv=1&se=2026-03-05&sig=abc", media_key="a-key"),
            row("https://cdn.example/else.jpg?sv=2&se=2026-03-06&sig=def", media_key="a-key"),
        ),
        (row("https://h.example/a.jpg"), {"id": "renamed", "image_url": "https://h.example/a.jpg"}),
    ],
    ids=["signed anew", "the same media key", "the item renamed"],
)
def test_the_same_request_is_not_asked_again(server: Server, tmp_path: Path, monday: Any, tuesday: Any):
    assert asked(server, tmp_path, [monday]) == 1
    assert asked(server, tmp_path, [tuesday]) == 0


@pytest.mark.parametrize(
    "tuesday",
    [
        row("https://h.example/b.jpg"),
        row("https://h.example/a.jpg?w=9"),
        row("https://h.example/a.jpg", prompt="why?"),
        row("https://h.example/a.jpg", model="another"),
        row("https://h.example/a.jpg", max_tokens="5"),
        row("https://h.example/a.jpg", media_key="a-key"),
        {"id": "one", "url": "https://h.example/a.jpg", "modality": "document"},
    ],
    ids=["media", "a parameter of the URL", "prompt", "model", "max_tokens", "media key", "modality"],
)
def test_what_changed_is_a_new_request(server: Server, tmp_path: Path, tuesday: Any):
    assert asked(server, tmp_path, [row("https://h.example/a.jpg")]) == 1
    assert asked(server, tmp_path, [tuesday]) == 1


def test_a_local_file_counts_by_its_content(server: Server, tmp_path: Path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"pixels")
    assert asked(server, tmp_path, [row(str(tmp_path / "a.png"))]) == 1
    assert asked(server, tmp_path, [row(str(tmp_path / "b.png"))]) == 0
    (tmp_path / "a.png").write_bytes(b"other pixels")
    assert asked(server, tmp_path, [row(str(tmp_path / "a.png"))]) == 1


def test_failed_ones_are_asked_again_every_night(server: Server, tmp_path: Path):
    assert asked(server, tmp_path, ["well", "bad"]) == 2
    assert asked(server, tmp_path, ["well", "bad"]) == 1
    assert server.times("bad") == 2


def test_again_asks_anew_and_the_newest_answer_is_named(server: Server, tmp_path: Path):
    assert asked(server, tmp_path, ["a"], run_id="monday") == 1
    assert asked(server, tmp_path, ["a"], run_id="tuesday", again=True) == 1
    assert asked(server, tmp_path, ["a"], run_id="wednesday") == 0
    (rest,) = Store(tmp_path / "out").rest.to_dicts()
    assert (rest["run_id"], rest["status"], rest["answered_by_run_id"]) == ("wednesday", "skipped", "tuesday")


def test_jobs_never_meet(server: Server, tmp_path: Path):
    assert asked(server, tmp_path, ["a"], job="captions") == 1
    assert asked(server, tmp_path, ["a"], job="tags") == 1
    assert asked(server, tmp_path, ["a"], job="captions") == 0


def test_a_rehearsal_is_never_skipped_over(server: Server, tmp_path: Path):
    """Neither by a real run nor by another rehearsal."""
    manifest = write_manifest(tmp_path / "manifest.csv", ["a"])
    rehearsal = ("run", manifest, "--embedded", "--out", tmp_path / "out", "--json")
    assert invoke(*rehearsal).json["ok"] == 1
    assert invoke(*rehearsal).json["ok"] == 1
    real = ("run", manifest, "--base-url", server.base_url, "--out", tmp_path / "out", "--json")
    assert invoke(*real).json["ok"] == 1
    assert invoke(*real).json["skipped"] == 1
    assert server.texts() == ["a"]


def test_a_skipped_row_costs_nothing_and_is_no_failure(server: Server, tmp_path: Path):
    spend_night(tmp_path, server.base_url, ["a", "b"])
    night: Night = spend_night(tmp_path, server.base_url, ["a", "b", "c"])
    assert night.code == 0
    tally = night.summary.tally
    assert (tally.skipped, tally.ok, tally.attempts, tally.ended) == (2, 1, 1, 3)


def test_it_says_how_many_were_skipped_and_how_to_ask_them_all_the_same(server: Server, tmp_path: Path):
    manifest = write_manifest(tmp_path / "manifest.csv", ["a", "b"])
    options = ("--base-url", server.base_url, "--out", tmp_path / "out")
    assert invoke("run", manifest, *options).code == 0
    lines = [" ".join(line.split()) for line in invoke("run", manifest, *options).stdout.splitlines()]
    assert "skipped 2 answered in an earlier run; --again asks anew" in lines
    assert invoke("run", manifest, *options, "--again", "--json").json["ok"] == 2


def test_rows_that_ask_the_same_become_one_call_with_one_bill(server: Server, tmp_path: Path):
    rows = [
        {"id": name, "prompt": prompt} for name, prompt in (("a", "x"), ("b", "y"), ("c", "x"), ("d", "x"))
    ]
    night = spend_night(tmp_path, server.base_url, rows, slots=4)
    assert sorted(text or "" for text in server.texts()) == ["x", "y"]
    store = night.store
    assert store.ids("ok") == ["a", "b", "c", "d"]
    assert [store.result(name)["duplicate_of"] for name in "abcd"] == [None, None, "a", "a"]
    assert store.result("c")["text"] == store.result("a")["text"]
    assert store.result("c")["cost"] == 0
    assert store.results["cost"].sum() == 2 * store.result("a")["cost"]
    assert store.costs["item_id"].unique().sort().to_list() == ["a", "b"]
    assert (night.summary.tally.ok, night.summary.tally.duplicates) == (4, 2)


def test_a_duplicate_of_a_failure_failed_and_is_asked_again_tomorrow(server: Server, tmp_path: Path):
    rows = [{"id": "a", "prompt": "bad"}, {"id": "b", "prompt": "bad"}]
    night = spend_night(tmp_path, server.base_url, rows)
    assert (night.code, night.store.ids("failed")) == (5, ["a", "b"])
    assert asked(server, tmp_path, rows) == 1


def test_each_request_carries_a_key_that_its_attempts_share_and_no_other_does(serve: Serve, tmp_path: Path):
    def script(received: Received) -> Play:
        return gateway_error(503, None) if received.nth == 1 else completion()

    server = serve(script)
    spend_night(tmp_path, server.base_url, ["a", "b"], run_id="monday")
    spend_night(tmp_path, server.base_url, ["a", "b"], run_id="tuesday", again=True)
    keys: dict[tuple[str | None, bool], set[str]] = {}
    for place, received in enumerate(server.received):
        keys.setdefault((received.text, place < 4), set()).add(received.headers["idempotency-key"])
    assert all(len(shared) == 1 for shared in keys.values())
    assert len(set().union(*keys.values())) == 4
