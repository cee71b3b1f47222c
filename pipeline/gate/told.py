"""What an answer's ``x-ratelimit-*`` headers say of limits: how much remains, and when it is reset.

OpenAI's spelling (``x-ratelimit-remaining-requests``, a reset like ``6m0s`` or ``17ms``), which Groq, Azure,
vLLM's and LiteLLM's proxies share; and the plain one (``x-ratelimit-remaining``, a reset in seconds or as an
instant) of OpenRouter and generic proxies. What cannot be read is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

Unit = Literal["requests", "tokens"]


class Told(NamedTuple):
    """What remains of a limit, and in how many seconds it is reset."""

    unit: Unit
    limit: float | None
    remaining: float
    reset_s: float


_NAMES: tuple[tuple[Unit, str], ...] = (("requests", "-requests"), ("tokens", "-tokens"), ("requests", ""))


def told_limits(headers: Mapping[str, str], unix_clock: Callable[[], float]) -> list[Told]:
    """The limits these headers tell; header names in lower case. ``unix_clock``: seconds since 1970."""
    found: list[Told] = []
    for unit, ending in _NAMES:
        remaining = _number(headers.get(f"x-ratelimit-remaining{ending}"))
        if remaining is None or (not ending and found):
            continue
        reset_s = _reset_s(headers.get(f"x-ratelimit-reset{ending}"), unix_clock)
        if reset_s is not None:
            found.append(Told(unit, _number(headers.get(f"x-ratelimit-limit{ending}")), remaining, reset_s))
    return found


def _number(text: str | None) -> float | None:
    text = None if text is None else text.strip()  # of more than float() takes off
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None


def _reset_s(text: str | None, unix_clock: Callable[[], float]) -> float | None:
    if text is None:
        return None
    number = _number(text)
    if number is not None:
        if number >= _FIRST_INSTANT_MS:
            return max(0.0, number / 1000 - unix_clock())
        return max(0.0, number - unix_clock()) if number >= _FIRST_INSTANT_S else number
    parts = _DURATION.fullmatch(text.strip())
    if parts is None or not text.strip():
        return None
    return sum(
        float(amount) * seconds
        for amount, seconds in zip(parts.groups(), (86_400, 3_600, 60, 1, 0.001), strict=True)
        if amount is not None
    )


_FIRST_INSTANT_S, _FIRST_INSTANT_MS = 1e9, 1e12
"""Larger numbers are no durations but instants: seconds, or milliseconds, since 1970."""
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{0,9})?")
_AMOUNT = r"([0-9]{1,9}(?:\.[0-9]{0,9})?)"
_DURATION = re.compile(rf"(?:{_AMOUNT}d)?(?:{_AMOUNT}h)?(?:{_AMOUNT}m(?!s))?(?:{_AMOUNT}s)?(?:{_AMOUNT}ms)?")
