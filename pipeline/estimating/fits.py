"""What one request will come to, by the rules, by what replies were on average, or by both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.estimating.experience import Reply, Unit
from pipeline.gate.needs import TOKENS_PER_MEDIA
from pipeline.records import CountModality

Tokens = Mapping[Unit, float]

ENOUGH = 8
"""Replies to requests of one kind, from which they are told by their own; with fewer, by all kinds'."""
LEAST_ANSWER = 10
"""Tokens: a word or two."""
TEXT_OUT = Unit("text", "output", "fresh")


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


def ruled(
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


class Means:
    """Each request is what a reply came to on average."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        units = {unit for reply in replies for unit in reply.tokens}
        self.tokens: Tokens = {unit: mean(reply.tokens.get(unit, 0) for reply in replies) for unit in units}

    @property
    def output(self) -> Tokens:
        return output_of(self.tokens)

    def __call__(self, look: Look) -> Tokens:
        return {} if look.fails else self.tokens


def output_of(tokens: Tokens) -> dict[Unit, float]:
    return {unit: count for unit, count in tokens.items() if unit.direction == "output"}


def best_ratios(pairs: Sequence[tuple[Reply, Look]]) -> Ratios:
    """With images by the rules that miss the replies least: sizes count here, and not there. Those of the
    model's own family where none is better."""
    families = dict.fromkeys(family for _, look in pairs for family in look.images)
    if len(pairs) < ENOUGH or not families:
        return Ratios(pairs)

    def missed(fit: Ratios) -> float:
        return sum((input_of(reply.tokens) - input_of(fit(look))) ** 2 for reply, look in pairs)

    return min((Ratios(pairs, family) for family in (None, *families)), key=missed)


class Ratios:
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


def input_of(tokens: Tokens) -> int:
    return round(sum(count for unit, count in tokens.items() if unit.direction == "input"))


def mean(values: Iterable[float]) -> float:
    told = list(values)
    return sum(told) / len(told)
