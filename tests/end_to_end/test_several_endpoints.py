"""Pace, outages and several endpoints over real HTTP: who is asked how fast, and who answers for whom."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import (
    KEY,
    Finished,
    Store,
    clean_environment,
    invoke,
    run_command,
    write_manifest,
)
from tests.serving.answers import completion, empty, gateway_error
from tests.serving.server import Connection, Play, Received, Script, Server

FALLBACK = "gemini-2.5-flash-lite"
FIRST_KEY, SECOND_KEY = (
    "qXv7TnnB2w0LpE4s",
    "mR3kYd81hGzU5aWc",
)  # shapeless: no pattern tells that they are keys
DEBUG = [
    sys.executable,
    "-c",
    "import logging; logging.basicConfig(level=logging.DEBUG); logging.debug('all of it');"
    "from jobs.__main__ import main; main()",
]


def rows(count: int) -> list[str]:
    return [f"item {number}" for number in range(1, count + 1)]


def well(received: Received) -> Play:
    return completion().after(0.02)


class Desk:
    """A manifest, a config file with two endpoints that have a key each, and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.config = folder / "night.toml"

    def endpoints(self, *servers: Server, more: str = "") -> None:
        tables = [
            f'[[endpoint]]\nbase_url = "{server.base_url}"\nkey_variable = "{variable}"\nconcurrency = 4\n'
            for server, variable in zip(servers, ("FIRST_KEY", "SECOND_KEY"), strict=False)
        ]
        self.config.write_text("\n".join([*tables, more]), "utf-8")

    @property
    def run_words(self) -> list[str | Path]:
        return ["run", self.folder / "m.csv", "--out", self.out, "--config", self.config, "--run-id", "night"]

    def run(self, items: list[str], *words: str) -> Finished:
        """With both keys in the environment."""
        write_manifest(self.folder / "m.csv", items)
        return invoke(*self.run_words, *words, FIRST_KEY=FIRST_KEY, SECOND_KEY=SECOND_KEY)

    @property
    def store(self) -> Store:
        return Store(self.out)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def keys_seen(server: Server) -> set[str]:
    return {received.headers["authorization"] for received in server.received}


# The first dies


@contextmanager
def mortal(script: Script, *, after: int) -> Iterator[Server]:
    """A server that is gone, with all its connections, once so many requests have come."""
    server = Server(script)
    with ExitStack() as life:
        life.enter_context(server)

        def die() -> None:
            server.wait_for(after)
            life.close()

        dying = threading.Thread(target=die)
        dying.start()
        yield server
        dying.join()


def test_when_the_first_dies_the_second_takes_over_and_each_sees_only_its_own_key(desk: Desk, serve: Serve):
    second = serve(well)
    with mortal(well, after=60) as first:
        first_url = first.base_url
        desk.endpoints(first, second)
        night = desk.run(rows(400))

    assert night.code == 0, night.stdout + night.stderr
    results = desk.store.results
    assert results.height == 400
    by = dict(results.group_by("endpoint").len().iter_rows())
    assert set(by) == {first_url, second.base_url}
    assert by[first_url] <= len(first.received) < 150
    assert by[second.base_url] == len(second.received) > 250
    asked_at_second = set(second.texts())
    told = dict(results.select("item_id", "endpoint").iter_rows())
    assert {item for item, where in told.items() if where == second.base_url} == asked_at_second
    assert keys_seen(first) == {f"Bearer {FIRST_KEY}"}
    assert keys_seen(second) == {f"Bearer {SECOND_KEY}"}


def test_the_usual_key_goes_only_where_no_variable_is_named(desk: Desk, serve: Serve):
    first, second = serve(well), serve(well)
    desk.config.write_text(
        f'[[endpoint]]\nbase_url = "{first.base_url}"\nconcurrency = 1\n'
        f'[[endpoint]]\nbase_url = "{second.base_url}"\nkey_variable = "SECOND_KEY"\nconcurrency = 1\n'
    )
    assert desk.run(rows(20)).code == 0
    assert keys_seen(first) == {f"Bearer {KEY}"}
    assert keys_seen(second) == {f"Bearer {SECOND_KEY}"}


def test_a_halt_of_the_first_leaves_its_items_to_the_second(desk: Desk, serve: Serve):
    first, second = serve(lambda received: gateway_error(402, None)), serve(well)
    desk.endpoints(first, second)
    night = desk.run(rows(30), "--json")
    assert night.code == 0, night.stderr
    assert (night.json["ok"], night.json["failed"]) == (30, 0)
    assert len(first.received) <= 4
    (halt,) = night.json["halts"]
    assert (halt["endpoint"], halt["error_class"]) == (first.base_url, "OutOfCredit")
    assert set(desk.store.results["endpoint"]) == {second.base_url}


