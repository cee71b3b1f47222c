"""`--where`: which latest outcomes a clause means, and what a slip is told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.errors import BadInput, Overloaded, RowError, UsageError
from pipeline.records import BadRow, Media
from pipeline.reprocessing import choose, matching, predicate
from tests.made import NOW, attempt, item, outcome, reply, write

IMAGE, CLIP = Media("image", "https://h.example/a.jpg"), Media("video", "https://h.example/a.mp4")
BUSY = Overloaded("busy", http_status=503)
REFUSED = BadInput("no", http_status=400)


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """Failed: busy-1, busy-2 (a day older, with an image), refused, bad. Ok: fine, unseen."""
    store = tmp_path_factory.mktemp("store")
    yesterday = NOW - timedelta(days=1)
    write(store, outcome(item("busy-2", 1, IMAGE), attempt(error=BUSY, at=yesterday)), run_id="r0")
    write(
        store,
        outcome(item("busy-1", 1), attempt(error=BUSY)),
        outcome(item("refused", 2, CLIP, model="b-model"), attempt(error=REFUSED)),
        outcome(item("fine", 3)),
        outcome(item("unseen", 4, IMAGE, CLIP), attempt(1, reply()), seen=["yes", "no"]),
        BadRow("bad", 5, RowError(5, "holds nothing")),
        run_id="r1",
    )
    write(store, outcome(item("busy-1", 1), attempt(error=BUSY)), run_id="r2", job="other")
    return store


def chosen(out: Path, *clauses: str) -> set[str]:
    return set(choose(out, "default", None, predicate(clauses, NOW + timedelta(hours=1)))["item_id"])


@pytest.mark.parametrize(
    ("clauses", "expected"),
    [
        ([], {"busy-1", "busy-2", "refused", "bad"}),
        (["error_class=Overloaded"], {"busy-1", "busy-2"}),
        (["error_class=Overloaded,BadInput"], {"busy-1", "busy-2", "refused"}),
        ([" error_class = Overloaded , BadInput "], {"busy-1", "busy-2", "refused"}),
        (["error-class!=Overloaded"], {"refused", "bad"}),
        (["error_class=Overloaded", "id=*-2"], {"busy-2"}),
        (["http_status=503"], {"busy-1", "busy-2"}),
        (["http_status!=503"], {"refused", "bad"}),
        (["http_status>400"], {"busy-1", "busy-2"}),
        (["http_status>=400", "http_status<500"], {"refused"}),
        (["modality=image"], {"busy-2"}),
        (["modality=image,video"], {"busy-2", "refused"}),
        (["modality!=image"], {"busy-1", "refused", "bad"}),
        (["modality=text"], {"busy-1", "bad"}),
        (["model=b-model"], {"refused"}),
        (["model=a-model-0305", "status=ok"], {"fine", "unseen"}),
        (["model!=b-model"], {"busy-1", "busy-2", "bad"}),
        (["run=r0"], {"busy-2"}),
        (["age<2h"], {"busy-1", "refused"}),
        (["age>0.5d", "error_class=Overloaded"], {"busy-2"}),
        (["age<=2w", "error_class=Overloaded"], {"busy-1", "busy-2"}),
        (["id=busy-1,bad"], {"busy-1", "bad"}),
        (["id=b*"], {"busy-1", "busy-2", "bad"}),
        (["id=*s*-?"], set()),
        (["status=ok"], {"fine", "unseen"}),
        (["status=ok,failed"], {"busy-1", "busy-2", "refused", "bad", "fine", "unseen"}),
        (["seen=no"], {"unseen"}),
        (["finish_reason=stop"], {"fine", "unseen"}),
        (["finish_reason=stop", "status=failed"], set()),
        (["finish_reason!=stop"], {"busy-1", "busy-2", "refused", "bad"}),
    ],
    ids=lambda names: " ".join(sorted(names)),
)
def test_clauses_choose_by_the_latest_outcome(out: Path, clauses: list[str], expected: set[str]):
    # A bad row's outcome has the hour in which the test runs: it is of no age here.
    assert (
        chosen(out, *clauses) - ({"bad"} if clauses[:1] and clauses[0].startswith("age") else set())
        == expected
    )


@pytest.mark.parametrize(
    ("clause", "sentence"),
    [
        (
            "errorclass=Overloaded",
            "no such key 'errorclass'; did you mean error_class? the keys are error_class",
        ),
        ("colour=red", "no such key 'colour'; the keys are error_class, http_status, finish_reason"),
        ("error_class", "say KEY=VALUE"),
        ("", "say KEY=VALUE"),
        ("error_class=", "names no value; say error_class=VALUE"),
        ("error_class=Overload", "no error_class is called 'Overload'; did you mean Overloaded?"),
        ("error_class=overloaded", "did you mean Overloaded?"),
        ("status=fine", "no status is called 'fine'; there are failed, ok"),
        ("seen=nope", "there are no, unknown, yes"),
        ("modality=picture", "there are audio, document, image, text, video"),
        ("http_status=5xx", "http_status is a whole number, as in http_status=503"),
        ("http_status>400,500", "> takes one number"),
        ("model>a", "model takes = and !="),
        ("age<yesterday", "an age is told as age<2d or age>12h"),
        ("age=2d", "an age is told as age<2d or age>12h"),
        ("age<99999999999w", "no run is that old"),
    ],
)
def test_a_slip_is_told_with_the_keys_there_are(clause: str, sentence: str):
    with pytest.raises(UsageError) as caught:
        predicate([clause], NOW)
    assert sentence in str(caught.value)


def test_a_run_and_a_limit_choose_further(out: Path):
    assert choose(out, "default", "r0", predicate([], NOW))["item_id"].to_list() == ["busy-2"]
    assert choose(out, "default", None, predicate([], NOW), 2)["item_id"].to_list() == ["busy-2", "busy-1"]
    assert choose(out, "other", None, predicate([], NOW))["item_id"].to_list() == ["busy-1"]


def test_commas_stars_and_backslashes_are_meant_themselves_behind_a_backslash(tmp_path: Path):
    names = ["a,b", "a*b", "a-b", "a\\b", "a\\,b", "a\\*b"]
    write(tmp_path, *(outcome(item(name, row), attempt(error=REFUSED)) for row, name in enumerate(names, 1)))
    for name in names:
        escaped = "".join("\\" + letter if letter in ",*\\" else letter for letter in name)
        assert chosen(tmp_path, f"id={escaped}") == {name}
        assert chosen(tmp_path, f"id=none,{escaped}") == {name}
    assert chosen(tmp_path, "id=a\\b") == {"a\\b"}, "one before any other letter is itself"
    assert chosen(tmp_path, "id=a*") == set(names)
    assert chosen(tmp_path, "id=a\\\\*b") == {"a\\b", "a\\,b", "a\\*b"}


def test_thousands_of_ids_may_be_named(out: Path):
    many = ",".join(f"none-{number}" for number in range(5_000))
    assert chosen(out, f"id={many},busy-*") == {"busy-1", "busy-2"}


def test_who_looks_and_does_not_ask_means_answered_items_too(out: Path):
    later = NOW + timedelta(hours=1)
    found = choose(out, "default", None, matching(["modality=image"], later))
    assert set(found["item_id"]) == {"busy-2", "unseen"}
    assert choose(out, "default", None, matching([], later)).height == 6
