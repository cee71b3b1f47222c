"""A server with limits: how much of them is used, and how often it must say 429.

Told its limit (`--rpm`, `--tpm`) or told nothing (`--concurrency auto`), against token buckets that name the
time of a 429 in four ways. What counts is what the server accepted from ``skip_s`` after the first request to
``seconds`` after it, over what its limit allows in that time: the burst at the start counts for nothing, and
there are items enough that the run is not at its end by then. What the bucket still holds at ``skip_s`` may
be drawn as well, so that of 6,000 a minute with a burst of 100 up to 1.02 can come out for a minute's run.
429s are counted over the whole run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from benchmarks import ours, work
from benchmarks.ceilings import PYTHON, Pressing, measure_ceiling
from benchmarks.conduct import Conduct, RetryAfter
from benchmarks.figures import Figures
from benchmarks.measuring import python_server, server_timeline
from benchmarks.profiles import PROFILES, measure_profile
from benchmarks.scenarios import Ended, measure_scenarios
from benchmarks.timeline import Timeline, rate_between
from benchmarks.verdicts import Verdict

RPM = 6_000
TPM = 3_000_000
LATENCY_S = 0.2
NEVER_REACHED = Conduct(rpm=1e9, rpm_burst=1e9)


@dataclass(frozen=True, slots=True)
class Span:
    """How long a limit is looked at, and how long a profile."""

    seconds: float = 60.0
    skip_s: float = 10.0
    fixed_s: float = 20.0
    auto_s: float = 40.0
    side_by_side: int = 1
    ceiling_requests: int = 50_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """One server with one limit, and what is told of it."""

    name: str
    conduct: Conduct
    options: tuple[str, ...]
    least_share: float
    most_throttled: float

    @property
    def rate_per_s(self) -> float:
        """Requests a second that the limit allows."""
        return self.conduct.rpm / 60 or self.conduct.tpm / 60 / work.TOKENS_OF_ONE

    @property
    def burst(self) -> float:
        return self.conduct.rpm_burst if self.conduct.rpm else self.rate_per_s * self.conduct.tpm_burst_s


def _scenarios() -> Iterator[Scenario]:
    auto = ("--concurrency", "auto")
    rpm, tpm = Conduct(latency_s=LATENCY_S, rpm=RPM), Conduct(latency_s=LATENCY_S, tpm=TPM)
    yield Scenario("rpm-told", rpm, ("--rpm", str(RPM)), 0.97, 0.01)
    yield Scenario("tpm-told", tpm, ("--tpm", str(TPM)), 0.97, 0.01)
    for kind in get_args(RetryAfter):
        named = Conduct(latency_s=LATENCY_S, rpm=RPM, retry_after=kind)
        yield Scenario(f"rpm-auto-{kind}", named, auto, 0.90, 0.05)
    for kind in get_args(RetryAfter):
        named = Conduct(latency_s=LATENCY_S, tpm=TPM, retry_after=kind)
        yield Scenario(f"tpm-auto-{kind}", named, auto, 0.90, 0.05)


SCENARIOS = {one.name: one for one in _scenarios()}
NAMES = (*SCENARIOS, *PROFILES)
IN_A_SLICE = ("rpm-told", "rpm-auto-none")
SLICE = Span(seconds=6.0, skip_s=2.0, fixed_s=3.0, auto_s=5.0, side_by_side=2, ceiling_requests=5_000)


def measure_limits(folder: Path, names: Sequence[str], span: Span) -> Figures:
    """The server's ceiling when it decides on each request, then every scenario; printed as they come.

    Raises:
        Broken: in one of them an item was lost. The others are measured before that is said.
    """

    def measure(name: str) -> Ended:
        own = folder / name
        own.mkdir(exist_ok=True)
        if name in PROFILES:
            return measure_profile(PROFILES[name], own, span.fixed_s, span.auto_s)
        return _measure(SCENARIOS[name], own, span)

    with python_server(NEVER_REACHED) as base_url:
        ceiling = measure_ceiling(PYTHON, base_url, Pressing(span.ceiling_requests))
    found = measure_scenarios(names, measure, side_by_side=span.side_by_side)
    return Figures(
        what="limits",
        settings={"latency_s": LATENCY_S, **asdict(span)},
        found={"ceilings": [ceiling.kept()], "cases": found},
    )


def _measure(scenario: Scenario, folder: Path, span: Span) -> Ended:
    items = round(scenario.rate_per_s * span.seconds + scenario.burst)
    manifest = work.write_manifest(folder / "manifest.parquet", items)
    with python_server(scenario.conduct) as base_url:
        order = ours.Order(manifest, items, base_url, folder / "out", scenario.options, is_smooth=False)
        asked = ours.ask(order)
        times = server_timeline(base_url)
    later = times.throttled_share_from(span.skip_s)
    told = (
        f"{items:,} items in {asked.asking_s:.1f} s at {scenario.rate_per_s:.1f}/s allowed; "
        f"{len(times.throttled):,} 429s, from {span.skip_s:g} s on {later:.2%}"
    )
    share = used_share(times, scenario.rate_per_s, span)
    return Ended(
        told=[told],
        verdicts=[
            Verdict("of the limit", share, "at least", scenario.least_share),
            Verdict("429s", times.throttled_share, "at most", scenario.most_throttled, "%"),
        ],
        found={
            "items": items,
            "asking_s": asked.asking_s,
            "allowed_per_s": scenario.rate_per_s,
            "throttled": len(times.throttled),
            "throttled_share_later": later,
        },
    )


def used_share(times: Timeline, rate_per_s: float, span: Span) -> float:
    """Of what the limit allows in the window, how much was accepted."""
    end_s = min(span.seconds, times.accepted[-1])
    if end_s <= span.skip_s:
        return 0.0
    return rate_between(times.accepted, span.skip_s, end_s) / rate_per_s
