"""`mediabatch estimate`, over real HTTP: what it foretells, what it asks, and what a run makes of it."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import pytest

from tests.end_to_end.nights import Finished, invoke, write_manifest
from tests.serving.answers import completion
from tests.serving.server import Server

DATA = Path(str(files("data")))
EXAMPLE = DATA / "manifests" / "example.csv"


def estimate(*arguments: str | Path) -> Finished:
    return invoke("estimate", *arguments)


def input_tokens(told: dict[str, object]) -> dict[str, int]:
    return {end: told["tokens"]["input"][end] for end in ("low", "likely", "high")}  # type: ignore[index]


def test_the_input_tokens_of_the_shipped_media_are_exact(tmp_path: Path) -> None:
    """Before anything was answered, and by modality where the endpoint tells them apart."""
    told = estimate(EXAMPLE, "--embedded", "--out", tmp_path, "--json").json
    ran = invoke("run", EXAMPLE, "--embedded", "--out", tmp_path, "--json", "--no-progress").json
    billed = Counter[str]()
    for line in ran["usage"]:
        if line["direction"] == "input":
            billed[line["modality"]] += line["tokens"]
    assert input_tokens(told) == dict.fromkeys(("low", "likely", "high"), sum(billed.values()))
    foretold = {line["modality"]: line["tokens"]["likely"] for line in told["usage"]}
    assert foretold["audio"] == billed["audio"]
    assert foretold["image"] + foretold["video"] == billed["image"] + billed["video"] + billed["image+video"]
    assert told["unreadable"] == 1


def test_they_are_exact_after_a_rehearsal_too_and_the_answers_are_as_long_as_they_were(
    tmp_path: Path,
) -> None:
    ran = invoke("run", EXAMPLE, "--embedded", "--out", tmp_path, "--json", "--no-progress").json
    told = estimate(EXAMPLE, "--embedded", "--out", tmp_path, "--json").json
    billed = sum(line["tokens"] for line in ran["usage"] if line["direction"] == "input")
    answered = sum(line["tokens"] for line in ran["usage"] if line["direction"] == "output")
    assert input_tokens(told) == dict.fromkeys(("low", "likely", "high"), billed)
    assert told["tokens"]["output"]["low"] <= answered <= told["tokens"]["output"]["high"]


def test_a_run_that_was_estimated_ends_beside_its_estimate(tmp_path: Path) -> None:
    told = estimate(EXAMPLE, "--embedded", "--out", tmp_path, "--json").json
    ran = invoke("run", EXAMPLE, "--embedded", "--out", tmp_path, "--no-progress")
    assert "estimated: USD" in ran.stdout
    assert "within the band" in ran.stdout
    asked_otherwise = invoke(
        "run", EXAMPLE, "--embedded", "--out", tmp_path, "--no-progress", "--max-tokens", "7", "--json"
    ).json
    assert asked_otherwise["estimate"] is None
    again = invoke("run", EXAMPLE, "--embedded", "--out", tmp_path, "--no-progress", "--json").json
    assert again["estimate"] == told


def test_the_endpoint_is_not_asked(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(lambda received: completion())
    manifest = write_manifest(tmp_path / "m.csv", [{"id": "a", "prompt": "Say yes."}])
    done = estimate(manifest, "--base-url", server.base_url, "--out", tmp_path / "out")
    assert done.code == 0, done.stderr
    assert not server.received


class _Host(SimpleHTTPRequestHandler):
    """The shipped media, in ranges."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        asked = self.headers["Range"]
        self.asked.append((path, asked))
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/sunset.jpg")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        file = DATA / "media" / path[1:]
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def media_host() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    asked: list[tuple[str, str | None]] = []
    handler = type("Host", (_Host,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def remote(tmp_path: Path, base_url: str, *names: str) -> Path:
    columns = {".jpg": "image_url", ".wav": "audio_url", ".mp4": "video_url", "": "image_url"}
    rows = [{columns[Path(name).suffix]: f"{base_url}/{name}"} for name in names]
    return write_manifest(tmp_path / "m.csv", rows)


def likely(told: Finished) -> dict[str, int]:
    return {
        line["modality"]: line["tokens"]["likely"]
        for line in told.json["usage"]
        if line["direction"] == "input"
    }


REMOTE = ("--base-url", "https://endpoint.invalid/v1", "--json")


def test_remote_media_are_looked_at_by_their_first_and_last_bytes(tmp_path: Path) -> None:
    """Gemini 3: 1,120 an image, 70 a second of film, and its sound by the second."""
    with media_host() as (base_url, asked):
        manifest = remote(tmp_path, base_url, "sunset.jpg", "three-scenes.mp4", "greeting-en.wav", "moved")
        told = estimate(manifest, *REMOTE, "--out", tmp_path / "out", "--allow-private")
    local = remote(
        tmp_path, str(DATA / "media"), "sunset.jpg", "three-scenes.mp4", "greeting-en.wav", "sunset.jpg"
    )
    there = estimate(local, *REMOTE, "--out", tmp_path / "out2", "--again")
    assert told.json["looked_at"] == 4
    assert likely(told)["video"] == likely(there)["video"]
    assert likely(told)["audio"] == likely(there)["audio"]
    assert likely(told)["image"] == 2 * 1120
    assert all(part is not None for _, part in asked)


def test_private_addresses_are_not_asked_unless_allowed(tmp_path: Path) -> None:
    with media_host() as (base_url, asked):
        told = estimate(remote(tmp_path, base_url, "sunset.jpg"), *REMOTE, "--out", tmp_path / "out").json
    assert told["unreachable"] == {
        "127.0.0.1 is an address of this network, which only --allow-private may ask": 1
    }
    assert not asked


def test_media_that_are_not_there_are_told_and_the_rest_is_taken_to_be_like_the_others(
    tmp_path: Path,
) -> None:
    with media_host() as (base_url, _):
        manifest = remote(tmp_path, base_url, "sunset.jpg", "gone.jpg")
        told = estimate(manifest, *REMOTE, "--out", tmp_path / "out", "--allow-private")
    assert told.json["unreachable"] == {"its host answers 404": 1}
    assert told.json["asked"] == 2


def test_only_a_sample_is_looked_at(tmp_path: Path) -> None:
    with media_host() as (base_url, asked):
        names = [f"sunset.jpg?n={n}" for n in range(30)]
        rows = [{"image_url": f"{base_url}/{name}"} for name in names]
        manifest = write_manifest(tmp_path / "m.csv", rows)
        told = estimate(manifest, *REMOTE, "--out", tmp_path / "out", "--allow-private", "--sample", "5")
    assert len(asked) == told.json["looked_at"] == 5
    assert likely(told)["image"] == 30 * 1120


@pytest.mark.parametrize(
    ("budget", "says"), [("900", "is enough"), ("0.001", "may stop it"), ("0.0000001", "stops it")]
)
def test_a_budget_is_held_beside_it(tmp_path: Path, budget: str, says: str) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [{"id": "a", "prompt": "Say yes."}])
    done = estimate(manifest, *REMOTE[:2], "--out", tmp_path / "out", "--budget", budget)
    assert f"a budget of {budget} {says}" in done.stdout


def test_the_night_takes_as_long_as_the_tightest_limit_makes_it(tmp_path: Path) -> None:
    """30 rows at 10 a minute: 3 minutes."""
    rows = [{"id": str(n), "prompt": f"Say {n}."} for n in range(30)]
    manifest = write_manifest(tmp_path / "m.csv", rows)
    told = estimate(manifest, *REMOTE, "--out", tmp_path / "out", "--rpm", "10").json
    assert told["duration_s"]["likely"] == 180
    assert told["bound_by"] == "rpm"


def test_a_model_without_a_price_is_told_in_tokens(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [{"id": "a", "prompt": "Say yes."}])
    done = estimate(manifest, *REMOTE[:2], "--out", tmp_path / "out", "--model", "nobody-knows-it")
    assert "no price is known for" in done.stdout
    assert "USD" not in done.stdout


def test_of_a_manifest_with_nothing_to_ask_nothing_is_foretold(tmp_path: Path) -> None:
    for rows, told in (("", "0 rows"), ("a,\n", "1 row")):
        manifest = tmp_path / "m.csv"
        manifest.write_text("id,prompt\n" + rows)
        done = estimate(manifest, *REMOTE[:2], "--out", tmp_path / "out")
        assert done.code == 0, done.stderr
        assert done.stdout.startswith(f"0 of {told} would be asked")


def test_what_was_answered_before_is_not_foretold_again(tmp_path: Path, serve: Callable[..., Server]) -> None:
    """A canary of 10 of 30: the other 20, at what the 10 came to."""
    server = serve(lambda received: completion())
    manifest = write_manifest(tmp_path / "m.csv", [{"id": str(n), "prompt": f"Say {n}."} for n in range(30)])
    words = (manifest, "--base-url", server.base_url, "--out", tmp_path / "out", "--json")
    ran = invoke("run", *words, "--limit", "10", "--no-progress").json
    told = estimate(*words).json
    assert (told["asked"], told["skipped"], told["replies"]) == (20, 10, 10)
    for direction in ("input", "output"):
        spent = sum(line["tokens"] for line in ran["usage"] if line["direction"] == direction)
        assert told["tokens"][direction]["likely"] == 2 * spent


def test_a_missing_manifest_is_a_sentence(tmp_path: Path) -> None:
    done = estimate(tmp_path / "none.csv", *REMOTE[:2], "--out", tmp_path / "out")
    assert done.code == 2
    assert done.stderr.startswith("error: ")
    assert "none.csv" in done.stderr
