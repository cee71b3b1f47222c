"""Usage → exclusive token counts that add up to the reply's totals, to the last token.

Owns the arithmetic of the layouts in this family (new-api in several versions, OpenAI, vLLM, SGLang,
OpenRouter, DeepSeek, Moonshot): `prompt_tokens` already contains cached tokens, `completion_tokens`
already contains reasoning. Refuses to invent: what cannot be named is `derived`, `estimated` or
`unattributed`, and what cannot be true is said in `contradiction`. Next: `seen` and `pipeline.pricing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException
from typing import Any

from pipeline.dialects.wire import json_text
from pipeline.records import (
    CountModality,
    Direction,
    Kind,
    MediaModality,
    Provenance,
    Request,
    TokenCount,
    Usage,
)

_MOST_TOKENS = 2**53  # past it, a JSON number is no exact count any more
_NOTHING: dict[str, Any] = {}

_INPUT_NAMES: tuple[tuple[str, CountModality], ...] = (
    ("text_tokens", "text"),
    ("audio_tokens", "audio"),
    ("image_tokens", "image"),
    ("video_tokens", "video"),
    ("document_tokens", "document"),
)
_OUTPUT_NAMES: tuple[tuple[str, CountModality], ...] = (
    ("audio_tokens", "audio"),
    ("image_tokens", "image"),
    ("video_tokens", "video"),
)

_CACHE_WRITES: tuple[tuple[str, Kind], ...] = (
    ("claude_cache_creation_5_m_tokens", "cache_write_5m"),
    ("claude_cache_creation_1_h_tokens", "cache_write_1h"),
)

# Tokens of one modality before cached ones are taken out of them.
_Part = tuple[CountModality, int, Provenance]


def read_usage(usage: object, request: Request) -> Usage | None:
    """The exclusive counts of one reply's usage, or None where nothing in it can be used.

    A reported total above prompt + completion is kept: the excess is output that the completion total
    leaves out. Where it is just the reasoning that the details name (xAI counts so), it is that; else
    (thoughts, at some gateways) it is `unattributed` and `derived`.
    """
    if type(usage) is not dict:
        return None
    prompt = _count_of(usage, "prompt_tokens", "input_tokens")
    completion = _count_of(usage, "completion_tokens", "output_tokens")
    reported = usable(usage.get("total_tokens"))
    problems: list[str] = []
    if prompt is None or completion is None:
        if prompt is None and completion is None:
            if not reported:
                return None
            problems.append("usage names a total only")
        # One of the two is what the total leaves beside the other.
        if prompt is None:
            prompt = max(0, (reported or 0) - completion) if completion is not None else 0
        if completion is None:
            completion = 0 if problems else max(0, (reported or 0) - prompt)
    total = prompt + completion
    excess = 0
    if reported is not None and reported != total:
        if reported > total:
            excess = reported - total
            total = reported
        elif reported:
            problems.append(f"the total {reported} is below prompt {prompt} + completion {completion}")
    if not total:
        problems.append("usage names no tokens at all")

    counts: list[TokenCount] = []
    if prompt:
        _input_counts(usage, prompt, request, counts, problems)
    if excess and excess == _reasoning(usage):
        _output_counts(usage, completion + excess, counts, problems)
    else:
        if completion:
            _output_counts(usage, completion, counts, problems)
        if excess:
            counts.append(TokenCount("unattributed", "output", "fresh", excess, "derived"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        counts=tuple(counts),
        raw=json_text(usage),
        contradiction="; ".join(problems) if problems else None,
    )


def reported_cost(usage: object) -> Decimal | None:
    """What the endpoint itself says the reply cost, to 12 decimals: OpenRouter's `usage.cost`; xAI's ticks,
    of which 10¹⁰ are a dollar."""
    if type(usage) is not dict:
        return None
    ticks = usable(usage.get("cost_in_usd_ticks"))
    return _amount(usage.get("cost")) if ticks is None else _amount(f"{ticks}E-10")


def cost_in_headers(headers: Mapping[str, str]) -> Decimal | None:
    """What LiteLLM's proxy says the answer cost, in USD; header names in lower case."""
    return _amount(headers.get("x-litellm-response-cost"))


def _amount(cost: object) -> Decimal | None:
    """An amount as a reply or a header tells it, to 12 decimals; None where it is none."""
    if type(cost) not in (int, float, str):
        return None
    try:
        amount = Decimal(str(cost)) if len(str(cost)) <= 60 else Decimal("NaN")
    except (DecimalException, ValueError):
        return None
    if not amount.is_finite() or amount.is_signed() or amount > _MOST_MONEY:
        return None
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and not -12 <= exponent <= 0:
        return amount.quantize(_TRILLIONTH, context=_MONEY)
    return amount


_TRILLIONTH = Decimal("0.000000000001")  # the scale of the store's money columns
_MOST_MONEY = Decimal(10**15)
_MONEY = Context(prec=60, rounding=ROUND_HALF_EVEN)


def usable(value: object) -> int | None:
    """A token count: a whole number from 0 to 2**53, as integer or as float; anything else is None."""
    if type(value) is int:
        return value if 0 <= value <= _MOST_TOKENS else None
    if type(value) is float and 0 <= value <= _MOST_TOKENS and value.is_integer():
        return int(value)
    return None


def _count_of(usage: dict[str, Any], *names: str) -> int | None:
    """The first positive count among ``names``, else 0 where one is 0: the unused spelling often is."""
    found = None
    for name in names:
        count = usable(usage.get(name))
        if count:
            return count
        if count == 0:
            found = 0
    return found


