"""What the store has seen of a model: replies with their tokens, and how long they took.

Of the newest runs of the job, else of any job; of this endpoint, for endpoints count by rules of their own.
Failed items are among them: what they cost was paid, and where they cost nothing, that is to be expected too.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from pipeline.errors import StoreError
from pipeline.records import EMBEDDED, CountModality, Direction, Kind
from pipeline.store.places import Place
from pipeline.store.reader import every_run, scan

MOST_REPLIES = 2_000
MOST_RUNS = 20


class Unit(NamedTuple):
    """What tokens are counted by, and priced by."""

    modality: CountModality
    direction: Direction
    kind: Kind


@dataclass(frozen=True, slots=True)
class Reply:
    """What one item came to, over all its tries. ``kinds``: the modalities of its media, in order."""

    request_key: str | None
    kinds: tuple[str, ...]
    tokens: dict[Unit, int]
    latency_s: float | None


@dataclass(frozen=True, slots=True)
class Experience:
    replies: tuple[Reply, ...] = ()
    by_key: dict[str, Reply] = field(default_factory=dict)

    @property
    def latency_s(self) -> float | None:
        """The mean; None where nothing is known."""
        told = [reply.latency_s for reply in self.replies if reply.latency_s is not None]
        return sum(told) / len(told) if told else None


def experience_of(out: Place, job: str, model: str, endpoints: Collection[str]) -> Experience:
    """Empty where there is no store, or nothing like it in the store."""
    try:
        facts = every_run(out)
    except StoreError:
        return Experience()
    facts.sort(key=lambda one: str(one["started_at"]), reverse=True)
    asked_there = [
        one
        for one in facts
        if any((endpoint["base_url"] or EMBEDDED) in endpoints for endpoint in one["plan"]["endpoints"])
    ]
    own = [one["run_id"] for one in asked_there if one["job"] == job]
    others = [one["run_id"] for one in asked_there if one["job"] != job]
    for runs in (own, others):
        experience = _of_runs(out, runs[:MOST_RUNS], model, endpoints)
        if experience.replies:
            return experience
    return Experience()


def _of_runs(out: Place, runs: list[str], model: str, endpoints: Collection[str]) -> Experience:
    if not runs:
        return Experience()
    asked = (
        scan(out, "results")
        .filter(
            pl.col("run").is_in(runs),
            pl.col("model_requested") == model,
            pl.col("endpoint").is_in(list(endpoints)),
            pl.col("attempts") > 0,
            pl.col("duplicate_of").is_null(),
        )
        .select(
            "run_id",
            "item_id",
            "request_key",
            "finished_at",
            "latency_s",
            pl.col("media").list.eval(pl.element().struct.field("modality")).alias("kinds"),
        )
        .sort("finished_at", descending=True)
        .head(MOST_REPLIES)
        .collect()
    )
    counts = (
        scan(out, "costs")
        .filter(pl.col("run").is_in(runs))
        .join(asked.lazy().select("run_id", "item_id"), on=["run_id", "item_id"], how="semi")
        .group_by("run_id", "item_id", "modality", "direction", "kind")
        .agg(pl.col("tokens").sum())
        .collect()
    )
    tokens: dict[tuple[str, str], dict[Unit, int]] = {}
    for run_id, item_id, modality, direction, kind, count in counts.iter_rows():
        if count:
            tokens.setdefault((run_id, item_id), {})[Unit(modality, direction, kind)] = count
    replies = tuple(
        Reply(request_key, kinds_of(kinds), tokens.get((run_id, item_id), {}), latency_s)
        for run_id, item_id, request_key, _, latency_s, kinds in asked.iter_rows()
    )
    return Experience(replies, {one.request_key: one for one in reversed(replies) if one.request_key})


def kinds_of(modalities: Collection[str]) -> tuple[str, ...]:
    """The modalities of a request's media, each once."""
    return tuple(sorted(set(modalities)))
