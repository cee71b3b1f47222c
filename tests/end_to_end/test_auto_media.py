"""`--media auto`: inlined where the endpoint cannot get at a medium or drops it, and no more is paid for that
than it takes to learn it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio

from pipeline.launch import launch
from pipeline.media.guarding import Window
from pipeline.plan import Secrets
from tests.end_to_end.hosts import PUBLIC, Names, Rerouted, parts_of, seeing, serving, world
from tests.end_to_end.nights import KEY, Store, plan_for, write_manifest
from tests.media.contents import picture
from tests.serving.answers import Answer, completion, gateway_error
from tests.serving.server import Play, Received, Server

PICTURE = picture("PNG", noise=True)
INLINE = f"data:image/png;base64 {len(PICTURE)}"
UNREACHABLE = gateway_error(
    500, "convert_request_failed", "failed to download file: Get: dial tcp: i/o timeout"
)
GONE = gateway_error(500, "convert_request_failed", "failed to download file, status code: 404")


def night(
    folder: Path,
    script: Any,
    urls: list[str],
    paths: dict[str, Any] | None = None,
    *,
    videos: list[str] | None = None,
    **changes: Any,
) -> tuple[Store, list[Received], list[Received]]:
    """(its store, what the endpoint received, and the media host); one slot, so rows go in their order."""
    with Server(serving({"/a": PICTURE} if paths is None else paths)) as host, Server(script) as endpoint:
        names = {"media.example": [[PUBLIC]], "other.example": [[PUBLIC]], "corp.example": [["10.0.0.7"]]}
        names["printer.local"] = [["192.168.1.9"]]
        window = Window(allow_private=False, resolve=Names(names), inner=Rerouted(host.port))
        rows = [
            {"id": f"i{number}", "prompt": f"look {number}", "image_url": url, "video_url": video}
            for number, (url, video) in enumerate(zip(urls, videos or [""] * len(urls), strict=True))
        ]
        manifest = write_manifest(folder / "m.csv", rows)
        plan = plan_for(manifest, endpoint.base_url, folder / "out", media="auto", **changes)
        anyio.run(lambda: launch(plan, Secrets(api_key=KEY), world=world(window)))
        return Store(folder / "out"), list(endpoint.received), list(host.received)


def sent_by_item(asked: list[Received]) -> dict[str, list[str]]:
    """What each item asked about, the last of its media, in the order of its attempts."""
    sent: dict[str, list[str]] = {}
    for one in asked:
        sent.setdefault(one.text or "", []).append(parts_of(one)[-1])
    return dict(sorted(sent.items()))


def refusing_urls(answer: Answer) -> Any:
    def script(received: Received) -> Play:
        return answer if any(part.startswith("http") for part in parts_of(received)) else seeing(received)

    return script


def seeing_all(received: Received) -> Answer:
    """An endpoint that can fetch."""
    usage = {
        "prompt_tokens": 310,
        "completion_tokens": 5,
        "total_tokens": 315,
        "prompt_tokens_details": {"text_tokens": 10, "image_tokens": 300},
    }
    return completion("a scene", usage=usage)


def test_an_endpoint_that_can_fetch_is_given_urls_and_no_host_is_contacted(tmp_path: Path):
    store, asked, fetched = night(tmp_path, seeing_all, ["https://media.example/a"] * 1)
    assert [parts_of(one) for one in asked] == [["https://media.example/a"]]
    assert (store.ids("ok"), fetched) == (["i0"], [])


def test_what_it_cannot_fetch_is_inlined_and_the_next_of_that_host_at_once(tmp_path: Path):
    paths = {f"/{n}": PICTURE for n in range(4)}
    urls = [f"http://media.example/{n}" for n in range(3)] + ["http://other.example/3"]
    store, asked, _ = night(tmp_path, refusing_urls(UNREACHABLE), urls, paths)
    assert store.ids("ok") == ["i0", "i1", "i2", "i3"]
    assert sent_by_item(asked) == {
        "look 0": ["http://media.example/0", INLINE],  # once, and not five times
        "look 1": [INLINE],
        "look 2": [INLINE],
        "look 3": ["http://other.example/3", INLINE],
    }
    keys = [one.headers["idempotency-key"] for one in asked if one.text == "look 0"]
    assert keys[1] == f"{keys[0]}-inline"  # another question: an answer to the first would be none to it
    assert [(row["attempt"], row["error_class"]) for row in store.attempts_of("i0")] == [
        (1, "MediaHostFailed"),
        (2, None),
    ]
    assert store.result("i0")["attempts"] == 2


def test_what_is_gone_for_both_fails_and_teaches_nothing(tmp_path: Path):
    urls = ["http://media.example/gone", "http://media.example/a"]
    store, asked, _ = night(tmp_path, refusing_urls(GONE), urls, {"/a": PICTURE})
    assert [parts_of(one) for one in asked] == [
        *(["http://media.example/gone"], ["http://media.example/a"], [INLINE])
    ]
    row = store.result("i0")
    assert (row["error_class"], row["attempts"]) == ("MediaMissing", 1)
    assert [one["error_class"] for one in store.attempts_of("i0")] == ["MediaUnreadable"]
    assert store.ids("ok") == ["i1"]


FILM = (files("data") / "media" / "bouncing-ball.mp4").read_bytes()
FILM_INLINE = f"data:video/mp4;base64 {len(FILM)}"


def films(folder: Path, script: Any, count: int, **changes: Any) -> tuple[Store, list[Received]]:
    """Rows of a picture, which is always seen, and a film."""
    paths = {"/a": PICTURE, **{f"/{number}.mp4": FILM for number in range(count)}}
    urls = [f"http://media.example/{number}.mp4" for number in range(count)]
    store, asked, _ = night(folder, script, ["http://media.example/a"] * count, paths, videos=urls, **changes)
    return store, asked


def test_what_was_not_seen_is_asked_again_inline_and_the_next_at_once(tmp_path: Path):
    """Both tries of the first are paid: text and picture, then the film too."""
    store, asked = films(tmp_path, seeing, 3)
    assert sent_by_item(asked) == {
        "look 0": ["http://media.example/0.mp4", FILM_INLINE],
        "look 1": [FILM_INLINE],
        "look 2": [FILM_INLINE],
    }
    assert {one["seen"] for row in store.results["media"] for one in row} == {"yes"}
    assert store.costs.filter(item_id="i0", direction="input")["tokens"].sum() == 310 + 610
    assert store.result("i0")["attempts"] == 2


def test_many_at_once_learn_it_from_one(tmp_path: Path):
    """Eight slots: what is in flight when it shows is asked again, and nothing else."""
    store, asked = films(tmp_path, seeing, 40, slots=8)
    assert len(store.ids("ok")) == 40
    assert len(asked) <= 40 + 8


def dropping_films(received: Received) -> Answer:
    usage = {
        "prompt_tokens": 310,
        "completion_tokens": 5,
        "total_tokens": 315,
        "prompt_tokens_details": {"text_tokens": 10, "image_tokens": 300},
    }
    return completion(f"about {received.text}", usage=usage)


def test_where_inlining_is_of_no_use_it_is_tried_once(tmp_path: Path):
    store, asked = films(tmp_path, dropping_films, 3)
    assert sent_by_item(asked) == {
        "look 0": ["http://media.example/0.mp4", FILM_INLINE],
        "look 1": ["http://media.example/1.mp4"],
        "look 2": ["http://media.example/2.mp4"],
    }
    assert store.ids("ok") == ["i0", "i1", "i2"]
    assert store.results["unseen"].to_list() == ["video"] * 3


def test_many_at_once_learn_from_one_that_it_is_of_no_use(tmp_path: Path):
    store, asked = films(tmp_path, dropping_films, 40, slots=8)
    assert len(asked) == 41
    assert len(store.ids("ok")) == 40
    assert store.rows() == list(range(1, 41))
    assert store.attempts.height == 41


def test_an_answer_that_was_paid_for_stays_where_the_second_asking_fails(tmp_path: Path):
    def script(received: Received) -> Play:
        inline = parts_of(received)[-1].startswith("data:")
        return gateway_error(400, "INVALID_ARGUMENT") if inline else dropping_films(received)

    store, asked = films(tmp_path, script, 1)
    assert len(asked) == 2
    row = store.result("i0")
    assert (row["status"], row["text"], row["attempts"]) == ("ok", "about look 0", 2)
    assert [one["seen"] for one in row["media"]] == ["yes", "no"]
    assert [one["error_class"] for one in store.attempts_of("i0")] == [None, "BadInput"]


def test_an_answer_that_was_paid_for_stays_where_its_media_cannot_be_had(tmp_path: Path):
    store, asked, _ = night(
        tmp_path, dropping_films, ["http://media.example/a"], {}, videos=["http://media.example/gone"]
    )
    row = store.result("i0")
    assert (len(asked), row["status"], row["text"], row["attempts"]) == (1, "ok", "about look 0", 1)
    assert store.rows() == [1]


def test_hosts_of_this_network_are_inlined_at_once_where_that_is_allowed(tmp_path: Path):
    urls = ["http://127.0.0.1/a", "http://corp.example/a", "http://printer.local/a"]
    store, asked, _ = night(tmp_path, seeing_all, urls)
    assert asked == []  # nothing of them is told to an endpoint elsewhere
    assert {row["error_class"] for row in store.results.to_dicts()} == {"AddressRefused"}
    assert all("--allow-private" in row["error_message"] for row in store.results.to_dicts())


def test_a_media_error_of_another_kind_is_left_to_the_policy(tmp_path: Path):
    def script(received: Received) -> Play:
        return gateway_error(503) if received.nth == 1 else seeing_all(received)

    _, asked, fetched = night(tmp_path, script, ["http://media.example/a"])
    assert [parts_of(one) for one in asked] == [["http://media.example/a"]] * 2
    assert fetched == []


def test_a_resumed_run_goes_on_as_it_was_planned(tmp_path: Path):
    night(tmp_path, seeing_all, ["http://media.example/a"])
    plan = json.loads(next((tmp_path / "out" / "runs").glob("*/run.json")).read_text())["plan"]
    assert (plan["media"], plan["allow_private"], plan["image_max_px"]) == ("auto", False, None)