def _details_of(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        details = usage.get(name)
        if details and type(details) is dict:
            return details
    return _NOTHING


def _input_counts(
    usage: dict[str, Any], prompt: int, request: Request, counts: list[TokenCount], problems: list[str]
) -> None:
    details = _details_of(usage, "prompt_tokens_details", "input_tokens_details")
    parts = _input_parts(prompt, details, {media.modality for media in request.media}, problems)
    cached: list[tuple[Kind, int]] = []
    if read := _cached_tokens(usage, details):
        cached.append(("cached", read))
    for name, kind in _CACHE_WRITES:
        if written := usable(usage.get(name)):
            cached.append((kind, written))
    if cached:
        if sum(amount for _, amount in cached) <= prompt:
            _spread(parts, cached, prompt, counts)
            return
        problems.append(f"more tokens are called cached than the prompt's {prompt}")
    for modality, tokens, provenance in parts:
        counts.append(TokenCount(modality, "input", "fresh", tokens, provenance))


def _cached_tokens(usage: dict[str, Any], details: dict[str, Any]) -> int | None:
    """By where it stands: OpenAI and new-api; the Responses spelling; DeepSeek; Moonshot."""
    cached = usable(details.get("cached_tokens"))
    if cached is not None:
        return cached
    cached = usable(_details_of(usage, "input_tokens_details").get("cached_tokens"))
    if cached is not None:
        return cached
    return _count_of(usage, "prompt_cache_hit_tokens", "cached_tokens")


def _input_parts(
    prompt: int, details: dict[str, Any], sent: set[MediaModality], problems: list[str]
) -> list[_Part]:
    """What the details name, and what they leave.

    A remainder belongs to text, unless text is named, or to media that were sent and are not named. Where
    exactly one of these can explain it, that is its modality; image and video together are `image+video`;
    otherwise it is `unattributed`.
    """
    parts: list[_Part] = []
    rest = prompt
    for name, of in _INPUT_NAMES:
        tokens = usable(details.get(name))
        if tokens:
            parts.append((of, tokens, "reported"))
            rest -= tokens
    if rest < 0:
        problems.append(f"the details name {prompt - rest} of {prompt} prompt tokens")
        return [("unattributed", prompt, "derived")]
    if rest == 0:
        if sent and len(parts) == 1 and parts[0][0] == "text":
            # Where the upstream sends no details, the gateway calls the whole prompt text.
            problems.append("all prompt tokens are called text although media was sent")
            return [("unattributed", prompt, "derived")]
        return parts
    named = {part[0] for part in parts}
    able: set[CountModality] = {"text"}
    able.update(sent)
    able -= named
    if "audio" in able and usable(details.get("audio_tokens")) is not None and sent != {"audio"}:
        # Gateways of this family always name audio, so a 0 there means none; alone, it may be a default.
        able.discard("audio")
    modality: CountModality = "unattributed"
    if len(able) == 1:
        modality = able.pop()
    elif able == {"image", "video"}:
        modality = "image+video"
    parts.append((modality, rest, "derived"))
    return parts


def _spread(
    parts: list[_Part], cached: list[tuple[Kind, int]], prompt: int, counts: list[TokenCount]
) -> None:
    """Take cached and newly cached tokens out of the modalities they are contained in.

    Nobody reports which modality was cached: in proportion, by largest remainders, and then every count
    of the prompt is an estimate. Where there is one modality only, or all of it is of one kind, nothing is
    guessed.
    """
    fresh = [tokens for _, tokens, _ in parts]
    shares: list[list[tuple[Kind, int]]] = [[] for _ in parts]
    for kind, amount in cached:
        for index, share in enumerate(_in_proportion(amount, fresh)):
            fresh[index] -= share
            shares[index].append((kind, share))
    guessed = len(parts) > 1 and not (len(cached) == 1 and cached[0][1] == prompt)
    for (modality, _, reported), left, share_of in zip(parts, fresh, shares, strict=True):
        provenance: Provenance = "estimated" if guessed else reported
        if left:
            counts.append(TokenCount(modality, "input", "fresh", left, provenance))
        for kind, tokens in share_of:
            if tokens:
                counts.append(TokenCount(modality, "input", kind, tokens, provenance))


def _in_proportion(amount: int, weights: list[int]) -> list[int]:
    """Split by the largest-remainder method; no share is above its weight. ``amount`` ≤ the weights' sum."""
    whole = sum(weights)
    shares = [amount * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(amount * weights[i] % whole), i))
    for index in by_remainder[: amount - sum(shares)]:
        shares[index] += 1
    return shares


def _reasoning(usage: dict[str, Any]) -> int | None:
    reasoning = usable(
        _details_of(usage, "completion_tokens_details", "output_tokens_details").get("reasoning_tokens")
    )
    # SGLang writes it beside the totals.
    return usable(usage.get("reasoning_tokens")) if reasoning is None else reasoning


def _output_counts(
    usage: dict[str, Any], completion: int, counts: list[TokenCount], problems: list[str]
) -> None:
    direction: Direction = "output"
    details = _details_of(usage, "completion_tokens_details", "output_tokens_details")
    reasoning = _reasoning(usage)
    named: list[TokenCount] = []
    text = completion
    if reasoning:
        named.append(TokenCount("text", direction, "reasoning", reasoning, "reported"))
        text -= reasoning
    for name, modality in _OUTPUT_NAMES:
        tokens = usable(details.get(name))
        if tokens:
            named.append(TokenCount(modality, direction, "fresh", tokens, "reported"))
            text -= tokens
    if text < 0:
        problems.append(f"the details name {completion - text} of {completion} completion tokens")
        counts.append(TokenCount("unattributed", direction, "fresh", completion, "derived"))
        return
    if text:
        provenance: Provenance = "reported" if usable(details.get("text_tokens")) == text else "derived"
        counts.append(TokenCount("text", direction, "fresh", text, provenance))
    counts.extend(named)
