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
from pipeline.gate.needs import ANSWERED_SHARE, TOKENS_PER_MEDIA
from pipeline.pricing import Rates
from pipeline.records import CountModality

Tokens = Mapping[Unit, float]

ENOUGH = 8
"""Replies to requests of one kind, from which they are told by their own; with fewer, by all kinds'."""
RULES_LOW, RULES_HIGH = 0.2, 5.0
"""How far one vendor's count of a medium is from another's: an image is 258 tokens here and 1,120 there."""
TEXT_LOW, TEXT_HIGH = 0.6, 1.8
LEAST_ANSWER = 10
"""Tokens: a word or two."""
_SUPPOSED_SPREAD = 0.5  # of a mean, as two replies would show it, before replies show another
_SUPPOSED_REPLIES = 2

TEXT_OUT = Unit("text", "output", "fresh")
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
class Look:
    """What the rules say of a request: input tokens by modality; None where its media could not be had.
    ``images``: its images' by the rules of each family. ``fails``: what it sent is no medium, so that nothing
    will be counted."""

    text: int
    media: Mapping[CountModality, int] | None
    images: Mapping[str, int]
    number_of_media: int
    longest_answer: int
    fails: bool = False


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
    if basis.exact and basis.replies:
        answers = _Means([reply for reply, _ in basis.replies if reply.tokens]).output
        fit = functools.partial(_ruled, factor=1.0, text_factor=1.0, answer=0.0, answers=answers)
        told = [(_output(reply.tokens), answers) for reply, _ in basis.replies if reply.tokens]
    elif basis.pairs and not any(sample.is_blind for sample in samples):
        fit = _best_ratios(basis.pairs)
        told = [(reply.tokens, fit(look)) for reply, look in basis.pairs]
    elif basis.replies and not basis.exact:
        fit = _Means([reply for reply, _ in basis.replies])
        told = [(reply.tokens, fit.tokens) for reply, _ in basis.replies]
    else:
        return _by_rules(samples, rates, exact=basis.exact)
    return _by_fit(samples, told, fit, rates)


def _by_rules(samples: Sequence[Sample], rates: Rates | None, *, exact: bool) -> Foretold:
    factors = (1.0, 1.0, 1.0) if exact else (RULES_LOW, 1.0, RULES_HIGH)
    text_factors = (1.0, 1.0, 1.0) if exact else (TEXT_LOW, 1.0, TEXT_HIGH)

    def band(value: Callable[[Tokens], float]) -> Band:
        return Band(
            *(
                sum(
                    sample.requests * _mean(value(_ruled(look, *by)) for look in sample.looks)
                    for sample in samples
                )
                for by in zip(factors, text_factors, (0.0, ANSWERED_SHARE, 1.0), strict=True)
            )
        )

    looks = [look for sample in samples for look in sample.looks]
    units = {unit for look in looks for unit in _ruled(look, 1.0, 1.0, 1.0)}
    return _sums(band, units, rates)


def _ruled(
    look: Look, factor: float, text_factor: float, answer: float, answers: Tokens | None = None
) -> dict[Unit, float]:
    if look.fails:
        return {}
    tokens: dict[Unit, float] = {Unit("text", "input", "fresh"): look.text * text_factor}
    if look.media is None:
        tokens[Unit("unattributed", "input", "fresh")] = look.number_of_media * TOKENS_PER_MEDIA * factor
    else:
        for modality, count in look.media.items():
            tokens[Unit(modality, "input", "fresh")] = count * factor
    if answers is not None:
        tokens.update(answers)
    else:
        tokens[TEXT_OUT] = max(LEAST_ANSWER, look.longest_answer * answer)
    return tokens


class _Means:
    """Each request is what a reply came to on average."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        units = {unit for reply in replies for unit in reply.tokens}
        self.tokens: Tokens = {unit: _mean(reply.tokens.get(unit, 0) for reply in replies) for unit in units}

    @property
    def output(self) -> Tokens:
        return _output(self.tokens)

    def __call__(self, look: Look) -> Tokens:
        return {} if look.fails else self.tokens


def _output(tokens: Tokens) -> dict[Unit, float]:
    return {unit: count for unit, count in tokens.items() if unit.direction == "output"}


def _best_ratios(pairs: Sequence[tuple[Reply, Look]]) -> _Ratios:
    """With images by the rules that miss the replies least: sizes count here, and not there. Those of the
    model's own family where none is better."""
    families = dict.fromkeys(family for _, look in pairs for family in look.images)
    if len(pairs) < ENOUGH or not families:
        return _Ratios(pairs)

    def missed(fit: _Ratios) -> float:
        return sum((_input(reply.tokens) - _input(fit(look))) ** 2 for reply, look in pairs)

    return min((_Ratios(pairs, family) for family in (None, *families)), key=missed)


