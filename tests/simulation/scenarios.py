"""A seed becomes a night: its manifest, and session by session the weather and the machine's misfortunes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

from pipeline.gate import DEFAULT_MAX_OUTAGE_S
from pipeline.retry import RetryRules
from tests.simulation import fates
from tests.simulation.endpoint import Episode, Place, Weather
from tests.simulation.limits import ServerLimits
from tests.simulation.machine import Misfortune
from tests.simulation.manifests import MODELS, UNKNOWN_MODEL, Row, make_rows, number_ids

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

    places: tuple[Place, ...]  # the endpoints, in order of preference
    misfortune: Misfortune
    stop: Stop | None
    goes_on: bool
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
    max_outage_s: float = DEFAULT_MAX_OUTAGE_S
    fallbacks: dict[str, str] = field(default_factory=dict)
    odd_of: dict[str, str] = field(default_factory=dict)  # see `Account`


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
    earlier_rows = rng.choice((0, 0, 0, rng.randint(10, 60)))
    sessions = [
        _session(rng, slots, latency_s, expected_s / (1 + number))
        for number in range(rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 2, MOST_SESSIONS - 1)))
    ]
    calm = SessionScenario((Place(Weather(latency_s), slots),), CALM, None, rng.random() < 0.75)
    scenario = Scenario(
        rows=rows,
        ending=rng.choice(("csv", "csv", "csv", "csv", "csv", "csv", "ndjson", "parquet")),
        earlier_rows=earlier_rows,
        earlier=calm if rng.random() < 0.7 else _session(rng, slots, latency_s, expected_s / 5),
        sessions=(*sessions, calm),
        oddities=oddities,
        retry=RetryRules(max_attempts=rng.choice((2, 3, 5, 5, 5))),
        timeout_s=rng.choice((60.0, 300.0)),
        part_items=rng.choice((50, 100, 5_000, 5_000)),
    )
    return _widened(Random(rng.random()), scenario, latency_s)


def _session(rng: Random, slots: int, latency_s: tuple[float, float], expected_s: float) -> SessionScenario:
    weather, misfortune, stop = (
        _weather(rng, latency_s, expected_s),
        _misfortune(rng, expected_s),
        _stop(rng, expected_s),
    )
    goes_on = rng.random() < 0.7
    place = Place(weather, slots if rng.random() < 0.8 else rng.choice((1, 5, 20)))
    return SessionScenario((place,), misfortune, stop, goes_on, damages_a_part=rng.random() < 0.2)


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


# What only some nights have: adaptive slots, limits, several endpoints, fallbacks, outages to wait out.


def _widened(rng: Random, scenario: Scenario, latency_s: tuple[float, float]) -> Scenario:
    """The same night, or in about half of them one with more to it."""
    has_several, has_fallbacks = rng.random() < 0.14, rng.random() < 0.1
    has_long_outages, limited, is_auto = rng.random() < 0.1, rng.random(), rng.random() < 0.12
    if has_several:
        scenario = _with_several(rng, scenario, latency_s)
    if has_long_outages:
        scenario = _with_long_outages(rng, scenario, latency_s)
    if limited < 0.3:
        kind: Kind = "told" if limited < 0.16 else "headers" if limited < 0.25 else "silent"
        place = rng.randrange(len(scenario.earlier.places))
        scenario = _with_places(scenario, lambda at, one: _limited(rng, one, kind) if at == place else one)
    if is_auto:
        scenario = _with_places(scenario, lambda at, one: replace(one, slots=None))
    return _with_fallbacks(rng, scenario) if has_fallbacks else scenario


Kind = Literal["told", "headers", "silent"]


def _with_places(scenario: Scenario, change: Callable[[int, Place], Place]) -> Scenario:
    def changed(session: SessionScenario) -> SessionScenario:
        return replace(session, places=tuple(change(at, one) for at, one in enumerate(session.places)))

    return replace(
        scenario,
        earlier=changed(scenario.earlier),
        sessions=tuple(changed(session) for session in scenario.sessions),
    )


def _with_several(rng: Random, scenario: Scenario, latency_s: tuple[float, float]) -> Scenario:
    """One or two more endpoints; in all sessions but the calm ones something happens to the first of all."""
    count = rng.choice((1, 1, 1, 1, 2))
    names = [f"https://{name}.example/v1" for name in ("second", "third")[:count]]
    shares = rng.random() < 0.2  # the last one serves one model alone
    slots = [rng.choice((1, 3, 8)) for _ in range(count + 1)]
    latencies = [latency_s, *[rng.choice(((0.1, 0.4), (0.5, 3.0))) for _ in names]]
    expected_s = len(scenario.rows) * sum(latency_s) / 2 / sum(slots)

    def widened(session: SessionScenario) -> SessionScenario:
        first = replace(session.places[0], slots=slots[0])
        if session.misfortune is not CALM and rng.random() < 0.8:
            first = replace(first, weather=_stricken(rng, first.weather, expected_s))
        more = []
        for name, of_slots, of_latency_s in zip(names, slots[1:], latencies[1:], strict=True):
            passing = first.weather.passing if rng.random() < 0.5 else ()
            place = Place(Weather(of_latency_s, passing=passing), of_slots, name)
            if session.misfortune is not CALM and rng.random() < 0.15:
                place = replace(place, weather=_stricken(rng, place.weather, expected_s))
            more.append(replace(place, models=MODELS[:1]) if shares and name == names[-1] else place)
        return replace(session, places=(first, *more))

    return replace(
        scenario,
        earlier=widened(scenario.earlier),
        sessions=tuple(widened(session) for session in scenario.sessions),
        max_outage_s=rng.choice((20.0, 60.0, 120.0)),
    )


def _stricken(rng: Random, weather: Weather, expected_s: float) -> Weather:
    """It dies, halts, or is out for a while."""
    at_s = rng.choice((0.0, rng.uniform(0, expected_s)))
    chance = rng.random()
    if chance < 0.35:
        return replace(weather, for_good=(at_s, rng.choice(("refused", "refused", "outage", "silence"))))
    if chance < 0.65:
        return replace(weather, for_good=(at_s, rng.choice(fates.FOR_GOOD)))
    return replace(weather, episodes=(_long_outage(rng, at_s),))


def _with_long_outages(rng: Random, scenario: Scenario, latency_s: tuple[float, float]) -> Scenario:
    """Outages that may be longer than the run waits."""

    def out(session: SessionScenario) -> SessionScenario:
        if session.misfortune is CALM:
            return session
        first = session.places[0]
        expected_s = len(scenario.rows) * sum(latency_s) / 2 / (first.slots or 32)
        episodes = (*first.weather.episodes[:1], _long_outage(rng, rng.uniform(0, expected_s)))
        first = replace(first, weather=replace(first.weather, episodes=episodes, for_good=None))
        return replace(session, places=(first, *session.places[1:]))

    sessions = tuple(out(session) for session in scenario.sessions)
    return replace(scenario, sessions=sessions, max_outage_s=rng.choice((20.0, 60.0, 120.0, 600.0)))


def _long_outage(rng: Random, begins_s: float) -> Episode:
    lasts_s = rng.choice((rng.uniform(10, 60), rng.uniform(60, 400)))
    return Episode(begins_s, begins_s + lasts_s, rng.choice(fates.LONG_OUTAGES))


TOKENS_EACH = 1_500
"""About what a request of these nights takes."""


def _limited(rng: Random, place: Place, kind: Kind) -> Place:
    """An endpoint with limits: told to the run, or in its headers, or only by its 429s."""
    natural_rpm = 60.0 * (place.slots or 32) * 2 / sum(place.weather.latency_s)
    rpm = max(12, int(natural_rpm * rng.uniform(0.15, 1.1)))
    tpm = max(15_000, int(TOKENS_EACH * min(rpm, natural_rpm) * rng.uniform(0.3, 1.3)))
    has_rpm, has_tpm = rng.choice(((True, False), (True, False), (False, True), (True, True)))
    limits = ServerLimits(
        rpm=rpm if has_rpm else None,
        tpm=tpm if has_tpm else None,
        begins_anew=rng.random() < 0.4,
        names_time=rng.random() < 0.5,
        spelling=rng.choice(("openai", "plain")) if kind == "headers" else None,
    )
    if kind != "told":
        return replace(place, limits=limits)
    return replace(place, limits=limits, rpm=limits.rpm, tpm=limits.tpm)


def _with_fallbacks(rng: Random, scenario: Scenario) -> Scenario:
    """Other models to ask after some errors; what is odd about a row may be odd to its own model alone."""
    classes = rng.sample(FALLEN_BACK_FROM, rng.randint(1, 3))
    fallbacks = {name: rng.choice((*MODELS, "plain-model")) for name in classes}
    own = {row.prompt: row.model for row in scenario.rows if row.kind == "asked"}
    return replace(scenario, fallbacks=fallbacks, odd_of=own if rng.random() < 0.6 else {})


FALLEN_BACK_FROM = (
    "ContentBlocked",
    "BadInput",
    "TooLarge",
    "NotServed",
    "EmptyReply",
    "UpstreamFailed",
    "UnknownModel",
    "AccessDenied",
    "NoChannel",
    "Overloaded",
)
CALM = Misfortune(slow_disk_s=0.003)
GHOST = UNKNOWN_MODEL
