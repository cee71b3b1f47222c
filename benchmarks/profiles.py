"""Servers whose best number of requests at once must be found: `auto` beside the best fixed number.

What counts is the rate at which the server answers over the last half of a run, without the tail in which
the slots empty; the rate over the whole run, which includes the search, is told beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import ours, work
from benchmarks.conduct import Conduct
from benchmarks.measuring import Broken, python_server, server_timeline
from benchmarks.scenarios import Ended
from benchmarks.timeline import steady_rate, whole_rate
from benchmarks.verdicts import Verdict

LATENCY_S = 0.5
STEADY = Conduct(latency_s=LATENCY_S, jitter=0.2)
"""Equal latencies would answer in waves, and a rate would depend on how many fall into its window."""
TARGET = 0.95
QUICKEST = 2_000.0
"""Answers a second that a run is laid out for; a slower machine only takes longer."""


@dataclass(frozen=True, slots=True)
class Profile:
    """``fixed``: numbers at once, the best of which is what `auto` is compared with."""

    name: str
    conduct: Conduct
    fixed: tuple[int, ...]
    rate_per_s: Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Pace:
    """One run: answers a second, and 429s among the requests."""

    concurrency: str
    items: int
    steady: float
    whole: float
    throttled_share: float

    def line(self) -> str:
        return (
            f"{self.concurrency:>5} at a time: {self.steady:7,.1f} answers/s in the last half, "
            f"{self.whole:7,.1f} over the whole of {self.items:,} items, {self.throttled_share:.2%} 429s"
        )


def _degraded(at_once: int) -> float:
    slower: float = max(1.0, at_once / 200) ** 1.5
    return at_once / (LATENCY_S * slower)


PROFILES = {
    one.name: one
    for one in (
        Profile(
            "profile-unlimited",
            replace(STEADY, slots=1_000_000),
            (500, 1_000, 2_000),
            lambda at_once: min(at_once / LATENCY_S, QUICKEST),
        ),
        Profile(
            "profile-slots",
            replace(STEADY, slots=50, retry_after="none"),
            (45, 50, 55),
            lambda at_once: min(at_once, 50) / LATENCY_S,
        ),
        Profile(
            "profile-degrading",
            replace(STEADY, degrades_beyond=200),
            (150, 200, 250),
            _degraded,
        ),
    )
}


def measure_profile(profile: Profile, folder: Path, fixed_s: float, auto_s: float) -> Ended:
    """The fixed numbers, then `auto`, each for about so many seconds.

    Raises:
        Broken: an item was lost with `auto`, or with every fixed number.
    """
    told: list[str] = []
    fixed = []
    for at_once in profile.fixed:
        try:
            pace = _run(profile, str(at_once), round(profile.rate_per_s(at_once) * fixed_s), folder)
        except Broken as error:
            # A number that is too great may well fail items: then it is not the best.
            told.append(f"{at_once:>5} at a time: out of the question; {error}")
            continue
        fixed.append(pace)
        told.append(pace.line())
    if not fixed:
        raise Broken("no fixed number answers all items")
    best = max(fixed, key=lambda pace: pace.steady)
    auto = _run(profile, "auto", round(best.steady * auto_s), folder)
    whole_ratio = auto.whole / best.whole
    told += [auto.line(), f"auto / best fixed over the whole run, the search included: {whole_ratio:.3f}"]
    return Ended(
        told=told,
        verdicts=[Verdict("auto / best fixed, last half", auto.steady / best.steady, "at least", TARGET)],
        found={
            "runs": [asdict(one) for one in (*fixed, auto)],
            "best_fixed": best.concurrency,
            "whole_ratio": whole_ratio,
        },
    )


def _run(profile: Profile, concurrency: str, items: int, folder: Path) -> Pace:
    manifest = work.write_manifest(folder / f"{items}.parquet", items)
    with python_server(profile.conduct) as base_url:
        options = ("--concurrency", concurrency)
        ours.ask(ours.Order(manifest, items, base_url, folder / "out", options, is_smooth=False))
        times = server_timeline(base_url)
    return Pace(
        concurrency, items, steady_rate(times.answered), whole_rate(times.answered), times.throttled_share
    )
