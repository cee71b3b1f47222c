"""What requests of one kind will come to: low, likely, high, in tokens and money. In floats, and only here.

From the least known to the best:

    rules       nobody has answered: the token rules, and of the longest answer allowed a quarter; the band is
                as wide as vendors' rules differ
    means       such requests were answered, but none whose media were looked at: what they came to
    ratios      of answered requests the media were looked at too: what the endpoint counts for each token of
                the rules. Sampling theory calls it a ratio estimator; the band is that of its residuals
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.estimating.experience import Reply, Unit
from pipeline.estimating.fits import (
    ENOUGH,
    Look,
    Means,
    Tokens,
    best_ratios,
    input_of,
    mean,
    output_of,
    ruled,
)
from pipeline.gate.needs import ANSWERED_SHARE
from pipeline.pricing import Rates

RULES_LOW, RULES_HIGH = 0.2, 5.0
"""How far one vendor's count of a medium is from another's: an image is 258 tokens here and 1,120 there."""
TEXT_LOW, TEXT_HIGH = 0.6, 1.8
_SUPPOSED_SPREAD = 0.5  # of a mean, as two replies would show it, before replies show another
_SUPPOSED_REPLIES = 2

FEE = Unit("unattributed", "input", "request")


@dataclass(frozen=True, slots=True)
class Band:
    """Nine times of ten the truth is between ``low`` and ``high``."""

    low: float
    likely: float
    high: float


NOTHING = Band(0, 0, 0)


def together(bands: Iterable[Band]) -> Band:
    """The sum of what errs independently: errors add up as squares do."""
    low = high = likely = 0.0
    for band in bands:
        likely += band.likely
        low += (band.likely - band.low) ** 2
        high += (band.high - band.likely) ** 2
    return Band(max(0.0, likely - math.sqrt(low)), likely, likely + math.sqrt(high))


@dataclass(frozen=True, slots=True)
class Sample:
    """Requests of one kind, so many, of which some were looked at, or all."""

    requests: int
    looks: Sequence[Look]

    @property
    def is_blind(self) -> bool:
        """Whether none of them could be looked at."""
        return all(look.media is None for look in self.looks)


@dataclass(frozen=True, slots=True)
class Basis:
    """Replies to go by, each with its look where there was one. ``exact``: it counts by the very rules."""

    replies: Sequence[tuple[Reply, Look | None]] = ()
    exact: bool = False

    @property
    def pairs(self) -> list[tuple[Reply, Look]]:
        return [(reply, look) for reply, look in self.replies if look is not None and look.media is not None]


@dataclass(frozen=True, slots=True)
class Line:
    """Tokens of one unit; ``cost`` None where they have no price."""

    tokens: Band
    cost: Band | None


@dataclass(frozen=True, slots=True)
class Foretold:
    """Sums over all requests; ``unpriced``: of the likely tokens, those that have no price."""

    lines: Mapping[Unit, Line]
    cost: Band
    unpriced: float

    @classmethod
    def of(cls, parts: Sequence[Foretold]) -> Foretold:
        """Of several that err independently."""
        lines = {}
        for unit in {unit for part in parts for unit in part.lines}:
            found = [part.lines[unit] for part in parts if unit in part.lines]
            costs = [line.cost for line in found if line.cost is not None]
            lines[unit] = Line(together(line.tokens for line in found), together(costs) if costs else None)
        return cls(lines, together(part.cost for part in parts), sum(part.unpriced for part in parts))


def _sums(
    band: Callable[[Callable[[Tokens], float]], Band], units: Iterable[Unit], rates: Rates | None
) -> Foretold:
    """What ``band`` makes of every unit's tokens and cost, and of the whole cost."""
    lines = {}
    for unit in units:
        tokens = band(lambda tokens, unit=unit: tokens.get(unit, 0.0))  # type: ignore[misc]
        costs = band(lambda tokens, unit=unit: costs_of(tokens, rates).get(unit, 0.0))  # type: ignore[misc]
        lines[unit] = Line(tokens, costs if costs.high else None)
    if rates is not None and rates.fee:
        costs = band(lambda tokens: costs_of(tokens, rates).get(FEE, 0.0))
        lines[FEE] = Line(NOTHING, costs)
    whole = band(lambda tokens: sum(costs_of(tokens, rates).values()))
    return Foretold(lines, whole, band(lambda tokens: unpriced(tokens, rates)).likely)


