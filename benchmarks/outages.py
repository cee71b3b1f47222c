"""An endpoint that is down for a while in the midst of a run: nothing may fail for it.

Two kinds: every request is answered 503, or every connection is closed and none is taken. The normal rate is
that of the server's answers before it; during it, every attempt on record counts as a request, whether the
server saw it or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from benchmarks import ours, work
from benchmarks.conduct import Conduct, OutageKind
from benchmarks.figures import Figures
from benchmarks.measuring import python_server, server_timeline
from benchmarks.scenarios import Ended, measure_scenarios
from benchmarks.timeline import Timeline, back_to_speed_s, rate_between, rate_from
from benchmarks.verdicts import Verdict

MOST_REQUESTS = 0.05
BACK_WITHIN_S = 5.0
FULL_SPEED = 0.95
RAMP_S = 3.0
"""Before the normal rate is read."""
KINDS: dict[str, OutageKind] = {"outage-503": "503", "outage-refuse": "refuse"}


@dataclass(frozen=True, slots=True)
class Span:
    """A run of about ``seconds`` with an outage in it, from and to seconds after the first request."""

    seconds: float = 300.0
    from_s: float = 120.0
    to_s: float = 180.0
    concurrency: int = 100
    latency_s: float = 0.5

    @property
    def items(self) -> int:
        """As many as are answered in the time in which the endpoint is up."""
        up_s = self.seconds - (self.to_s - self.from_s)
        return round(up_s * self.concurrency / self.latency_s)


SLICE = Span(seconds=20.0, from_s=6.0, to_s=11.0, concurrency=10, latency_s=0.1)


def measure_outages(folder: Path, names: Sequence[str], span: Span) -> Figures:
    """Both kinds side by side, for most of the time is waiting; printed as they come.

    Raises:
        Broken: an item failed. The other kind is measured before that is said.
    """

    def measure(name: str) -> Ended:
        own = folder / name
        own.mkdir(exist_ok=True)
        return _measure(KINDS[name], own, span)

    print(f"down from {span.from_s:g} s to {span.to_s:g} s after the first request", flush=True)
    found = measure_scenarios(names, measure, side_by_side=len(KINDS))
    return Figures(what="outage", settings=asdict(span) | {"items": span.items}, found={"cases": found})


def _measure(kind: OutageKind, folder: Path, span: Span) -> Ended:
    conduct = Conduct(
        latency_s=span.latency_s, outage_from_s=span.from_s, outage_to_s=span.to_s, outage_kind=kind
    )
    manifest = work.write_manifest(folder / "manifest.parquet", span.items)
    options = ("--concurrency", str(span.concurrency))
    with python_server(conduct) as base_url:
        order = ours.Order(manifest, span.items, base_url, folder / "out", options, is_smooth=False)
        with ours.asked(order) as (asked, store):
            times = server_timeline(base_url)
            sent = _sent_during(store.attempts, times, span)
    normal = rate_between(times.answered, RAMP_S, span.from_s)
    share = sent / (span.to_s - span.from_s) / normal
    back_s = back_to_speed_s(times.answered, span.to_s, normal)
    later = rate_from(times.answered, span.to_s + BACK_WITHIN_S) / normal
    return Ended(
        told=[
            f"{span.items:,} items in {asked.asking_s:.1f} s, all ok; {normal:.1f} answers/s before, "
            f"{sent:,} requests during it"
        ],
        verdicts=[
            Verdict("requests during it, of the normal rate", share, "at most", MOST_REQUESTS, "%"),
            Verdict("full speed again after", back_s, "at most", BACK_WITHIN_S, "s"),
            Verdict(f"rate from {BACK_WITHIN_S:g} s after it on / before it", later, "at least", FULL_SPEED),
        ],
        found={"asking_s": asked.asking_s, "normal_rate": normal, "requests_during": sent},
    )


def _sent_during(attempts: pl.LazyFrame, times: Timeline, span: Span) -> int:
    """Attempts on record that went while the endpoint was down."""
    assert times.first_at is not None
    first = datetime.fromtimestamp(times.first_at, UTC)
    begins, ends = (first + timedelta(seconds=at_s) for at_s in (span.from_s, span.to_s))
    sent: int = (
        attempts.filter(pl.col("sent_at").is_between(begins, ends, closed="left"))
        .select(pl.len())
        .collect()
        .item()
    )
    return sent
