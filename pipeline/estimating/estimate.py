"""Survey, looks, experience → an estimate of a run, and how long it will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import anyio
import anyio.to_thread

from pipeline.asked import defaults_of
from pipeline.estimating.experience import Experience, Unit, experience_of
from pipeline.estimating.figures import Band, Basis, Foretold, Line, Sample, foretell, together
from pipeline.estimating.fits import ENOUGH
from pipeline.estimating.looks import Looks
from pipeline.estimating.survey import Repeated, Survey, survey
from pipeline.keytable import KeyTable
from pipeline.media.fetching import Looker
from pipeline.plan import Plan
from pipeline.prices import Prices
from pipeline.pricing import PriceBook, Rates
from pipeline.repeats import Repeats
from pipeline.reprocessing import open_source
from pipeline.store.reader import remembered_level


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run will take, in seconds, and what it waits for most: ``slots``, ``rpm`` or ``tpm``."""

    seconds: Band
    bound_by: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """``rows`` of the manifest, of which ``asked`` will be; ``unreadable`` media are none, of ``unreachable``
    ones nothing was seen, by why. ``cost`` by currency; ``length`` None: nothing is known that bounds it."""

    digest: str  # of the manifest
    rows: int
    asked: int
    skipped: int
    duplicates: int
    bad: int
    beyond_limit: int
    looked_at: int
    unreadable: int
    unreachable: Mapping[str, int]
    replies: int  # from so many it is told
    lines: Mapping[Unit, Line]
    cost: Mapping[str, Band]
    unpriced_tokens: float
    length: Length | None

    def tokens(self, direction: str) -> Band:
        """Their sum over modalities and kinds, as cautious as can be: all may err to one side."""
        bands = [line.tokens for unit, line in self.lines.items() if unit.direction == direction]
        return Band(*(sum(getattr(band, end) for band in bands) for end in ("low", "likely", "high")))


async def estimate_run(plan: Plan, listed: PriceBook, *, sample: int, address: str | None = None) -> Estimate:
    """``address``: that of the manifest with what signs it, which the plan does not keep.

    Raises:
        UsageError: a person's mistake.
        StoreError: a part of the store is damaged.
    """
    off_loop = anyio.to_thread.run_sync
    prices = await off_loop(Prices.of, plan, listed)
    defaults = await off_loop(defaults_of, plan)
    manifest = await off_loop(open_source, plan, address)
    await off_loop(manifest.check, defaults)
    names = [one.name for one in plan.endpoints]
    experience = await off_loop(experience_of, plan.out, plan.job, plan.model, names)

    def read_through() -> Survey:
        repeats = Repeats.of(plan, KeyTable())
        return survey(
            manifest.read(defaults),
            Repeated(repeats.answered_by, repeats.first_row),
            experience,
            limit=plan.limit,
            sample=sample,
            seed=manifest.digest,
        )

    found = await off_loop(read_through)
    async with Looker(allow_private=plan.allow_private) as looker:
        looks = Looks(looker)
        async with anyio.create_task_group() as tasks:
            for candidate in [*found.known, *(one for s in found.strata.values() for one in s.sample)]:
                tasks.start_soon(looks.at, candidate)
    rates = {model: prices.rates(plan, model) for model, _ in found.strata}
    by_model = _foretold(found, experience, looks, rates, exact=plan.is_rehearsal)
    costs: dict[str, list[Band]] = {}
    for model, foretold in by_model.items():
        price = rates[model]
        if price is not None:
            costs.setdefault(price.currency, []).append(foretold.cost)
    told = Foretold.of(list(by_model.values()))
    return Estimate(
        digest=manifest.digest,
        rows=found.rows,
        asked=found.asked,
        skipped=found.skipped,
        duplicates=found.duplicates,
        bad=found.bad,
        beyond_limit=found.beyond_limit,
        looked_at=looks.looked_at,
        unreadable=looks.unreadable,
        unreachable=dict(looks.unreachable.most_common()),
        replies=len(experience.replies),
        lines=told.lines,
        cost={currency: together(bands) for currency, bands in costs.items()},
        unpriced_tokens=told.unpriced,
        length=_length(plan, found.asked, told, experience),
    )


def _foretold(
    found: Survey, experience: Experience, looks: Looks, rates: Mapping[str, Rates | None], *, exact: bool
) -> dict[str, Foretold]:
    """By model. Kinds that were answered often enough by their own replies, the others by all."""
    seen = {one.request_key: looks.of(one) for one in found.known}
    known = [(reply, seen.get(reply.request_key)) for reply in experience.replies]
    parts: dict[str, list[Foretold]] = {}
    others: dict[tuple[str, bool], list[Sample]] = {}
    for (model, kinds), stratum in found.strata.items():
        sample = Sample(stratum.asked, [looks.of(candidate) for candidate in stratum.sample])
        own = Basis([pair for pair in known if pair[0].kinds == kinds], exact)
        if len(own.replies if sample.is_blind else own.pairs) >= ENOUGH:
            parts.setdefault(model, []).append(foretell([sample], own, rates[model]))
        else:
            others.setdefault((model, sample.is_blind), []).append(sample)
    for (model, _), samples in others.items():
        parts.setdefault(model, []).append(foretell(samples, Basis(known, exact), rates[model]))
    return {model: Foretold.of(of_model) for model, of_model in parts.items()}


def _length(plan: Plan, asked: int, told: Foretold, experience: Experience) -> Length | None:
    """Of the bounds that are known, the longest."""
    bands = [line.tokens for line in told.lines.values()]
    tokens = [sum(getattr(band, end) for band in bands) for end in ("low", "likely", "high")]
    bounds: dict[str, Band] = {}
    if all(one.rpm for one in plan.endpoints):
        minutes = asked / sum(one.rpm or 0 for one in plan.endpoints)
        bounds["rpm"] = Band(*(60 * minutes for _ in range(3)))
    if all(one.tpm for one in plan.endpoints):
        tpm = sum(one.tpm or 0 for one in plan.endpoints)
        bounds["tpm"] = Band(*(60 * count / tpm for count in tokens))
    slots = [one.slots or remembered_level(plan.out, one.name, plan.model) for one in plan.endpoints]
    if experience.latency_s is not None and all(slots):
        seconds = asked * experience.latency_s / sum(one or 0 for one in slots)
        bounds["slots"] = Band(0.8 * seconds, seconds, 1.25 * seconds)
    if not bounds:
        return None
    bound_by = max(bounds, key=lambda name: bounds[name].likely)
    return Length(bounds[bound_by], bound_by)
