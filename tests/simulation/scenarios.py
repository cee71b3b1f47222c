"""A seed becomes a night: its manifest, and session by session the weather and the machine's misfortunes."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from pipeline.retry import RetryRules
from tests.simulation import fates
from tests.simulation.endpoint import Episode, Weather
from tests.simulation.machine import Misfortune
from tests.simulation.manifests import UNKNOWN_MODEL, Row, make_rows, number_ids

MOST_SESSIONS = 5


@dataclass(frozen=True, slots=True)
class Stop:
    """A signal, or the deadline: ``why`` at ``at_s``, and ``grace_s`` later no more waiting."""

    at_s: float
    why: Literal["interrupted", "deadline"]
    grace_s: float


@dataclass(frozen=True, slots=True)
class SessionScenario:
    """One session. ``goes_on``: the next session goes on with this one's
    run, where that is unfinished; else a new run settles it."""

    weather: Weather
    misfortune: Misfortune
    stop: Stop | None
    goes_on: bool
    slots: int
    damages_a_part: bool = False  # after it, something happens to a part of its run


@dataclass(frozen=True, slots=True)
class Scenario:
    """One night, and the night before it (``earlier_rows``: how many of the rows it had asked)."""

    rows: tuple[Row, ...]
    ending: str
    earlier_rows: int
    earlier: SessionScenario
    sessions: tuple[SessionScenario, ...]
    oddities: dict[str, str]
    retry: RetryRules
    timeout_s: float
    part_items: int


def make_scenario(rng: Random) -> Scenario:
    is_ghostly = rng.random() < 0.2
    rows = tuple(number_ids(make_rows(rng, rng.randint(200, 210), is_ghostly=is_ghostly)))
    asked = [row for row in rows if row.kind == "asked"]
    odd = rng.choice((0.0, 0.005, 0.03, 0.1))
    kinds = rng.sample(fates.ODDITIES, rng.randint(1, 4))
    oddities = {row.prompt: rng.choice(kinds) for row in asked if rng.random() < odd}
    if rng.random() < 0.05:
        oddities = dict.fromkeys([row.prompt for row in asked], rng.choice(kinds))  # a hopeless manifest
    slots = rng.choice((1, 3, 8, 8, 16, 32))
    latency_s = rng.choice(((0.1, 0.4), (0.5, 3.0), (0.5, 3.0), (2.0, 20.0)))
    expected_s = len(rows) * sum(latency_s) / 2 / slots
    earlier_rows = rng.choice((0, 0, rng.randint(10, 60)))
    sessions = [
        _session(rng, slots, latency_s, expected_s / (1 + number))
        for number in range(rng.choice((1, 1, 1, 2, 2, 3, MOST_SESSIONS - 1)))
    ]
    calm = SessionScenario(
        Weather(latency_s), Misfortune(slow_disk_s=0.003), None, rng.random() < 0.75, slots
    )
    return Scenario(
        rows=rows,
        ending=rng.choice(("csv", "csv", "csv", "csv", "csv", "csv", "ndjson", "parquet")),
        earlier_rows=earlier_rows,
        earlier=calm if rng.random() < 0.7 else _session(rng, slots, latency_s, expected_s / 5),
        sessions=(*sessions, calm),
        oddities=oddities,
        retry=RetryRules(max_attempts=rng.choice((2, 3, 5, 5, 5))),
        timeout_s=rng.choice((60.0, 300.0)),
        part_items=rng.choice((50, 100, 100, 5_000)),
    )


def _session(rng: Random, slots: int, latency_s: tuple[float, float], expected_s: float) -> SessionScenario:
    return SessionScenario(
        _weather(rng, latency_s, expected_s),
        _misfortune(rng, expected_s),
        _stop(rng, expected_s),
        goes_on=rng.random() < 0.7,
        slots=slots if rng.random() < 0.8 else rng.choice((1, 5, 20)),
        damages_a_part=rng.random() < 0.2,
    )


def _weather(rng: Random, latency_s: tuple[float, float], expected_s: float) -> Weather:
    share = rng.choice((0.0, 0.02, 0.1, 0.1, 0.4))
    kinds = rng.sample(fates.PASSING, rng.randint(1, 6))
    weights = [rng.random() for _ in kinds]
    parts = [share * weight / sum(weights) for weight in weights]
    passing = tuple(zip(kinds, parts, strict=True))
    episodes = []
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        begins_s = rng.choice((0.0, rng.uniform(0, expected_s)))
        ends_s = begins_s + rng.choice((rng.uniform(1, 30), rng.uniform(30, 300)))
        share_then = rng.choice((1.0, 1.0, 0.5))
        episodes.append(Episode(begins_s, ends_s, rng.choice(fates.EPISODES), share_then))
    for_good = None
    if rng.random() < 0.12:
        at_s = rng.choice((0.0, rng.uniform(0, expected_s)))
        for_good = (at_s, rng.choice(fates.FOR_GOOD))
    slow_share = rng.choice((0.0, 0.0, 0.01))
    return Weather(latency_s, slow_share, passing, tuple(episodes), for_good)


def _misfortune(rng: Random, expected_s: float) -> Misfortune:
    chance = rng.random()
    dies_at_s = rng.uniform(0, 1.3 * expected_s) if chance < 0.25 else None
    dies_at_door = int(10 ** rng.uniform(0, 2.7)) if 0.25 <= chance < 0.55 else None
    full_s: tuple[tuple[float, float], ...] = ()
    unwritable_s: tuple[tuple[float, float], ...] = ()
    if rng.random() < 0.4:
        begins_s = rng.uniform(0, expected_s)
        lasts_s = rng.choice((0.05, 0.5, 5.0, rng.uniform(0, expected_s), 1e9))
        window = ((begins_s, begins_s + lasts_s),)
        which = rng.randrange(3)
        full_s, unwritable_s = (window if which != 1 else ()), (window if which != 0 else ())
    return Misfortune(
        dies_at_s=dies_at_s,
        dies_at_door=dies_at_door,
        dies_before_write=rng.random() < 0.5,
        full_s=full_s,
        unwritable_s=unwritable_s,
        flaky=rng.choice((1.0, 1.0, 0.5)),
        ballast_room=rng.choice((0, 0, rng.randint(1, 20))),
        slow_disk_s=rng.choice((0.0002, 0.003, 0.003, 0.2)),
    )


def _stop(rng: Random, expected_s: float) -> Stop | None:
    if rng.random() >= 0.25:
        return None
    grace_s = rng.choice((0.0, 1.0, 30.0, 1000.0))
    return Stop(rng.uniform(0, 1.2 * expected_s), rng.choice(("interrupted", "deadline")), grace_s)


GHOST = UNKNOWN_MODEL
