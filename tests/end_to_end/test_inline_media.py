"""Media fetched here and inlined, over real HTTP: what arrives, and what a hostile host gets nowhere with."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64encode
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
import pytest

from pipeline.launch import launch
from pipeline.media.guarding import Window
from pipeline.media.kinds import MAX_INLINE_BYTES
from pipeline.plan import Secrets
from tests.end_to_end.hosts import PUBLIC, Names, Rerouted, parts_of, seeing, serving, world
from tests.end_to_end.nights import KEY, Store, plan_for, run_command, write_manifest
from tests.media.contents import (
    PAGE,
    PAGE_LIKE_A_GIF,
    SCRIPT_LIKE_A_GIF,
    archive,
    bomb,
    picture,
    sound,
)
from tests.serving.answers import (
    HANG,
    RESET,
    Answer,
    completion,
    cut_off,
    dripping,
    gateway_error,
    in_turn,
    redirect,
    stalled,
)
from tests.serving.server import Play, Received, Server

PICTURE = picture("PNG", noise=True)


def night(folder: Path, host: Server, rows: list[dict[str, str]], *more: str, script: Any = seeing) -> Any:
    """A run of the real command: (how it ended, its store, what the endpoint received)."""
    full = [
        {"id": row.get("id", f"i{number}"), "prompt": f"look {number}", **row}
        for number, row in enumerate(rows)
    ]
    for row in full:
        for name, url in row.items():
            row[name] = url.replace("HOST", f"http://{host.address}") if name.endswith("url") else url
    manifest = write_manifest(folder / "m.csv", full)
    with Server(script) as endpoint:
        ran = run_command(
            *("run", manifest, "--base-url", endpoint.base_url, "--json", "--out", folder / "out"),
            *("--concurrency", "8", "--allow-private", *more),
            cwd=folder,
        )
        return ran, Store(folder / "out"), list(endpoint.received)


def test_media_are_fetched_judged_by_their_content_and_inlined(tmp_path: Path):
    paths = {"/a": PICTURE, "/b.wav": sound(), "/c": picture("JPEG")}
    with Server(serving(paths)) as host:
        rows = [{"image_url": '["HOST/a", "HOST/c"]', "audio_url": "HOST/b.wav"}]
        ran, store, received = night(tmp_path, host, rows, "--media", "inline")
    assert ran.code == 0, ran.stderr
    assert [parts_of(one) for one in received] == [
        [
            f"data:image/png;base64 {len(PICTURE)}",
            f"data:image/jpeg;base64 {len(paths['/c'])}",
            f"data:audio/wav;base64 {len(paths['/b.wav'])}",
        ]
    ]
    (row,) = store.results.to_dicts()
    assert {one["url"] for one in row["media"]} == {f"http://{host.address}{path}" for path in paths}
    assert b"base64" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*.parquet"))
    assert store.run["plan"]["media"] == "inline"


@pytest.mark.parametrize("dialect", ["newapi", "newapi-strings", "openai"])
def test_every_dialect_spells_inline_media_its_own_way(tmp_path: Path, dialect: str):
    film, wav = (files("data") / "media" / "three-scenes.mp4").read_bytes(), sound(30)
    with Server(serving({"/a": PICTURE, "/b": wav, "/c": film})) as host:
        row = {"image_url": "HOST/a", "audio_url": "HOST/b", "video_url": "HOST/c"}
        ran, _, received = night(
            tmp_path, host, [row], "--media", "inline", "--dialect", dialect, script=lambda _: completion()
        )
    assert ran.code == 0, ran.stderr
    content = {part["type"]: part for part in received[0].json["messages"][0]["content"]}
    assert content["image_url"]["image_url"] == {"url": data_url("image/png", PICTURE)}
    told = data_url("video/mp4", film)
    assert content["video_url"]["video_url"] == (told if dialect == "newapi-strings" else {"url": told})
    if dialect == "openai":
        assert content["input_audio"]["input_audio"] == {"data": b64encode(wav).decode(), "format": "wav"}
    else:
        told = data_url("audio/wav", wav)
        assert content["audio_url"]["audio_url"] == (told if dialect == "newapi-strings" else {"url": told})


def data_url(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{b64encode(content).decode()}"


def test_by_default_no_media_host_is_contacted(tmp_path: Path):
    with Server(serving({"/a": PICTURE})) as host:
        ran, _, received = night(tmp_path, host, [{"image_url": "HOST/a"}])
        assert host.received == []
    assert ran.code == 0
    assert [parts_of(one) for one in received] == [[f"http://{host.address}/a"]]


def test_what_rows_share_is_fetched_once(tmp_path: Path):
    with Server(serving({"/a": PICTURE})) as host:
        rows = [{"image_url": f"HOST/a?X-Amz-Signature={number}&X-Amz-Date=1"} for number in range(40)]
        ran, _, received = night(tmp_path, host, rows, "--media", "inline")
        assert ran.code == 0, ran.stderr
        assert len(received) == 40
        assert len(host.received) == 1


def test_a_large_medium_arrives_whole(tmp_path: Path):
    large = picture("BMP", (2000, 1500), noise=True)  # 9 MB: sent in pieces
    with Server(serving({"/large": large})) as host:
        ran, _, received = night(tmp_path, host, [{"image_url": "HOST/large"}], "--media", "inline")
    assert ran.code == 0, ran.stderr
    assert parts_of(received[0]) == [f"data:image/bmp;base64 {len(large)}"]


def test_a_retry_has_its_media_again(tmp_path: Path):
    def script(received: Received) -> Play:
        return in_turn(received, [gateway_error(503)], seeing(received))

    with Server(serving({"/a": PICTURE})) as host:
        ran, store, received = night(
            tmp_path, host, [{"image_url": "HOST/a"}], "--media", "inline", script=script
        )
    assert ran.code == 0, ran.stderr
    assert len({tuple(parts_of(one)) for one in received}) == 1
    assert [one["attempt"] for one in store.attempts_of("i0")] == [1, 2]


def lying_length(content: bytes, claimed: int) -> Play:
    return Answer(200, content, {"Content-Type": "image/png", "Content-Length": str(claimed)})


def typed(content: bytes, mime: str = "image/png", **headers: str) -> Answer:
    return Answer(200, content, {"Content-Type": mime, **headers})


def zipped_bomb(size_bytes: int = 200_000_000) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(1_000_000)
    return b"".join([*(packer.compress(block) for _ in range(size_bytes // len(block))), packer.flush()])


HOSTILE: dict[str, tuple[Play, str, str]] = {
    "endless": (dripping(0, bytes(65_536)), "MediaOversized", "more than 20 MB"),
    "slow drip": (dripping(0.2), "FetchFailed", "did not arrive within"),
    "silent": (HANG, "FetchFailed", "within"),
    "stalls": (stalled(typed(PICTURE), 100), "FetchFailed", "within"),
    "resets": (RESET, "FetchFailed", ""),
    "hangs up early": (cut_off(typed(PICTURE), 100), "FetchFailed", ""),
    "claims to be short": (lying_length(PICTURE, 200), "MediaMistaken", "truncated"),
    "claims to be huge": (lying_length(PICTURE, MAX_INLINE_BYTES + 1), "MediaOversized", "20 MB"),
    "is huge": (typed(bytes(MAX_INLINE_BYTES + 1)), "MediaOversized", "20 MB"),
    "empty": (typed(b""), "MediaMistaken", "is empty"),
    "a page as an image": (typed(PAGE), "MediaMistaken", "it is a web page, not an image"),
    "404": (Answer(404, PAGE), "MediaMissing", "its host answers 404"),
    "403": (Answer(403, PAGE), "MediaMissing", "its host answers 403"),
    "410": (Answer(410, b""), "MediaMissing", "its host answers 410"),
    "503": (Answer(503, PAGE), "FetchFailed", "its host answers 503"),
    "to a file": (redirect("file:///etc/passwd"), "MediaMistaken", "no http(s) address"),
    "to itself": (redirect("/to-itself"), "MediaMissing", "302"),
    "a bomb": (typed(bomb()), "MediaMistaken", "too many pixels"),
    "a zipped bomb": (
        typed(zipped_bomb(), **{"Content-Encoding": "gzip"}),
        "MediaOversized",
        "20 MB",
    ),
    "packed oddly": (typed(PICTURE, **{"Content-Encoding": "br"}), "MediaMistaken", "packed (br)"),
    "badly packed": (typed(PICTURE, **{"Content-Encoding": "gzip"}), "MediaMistaken", "cannot be unpacked"),
    "a script like a GIF": (typed(SCRIPT_LIKE_A_GIF, "image/gif"), "MediaMistaken", ""),
    "a page like a GIF": (typed(PAGE_LIKE_A_GIF, "image/gif"), "MediaMistaken", ""),
    "a zip behind a PNG": (typed(PICTURE + archive()), "MediaMistaken", "something else behind it"),
    "sound as an image": (typed(sound()), "MediaMistaken", "no image"),
}


def test_whatever_a_host_does_it_costs_its_own_row_and_no_other(tmp_path: Path):
    paths: dict[str, Any] = {f"/{name.replace(' ', '-')}": play for name, (play, *_) in HOSTILE.items()}
    paths["/good"] = PICTURE
    paths["/packed"] = typed(gzip.compress(PICTURE), **{"Content-Encoding": "gzip"})
    with Server(serving(paths)) as host:
        rows = [{"id": path, "image_url": f"HOST{path}"} for path in paths]
        rows += [{"id": f"good {number}", "image_url": "HOST/good"} for number in range(5)]
        ran, store, received = night(
            tmp_path, host, rows, "--media", "inline", "--timeout", "2", "--max-attempts", "2"
        )
    told = ran.json
    assert told["state"] == "done", told["halts"]
    failed = {row["item_id"]: row for row in store.results.to_dicts() if row["status"] == "failed"}
    assert {name: row["error_class"] for name, row in failed.items()} == {
        f"/{name.replace(' ', '-')}": error_class for name, (_, error_class, _) in HOSTILE.items()
    }
    for name, (_, _, sentence) in HOSTILE.items():
        message = failed[f"/{name.replace(' ', '-')}"]["error_message"]
        assert message.startswith(f"http://{host.address}/"), message
        assert sentence in message, message
    assert {row["attempts"] for row in failed.values()} == {0}
    assert (told["ok"], told["attempts"], len(received)) == (7, 7, 7)
    assert all(parts_of(one) == [f"data:image/png;base64 {len(PICTURE)}"] for one in received)


def guarded_night(
    folder: Path, host: Server, names: Mapping[str, list[list[str]]], urls: Mapping[str, str]
) -> tuple[Store, Rerouted]:
    """A launch in this process, through a window that has its own names; no private address allowed."""
    rerouted = Rerouted(host.port)
    window = Window(allow_private=False, resolve=Names(names), inner=rerouted)
    rows = [{"id": name, "prompt": name, "image_url": url} for name, url in urls.items()]
    manifest = write_manifest(folder / "m.csv", rows)
    with Server(seeing) as endpoint:
        plan = plan_for(manifest, endpoint.base_url, folder / "out", media="inline")
        anyio.run(lambda: launch(plan, Secrets(api_key=KEY), world=world(window)))
    return Store(folder / "out"), rerouted


def test_no_redirect_and_no_name_leads_into_this_network(tmp_path: Path):
    paths: dict[str, Any] = {
        "/good": PICTURE,
        "/loopback": redirect("http://127.0.0.1/admin"),
        "/metadata": redirect("http://169.254.169.254/latest/meta-data/"),
        "/named": redirect("http://intranet.example/"),
        "/far": redirect("http://media.example/good"),
        "/mapped": redirect("http://[::ffff:7f00:1]/"),
    }
    with Server(serving(paths)) as host:
        names = {
            "media.example": [[PUBLIC]],
            "intranet.example": [["10.0.0.7"]],
            "mixed.example": [[PUBLIC, "192.168.0.1"]],
        }
        urls = {path: f"http://media.example{path}" for path in paths}
        urls["direct"] = "http://169.254.169.254/latest/meta-data/"
        urls["mixed"] = "http://mixed.example/good"
        store, rerouted = guarded_night(tmp_path, host, names, urls)
    assert store.ids("ok") == ["/good", "/far"]
    for name, address in {
        "/loopback": "127.0.0.1",
        "/metadata": "169.254.169.254",
        "/named": "10.0.0.7",
        "/mapped": "::ffff:7f00:1",
        "direct": "169.254.169.254",
        "mixed": "192.168.0.1",
    }.items():
        row = store.result(name)
        assert row["error_class"] == "AddressRefused", row
        assert address in row["error_message"]
        assert "is an address of this network, which only --allow-private may ask" in row["error_message"]
    assert set(rerouted.connected) == {PUBLIC}


def test_a_name_that_answers_public_first_and_private_next_is_refused(tmp_path: Path):
    """The second picture is fetched over a new connection, for which the name is asked again."""
    closing = Answer(200, PICTURE, {"Content-Type": "image/png", "Connection": "close"})
    with Server(serving({"/1": closing, "/2": closing})) as host:
        names = {"rebinding.example": [[PUBLIC], ["127.0.0.1"]]}
        urls = {"first": "http://rebinding.example/1", "second": "http://rebinding.example/2"}
        store, rerouted = guarded_night(tmp_path, host, names, urls)
    assert store.ids("ok") == ["first"]
    assert store.result("second")["error_class"] == "AddressRefused"
    assert rerouted.connected == [PUBLIC]


def test_what_fails_in_passing_is_fetched_again(tmp_path: Path):
    came: dict[str, int] = {}

    def flaky(received: Received) -> Play:
        came[received.target] = came.get(received.target, 0) + 1
        if came[received.target] < 3:
            return [RESET, Answer(503, b"", {"Retry-After": "0"})][came[received.target] % 2]
        return typed(PICTURE)

    with Server(flaky) as host:
        ran, store, _ = night(tmp_path, host, [{"image_url": "HOST/a"}], "--media", "inline")
    assert ran.code == 0, ran.stderr
    assert came == {"/a": 3}
    assert store.result("i0")["attempts"] == 1


def test_a_failed_fetch_keeps_its_media_in_the_results_and_can_be_asked_again(tmp_path: Path):
    paths: dict[str, Any] = {}
    with Server(serving(paths)) as host:
        ran, store, _ = night(
            tmp_path, host, [{"id": "one", "image_url": "HOST/late?sig=1&sv=2"}], "--media", "inline"
        )
        assert (ran.code, ran.json["errors"]) == (5, {"MediaMissing": 1})
        assert store.result("one")["media"] == [
            {"modality": "image", "url": f"http://{host.address}/late", "seen": "unknown"}
        ]
        paths["/late"] = PICTURE
        with Server(seeing) as endpoint:
            again = run_command(
                *("reprocess", "--where", "error_class=MediaMissing", "--base-url", endpoint.base_url),
                *("--json", "--out", tmp_path / "out"),
                cwd=tmp_path,
            )
            assert again.code == 0, again.stderr
            assert [parts_of(one) for one in endpoint.received] == [[f"data:image/png;base64 {len(PICTURE)}"]]


def test_a_slow_media_host_holds_up_no_other_row(tmp_path: Path):
    """One slot, and eight rows whose host takes its time: the others are answered meanwhile."""
    order: list[str] = []

    def script(received: Received) -> Play:
        order.append(received.text or "")
        return seeing(received)

    paths = {f"/{number}": typed(PICTURE).after(1.5) for number in range(2)}
    with Server(serving({**paths, "/quick": PICTURE})) as host:
        rows = [{"image_url": f"HOST/{number}"} for number in range(2)]
        rows += [{"image_url": "HOST/quick"} for _ in range(5)]
        ran, _, _ = night(tmp_path, host, rows, "--media", "inline", "--concurrency", "1", script=script)
    assert ran.code == 0, ran.stderr
    assert {order[-1], order[-2]} == {"look 0", "look 1"}


def test_images_are_made_smaller_and_the_summary_says_what_that_saved(tmp_path: Path):
    """gpt-4o: 2048 x 1024 is 1536 x 768, 6 tiles: 85 + 6 x 170 = 1105; 512 x 256 is one: 255. 850 saved."""
    large = picture("JPEG", (2048, 1024))
    with Server(serving({"/large": large, "/small": PICTURE})) as host:
        rows = [{"image_url": "HOST/large"}, {"image_url": "HOST/small"}]
        more = ("--media", "inline", "--image-max-px", "512", "--model", "gpt-4o")
        ran, store, received = night(tmp_path, host, rows, *more)
        assert ran.code == 0, ran.stderr
        assert (ran.json["images_shrunk"], ran.json["tokens_saved"]) == (1, 850)
        sent = {one.text: parts_of(one)[0] for one in received}
        assert sent["look 1"] == f"data:image/png;base64 {len(PICTURE)}"
        assert int(sent["look 0"].split()[1]) < len(large)
        assert json.loads(store.result("i0")["request_json"])["image_max_px"] == 512
        again, _, asked = night(tmp_path, host, rows, *more)
        assert (again.json["skipped"], asked) == (2, [])
        other, _, _ = night(tmp_path, host, rows, *more[:-3], "256", *more[-2:])
        assert other.json["ok"] == 2  # it asks something else


def test_making_images_smaller_needs_them_inline(tmp_path: Path):
    with Server(completion) as host:
        ran, _, _ = night(tmp_path, host, [{"image_url": "HOST/a"}], "--image-max-px", "512")
    assert ran.code == 2
    assert "add --media inline" in ran.stderr


@pytest.mark.parametrize("media", ["inline", "auto"])
def test_local_images_are_made_smaller_too(tmp_path: Path, media: str):
    (tmp_path / "local.png").write_bytes(picture("PNG", (900, 300)))
    with Server(completion) as host:
        ran, _, received = night(
            tmp_path, host, [{"image_url": "local.png"}], "--media", media, "--image-max-px", "300"
        )
    assert ran.code == 0, ran.stderr
    assert ran.json["images_shrunk"] == 1
    (part,) = parts_of(received[0])
    assert part.startswith("data:image/png;base64 ")