def test_a_resumed_run_needs_the_keys_of_its_endpoints_again(desk: Desk, serve: Serve):
    first, second = serve(lambda received: gateway_error(402, None)), serve(well)
    desk.endpoints(first)
    assert desk.run(rows(5)).code == 3
    without = invoke("resume", "--out", desk.out)
    assert without.code == 2
    assert "its key should be in the variable FIRST_KEY, which is not set" in without.stderr
    assert invoke("resume", "--out", desk.out, FIRST_KEY=FIRST_KEY).code == 3
    desk.endpoints(second)
    again = invoke("reprocess", "--out", desk.out, "--config", desk.config, FIRST_KEY=FIRST_KEY)
    assert "nothing to reprocess" in again.stderr, "nothing failed: these items were not attempted"


# Fallbacks


def test_a_fallback_answers_what_was_filtered_and_both_are_paid_for(desk: Desk, serve: Serve):
    """Two tries filtered at 1,000 in x $0.25/M, then 1,000 in x $0.10/M + 100 out x $0.40/M: $0.00064."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000}

    def script(received: Received) -> Play:
        if received.model != FALLBACK and received.text == "item 2":
            return completion("", finish_reason="content_filter", usage=usage)
        return completion(model=str(received.model))

    server = serve(script)
    desk.endpoints(server, more=f'[fallback]\nEmptyReply = "{FALLBACK}"')
    night = desk.run(rows(3))

    assert night.code == 0, night.stdout + night.stderr
    assert Counter(received.model for received in server.received)[FALLBACK] == 1
    result = desk.store.result("item 2")
    assert (result["status"], result["attempts"], result["model"]) == ("ok", 3, FALLBACK)
    assert result["cost"] == Decimal("0.00064")
    tries = [(one["model"], one["error_class"]) for one in desk.store.attempts_of("item 2")]
    assert [error for _, error in tries] == ["EmptyReply", "EmptyReply", None]
    assert tries[2][0] == FALLBACK
    costs = desk.store.costs.filter(item_id="item 2")
    assert costs["cost"].sum() == Decimal("0.00064")
    assert set(desk.store.results["model"]) == {FALLBACK, "gemini-3.1-flash-lite-preview"}


# Pace


def timed(times: list[float], script: Script) -> Script:
    def noted(received: Received) -> Play:
        times.append(time.monotonic())
        return script(received)

    return noted


def test_requests_a_minute_are_kept_over_the_wire(desk: Desk, serve: Serve):
    """600 a minute are ten a second, and a handful may go at once."""
    times: list[float] = []
    server = serve(timed(times, lambda received: completion()))
    desk.endpoints(server)
    assert desk.run(rows(45), "--rpm", "600").code == 0
    for begin, start in enumerate(times):
        for count, when in enumerate(times[begin:], 1):
            assert count <= 8 + 10 * (when - start), "whatever moment is looked at"
    assert 3 <= times[-1] - times[0] <= 15


class Room:
    """Refuses with 429 what comes while so many are under way, and knows how many that were at most."""

    def __init__(self, most: int, takes_s: float) -> None:
        self.most, self.takes_s, self.under_way, self.most_at_once = most, takes_s, 0, 0

    def script(self, received: Received) -> Play:
        return self._play

    async def _play(self, received: Received, connection: Connection) -> None:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            if self.under_way > self.most:
                await empty(429)(received, connection)
                return
            await asyncio.sleep(self.takes_s)
            await completion()(received, connection)
        finally:
            self.under_way -= 1


def test_the_level_that_was_found_stands_in_run_json_and_is_where_the_next_night_begins(
    tmp_path: Path, serve: Serve
):
    """Five at once are taken. The next night nobody is answered at first: what goes is where it begins."""
    room = Room(5, takes_s=0.03)
    server = serve(room.script)
    manifest = write_manifest(tmp_path / "m.csv", rows(120))
    words = (
        "run",
        manifest,
        "--base-url",
        server.base_url,
        "--out",
        tmp_path / "out",
        "--max-attempts",
        "50",
    )
    first = invoke(*words, "--run-id", "monday")
    assert first.code == 0, first.stdout + first.stderr

    def level(run_id: str) -> int:
        told = json.loads((tmp_path / "out" / "runs" / run_id / "run.json").read_text("utf-8"))
        found: int = told["levels"][server.base_url]
        return found

    assert 1 <= level("monday") <= 16
    room.most, room.takes_s, room.most_at_once = 1_000, 2.5, 0
    answered_first = level("monday")
    more = threading.Event()

    def look() -> None:
        time.sleep(2.2)
        seen.append(room.most_at_once)
        room.takes_s = 0.01
        more.set()

    seen: list[int] = []
    server.received.clear()
    looking = threading.Thread(target=lambda: (server.wait_for(1), look()))
    looking.start()
    second = invoke(*words, "--run-id", "tuesday", "--again")
    looking.join()
    assert second.code == 0, second.stdout + second.stderr
    assert seen == [answered_first]


# Outages


class Weather:
    """Nobody is there while ``is_out``."""

    def __init__(self) -> None:
        self.is_out = False
        self.turned_away = 0

    def script(self, received: Received) -> Play:
        self.turned_away += self.is_out
        return empty(503) if self.is_out else completion().after(0.01)


def begins(server: Server, weather: Weather, *, after: int, lasts_s: float | None) -> Callable[[], None]:
    """An outage once so many requests have come; returns how to wait for its end."""

    def change() -> None:
        server.wait_for(after)
        weather.is_out = True
        if lasts_s is not None:
            time.sleep(lasts_s)
            weather.is_out = False

    changing = threading.Thread(target=change)
    changing.start()
    return changing.join


def test_an_outage_of_a_few_seconds_fails_no_item(desk: Desk, serve: Serve):
    weather = Weather()
    server = serve(weather.script)
    desk.endpoints(server)
    over = begins(server, weather, after=60, lasts_s=3.0)
    night = desk.run(rows(400), "--max-attempts", "3")
    over()
    assert night.code == 0, night.stdout + night.stderr
    assert desk.store.ids("ok") == rows(400)
    assert 4 <= weather.turned_away <= 30, "then single probes"
    assert set(desk.store.attempts["error_class"].drop_nulls()) == {"Overloaded"}


def test_past_max_outage_the_run_halts_and_resume_finishes_it(desk: Desk, serve: Serve):
    weather = Weather()
    server = serve(weather.script)
    desk.endpoints(server)
    over = begins(server, weather, after=60, lasts_s=None)
    night = desk.run(rows(300), "--max-outage", "2s", "--max-attempts", "3", "--json")
    over()

    assert night.code == 3, night.stdout + night.stderr
    assert (night.json["state"], night.json["failed"]) == ("halted", 0)
    (halt,) = night.json["halts"]
    assert (halt["model"], halt["error_class"]) == (None, "EndpointDown")
    assert "which is --max-outage" in halt["message"]
    assert halt["message"].endswith("resume when it is back")
    assert night.json["ok"] >= 50
    assert night.json["not_attempted"] == 300 - night.json["ok"]
    answered = set(desk.store.ids("ok"))

    weather.is_out = False
    server.received.clear()
    resumed = invoke("resume", "--out", desk.out, FIRST_KEY=FIRST_KEY)
    assert resumed.code == 0, resumed.stdout + resumed.stderr
    store = Store(desk.out)
    assert store.ids("ok") == rows(300)
    assert store.rows() == list(range(1, 301))
    assert not answered & set(server.texts()), "what was answered is not asked again"


# Secrets


def test_keys_of_variables_reach_neither_store_nor_output(desk: Desk, serve: Serve):
    """At debug level, with endpoints that say the key back."""

    def tells(key: str) -> Script:
        def script(received: Received) -> Play:
            if received.text == "item 3":
                return gateway_error(400, "INVALID_ARGUMENT", f"no such thing for {key}")
            return completion(f"you are {key}") if received.text == "item 4" else completion().after(0.05)

        return script

    first, second = serve(tells(FIRST_KEY)), serve(tells(SECOND_KEY))
    desk.endpoints(first, second)
    write_manifest(desk.folder / "m.csv", rows(24))
    told = {"FIRST_KEY": FIRST_KEY, "SECOND_KEY": SECOND_KEY, "RUST_LOG": "trace", "PYTHONASYNCIODEBUG": "1"}
    night = run_command(*desk.run_words, env=clean_environment(**told), program=DEBUG)

    assert night.code == 5, night.stdout + night.stderr
    assert first.received
    assert second.received
    assert "DEBUG:root:all of it" in night.stderr
    assert keys_seen(second) == {f"Bearer {SECOND_KEY}"}
    for key in (FIRST_KEY, SECOND_KEY):
        assert key not in night.stdout + night.stderr
        for path in desk.out.rglob("*"):
            assert not path.is_file() or key.encode() not in path.read_bytes(), path
    for dataset in ("results", "attempts", "costs"):
        told_there = desk.store.frame(dataset).write_json()
        assert FIRST_KEY not in told_there
        assert SECOND_KEY not in told_there
    assert "FIRST_KEY" in json.dumps(desk.store.run["plan"]["endpoints"]), "the variable's name is no secret"