class _Ratios:
    """Input in proportion to what the rules say, by the names under which the endpoint counts it; output as
    on average. ``family``: whose rules count images, where not the model's own."""

    def __init__(self, pairs: Sequence[tuple[Reply, Look]], family: str | None = None) -> None:
        self._family = family
        self._names = {
            unit.modality for reply, _ in pairs for unit in reply.tokens if unit.direction == "input"
        }
        folded = [self._fold(look) for _, look in pairs]
        ruled: dict[CountModality, float] = {}
        for one in folded:
            for modality, count in one.items():
                ruled[modality] = ruled.get(modality, 0.0) + count
        seen: dict[Unit, float] = {}
        for reply, _ in pairs:
            for unit, tokens in reply.tokens.items():
                seen[unit] = seen.get(unit, 0.0) + tokens
        answered = sum(not look.fails for _, look in pairs) or 1
        self._ratio: dict[Unit, float] = {}
        self._constant: dict[Unit, float] = {}
        for unit, total in seen.items():
            if unit.direction == "input" and ruled.get(unit.modality):
                self._ratio[unit] = total / ruled[unit.modality]
            else:
                self._constant[unit] = total / answered
        self._ruled = {modality for modality, count in ruled.items() if count}
        self._default = sum(seen[u] for u in seen if u.direction == "input") / (sum(ruled.values()) or 1)

    def __call__(self, look: Look) -> Tokens:
        if look.fails:
            return {}
        tokens = dict(self._constant)
        folded = self._fold(look)
        for unit, ratio in self._ratio.items():
            if unit.modality in folded:
                tokens[unit] = folded[unit.modality] * ratio
        for modality, count in folded.items():
            if modality not in self._ruled:  # nothing like it was answered yet
                tokens[Unit(modality, "input", "fresh")] = count * self._default
        return tokens

    def _fold(self, look: Look) -> dict[CountModality, float]:
        """By the names that the endpoint uses: what it does not tell apart from others counts among them."""
        folded: dict[CountModality, float] = {"text": float(look.text)}
        for modality, count in (look.media or {}).items():
            if modality == "image" and self._family is not None:
                count = look.images[self._family]  # the same images, counted otherwise
            name = modality
            if modality not in self._names:
                if modality in ("image", "video") and "image+video" in self._names:
                    name = "image+video"
                elif "unattributed" in self._names:
                    name = "unattributed"
                elif self._names == {"text"}:
                    name = "text"
            folded[name] = folded.get(name, 0.0) + count
        return folded


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
            likely += asked * _mean(values)
            variance += _sampling(asked, values)
        missed = [value(seen) - value(expected) for seen, expected in told]
        variance += _missing(requests, missed, _mean(value(seen) for seen, _ in told))
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
    middle = _mean(values)
    spread = sum((one - middle) ** 2 for one in values) / (looked - 1)
    return requests * requests * (1 - looked / requests) * spread / looked


def _student(replies: int) -> float:
    """Two-sided 95%, near enough: 2.8 for four replies, 2.2 for ten, 2 for fifty."""
    return 1.96 * (1 + 1.3 / (replies + 1))


def _mean(values: Iterable[float]) -> float:
    told = list(values)
    return sum(told) / len(told)


def costs_of(tokens: Tokens, rates: Rates | None) -> dict[Unit, float]:
    """Of one request, in the currency; what has no price is left out."""
    if rates is None or not tokens:
        return {}
    sheet = rates.sheet(_input(tokens))
    costs = {unit: count * sheet[unit].micros / 10**12 for unit, count in tokens.items() if unit in sheet}
    return costs | {FEE: rates.fee / 10**12} if rates.fee else costs


def _input(tokens: Tokens) -> int:
    return round(sum(count for unit, count in tokens.items() if unit.direction == "input"))


def unpriced(tokens: Tokens, rates: Rates | None) -> float:
    """Tokens of one request that have no price."""
    if rates is None:
        return sum(tokens.values())
    sheet = rates.sheet(_input(tokens))
    return sum(count for unit, count in tokens.items() if unit not in sheet)
