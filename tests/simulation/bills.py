"""What a simulated reply truly cost, and how the endpoint's usage tells it: the new-api layout, older builds.

The truth is known by modality; the usage names text and audio only, and cached tokens without their modality.
So the code under test has to find the truth where it can be found, and to bound it where it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from random import Random
from typing import Any

from pipeline.pricing import BookIdentity, Rates, UnitPrice

# Micros of a dollar per million tokens: a cost in trillionths of a dollar is tokens x micros.
MICROS: dict[tuple[str, str, str], int] = {
    ("text", "input", "fresh"): 250_000,
    ("text", "input", "cached"): 25_000,
    ("image", "input", "fresh"): 300_001,
    ("image", "input", "cached"): 30_000,
    ("audio", "input", "fresh"): 500_000,
    ("audio", "input", "cached"): 50_000,
    ("video", "input", "fresh"): 350_003,
    ("video", "input", "cached"): 35_000,
    ("image+video", "input", "fresh"): 325_000,
    ("image+video", "input", "cached"): 32_500,
    ("text", "output", "fresh"): 1_500_000,
    ("text", "output", "reasoning"): 2_500_000,
}
UNPRICED = "unpriced-model"


@dataclass(frozen=True, slots=True)
class Bill:
    """One served reply. ``trillionths`` of a dollar is the truth; None where no price is known.

    ``is_exact``: usage tells enough to find the truth to the last digit.
    """

    usage: dict[str, Any]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    trillionths: int | None
    is_exact: bool


class FixedPrices:
    """A price book of the table above, for every model but one."""

    _rates = Rates(
        "USD",
        "simulated",
        {unit: UnitPrice.of(Decimal(micros) / 1_000_000) for unit, micros in MICROS.items()},  # type: ignore[misc]
    )

    def rates(self, model: str, at: datetime) -> Rates | None:
        return None if model.startswith(UNPRICED) else self._rates

    def identity(self) -> BookIdentity:
        return BookIdentity("simulated", "1", "0" * 64, date(2026, 3, 1))


def make_bill(rng: Random, model: str, modalities: tuple[str, ...]) -> Bill:
    """A bill for a request with these media."""
    fresh = {"text": rng.randint(3, 60)}
    for modality in modalities:
        fresh[modality] = rng.randint(1, 2000)
    if "video" in modalities and "audio" not in modalities and rng.random() < 0.5:
        fresh["audio"] = rng.randint(1, 500)  # the soundtrack
    prompt = sum(fresh.values())
    cached = dict.fromkeys(fresh, 0)
    if rng.random() < 0.2:
        cached = {modality: rng.randint(0, tokens) for modality, tokens in fresh.items()}
    cached_tokens = sum(cached.values())
    reasoning, written = rng.choice((0, 0, rng.randint(1, 300))), rng.randint(1, 400)
    trillionths = written * MICROS["text", "output", "fresh"]
    trillionths += reasoning * MICROS["text", "output", "reasoning"]
    for modality, tokens in fresh.items():
        trillionths += (tokens - cached[modality]) * MICROS[modality, "input", "fresh"]
        trillionths += cached[modality] * MICROS[modality, "input", "cached"]
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": written + reasoning,
        "total_tokens": prompt + written + reasoning,
        "prompt_tokens_details": {
            "cached_tokens": cached_tokens,
            "text_tokens": fresh["text"],
            "audio_tokens": fresh.get("audio", 0),
            "image_tokens": 0,
        },
        "completion_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "reasoning_tokens": reasoning},
        "input_tokens": 0,
        "output_tokens": 0,
        "input_tokens_details": None,
    }
    is_plain = not (cached_tokens and len(fresh) > 1 and cached_tokens != prompt)
    return Bill(
        usage,
        prompt,
        written + reasoning,
        cached_tokens,
        None if model == UNPRICED else trillionths,
        is_exact=is_plain and not {"image", "video"} <= set(modalities),
    )