def foretell(samples: Sequence[Sample], basis: Basis, rates: Rates | None) -> Foretold:
    """Samples of several kinds that are told by the same replies err together."""
    fit: Callable[[Look], Tokens]
    told: list[tuple[Tokens, Tokens]]
    if not any(reply.tokens for reply, _ in basis.replies):
        return _by_rules(samples, rates, exact=basis.exact)
    if basis.exact:
        answers = Means([reply for reply, _ in basis.replies if reply.tokens]).output
        fit = functools.partial(ruled, factor=1.0, text_factor=1.0, answer=0.0, answers=answers)
        told = [(output_of(reply.tokens), answers) for reply, _ in basis.replies if reply.tokens]
    elif basis.pairs and not any(sample.is_blind for sample in samples):
        fit = best_ratios(basis.pairs)
        told = [(reply.tokens, fit(look)) for reply, look in basis.pairs]
    else:
        fit = Means([reply for reply, _ in basis.replies])
        told = [(reply.tokens, fit.tokens) for reply, _ in basis.replies]
    return _by_fit(samples, told, fit, rates)


def _by_rules(samples: Sequence[Sample], rates: Rates | None, *, exact: bool) -> Foretold:
    factors = (1.0, 1.0, 1.0) if exact else (RULES_LOW, 1.0, RULES_HIGH)
    text_factors = (1.0, 1.0, 1.0) if exact else (TEXT_LOW, 1.0, TEXT_HIGH)

    def band(value: Callable[[Tokens], float]) -> Band:
        return Band(
            *(
                sum(
                    sample.requests * mean(value(ruled(look, *by)) for look in sample.looks)
                    for sample in samples
                )
                for by in zip(factors, text_factors, (0.0, ANSWERED_SHARE, 1.0), strict=True)
            )
        )

    looks = [look for sample in samples for look in sample.looks]
    units = {unit for look in looks for unit in ruled(look, 1.0, 1.0, 1.0)}
    return _sums(band, units, rates)


def _by_fit(
    samples: Sequence[Sample],
    told: Sequence[tuple[Tokens, Tokens]],
    fit: Callable[[Look], Tokens],
    rates: Rates | None,
) -> Foretold:
    """``told``: what replies came to, beside what the fit says of them."""
    fitted = [
        (one.requests, [fit(look) for look in one.looks if _can_be_fitted(look, one)]) for one in samples
    ]

    def band(value: Callable[[Tokens], float]) -> Band:
        requests, likely, variance = 0, 0.0, 0.0
        for asked, each in fitted:
            values = [value(tokens) for tokens in each]
            requests += asked
            likely += asked * mean(values)
            variance += _sampling(asked, values)
        missed = [value(seen) - value(expected) for seen, expected in told]
        variance += _missing(requests, missed, mean(value(seen) for seen, _ in told))
        half = _student(len(told)) * math.sqrt(variance)
        return Band(max(0.0, likely - half), likely, likely + half)

    units = {unit for _, each in fitted for tokens in each for unit in tokens}
    return _sums(band, units, rates)


def _can_be_fitted(look: Look, sample: Sample) -> bool:
    """Those that could not be looked at are taken to be like the others."""
    return look.media is not None or sample.is_blind


def _missing(requests: int, missed: Sequence[float], mean: float) -> float:
    """The variance of a sum over requests, from by how much the fit misses the replies it was made of."""
    replies = len(missed)
    if replies >= ENOUGH and not any(missed):
        return 0.0  # it counts by the very rules
    supposed = _SUPPOSED_REPLIES * (_SUPPOSED_SPREAD * mean) ** 2
    variance = (supposed + sum(one * one for one in missed)) / (_SUPPOSED_REPLIES + replies - 1)
    return variance * (requests * requests / replies + requests)


def _sampling(requests: int, values: Sequence[float]) -> float:
    """The variance of a sum of which only a sample was looked at."""
    looked = len(values)
    if looked < 2 or looked >= requests:
        return 0.0
    middle = mean(values)
    spread = sum((one - middle) ** 2 for one in values) / (looked - 1)
    return requests * requests * (1 - looked / requests) * spread / looked


def _student(replies: int) -> float:
    """Two-sided 95%, near enough: 2.8 for four replies, 2.2 for ten, 2 for fifty."""
    return 1.96 * (1 + 1.3 / (replies + 1))


def costs_of(tokens: Tokens, rates: Rates | None) -> dict[Unit, float]:
    """Of one request, in the currency; what has no price is left out."""
    if rates is None or not tokens:
        return {}
    sheet = rates.sheet(input_of(tokens))
    costs = {unit: count * sheet[unit].micros / 10**12 for unit, count in tokens.items() if unit in sheet}
    return costs | {FEE: rates.fee / 10**12} if rates.fee else costs


def unpriced(tokens: Tokens, rates: Rates | None) -> float:
    """Tokens of one request that have no price."""
    if rates is None:
        return sum(tokens.values())
    sheet = rates.sheet(input_of(tokens))
    return sum(count for unit, count in tokens.items() if unit not in sheet)
