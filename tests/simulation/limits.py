"""Limits as a simulated endpoint keeps them: requests and tokens a minute, its 429s, its headers.

Two habits of real ones: any sixty seconds hold no more than the limit, or every minute begins anew.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil
from typing import Literal

WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What an endpoint enforces. ``spelling``: how its headers tell, if they do."""

    rpm: int | None = None
    tpm: int | None = None
    begins_anew: bool = False
    names_time: bool = True  # its 429s do
    spelling: Literal["openai", "plain"] | None = None


class Meter:
    """One limit, in one session. Seconds of the session."""

    def __init__(self, limit: int, *, begins_anew: bool) -> None:
        self.limit = limit
        self._begins_anew = begins_anew
        self._used: deque[tuple[float, int]] = deque()
        self._sum = 0

    def left(self, now_s: float) -> int:
        self._forget(now_s)
        return self.limit - self._sum

    def reset_s(self, now_s: float) -> float:
        """Seconds until there is more."""
        self._forget(now_s)
        if not self._used:
            return 0.0
        since_s = self._used[0][0]
        return (
            (since_s // WINDOW_S + 1) * WINDOW_S - now_s if self._begins_anew else since_s + WINDOW_S - now_s
        )

    def use(self, amount: int, now_s: float) -> None:
        self._used.append((now_s, amount))
        self._sum += amount

    def _forget(self, now_s: float) -> None:
        used = self._used
        begins_s = now_s // WINDOW_S * WINDOW_S if self._begins_anew else now_s - WINDOW_S
        while used and (used[0][0] < begins_s if self._begins_anew else used[0][0] <= begins_s):
            self._sum -= used.popleft()[1]


class Doorkeeper:
    """Keeps the limits of one endpoint in one session."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._requests = Meter(limits.rpm, begins_anew=limits.begins_anew) if limits.rpm else None
        self._tokens = Meter(limits.tpm, begins_anew=limits.begins_anew) if limits.tpm else None

    @property
    def names_time(self) -> bool:
        return self._limits.names_time

    def wait_s(self, now_s: float) -> float | None:
        """None where a request may come in; else when to come again."""
        full = [meter for meter in (self._requests, self._tokens) if meter and meter.left(now_s) <= 0]
        return max((meter.reset_s(now_s) for meter in full), default=None)

    def served(self, tokens: int, now_s: float) -> None:
        if self._requests:
            self._requests.use(1, now_s)
        if self._tokens:
            self._tokens.use(tokens, now_s)

    def headers(self, now_s: float) -> dict[str, str]:
        told: dict[str, str] = {}
        for unit, meter in (("requests", self._requests), ("tokens", self._tokens)):
            if meter is None or self._limits.spelling is None:
                continue
            is_plain = self._limits.spelling == "plain"
            if is_plain and unit == "tokens":
                continue
            ending, reset_s = "" if is_plain else f"-{unit}", max(0.0, meter.reset_s(now_s))
            told[f"x-ratelimit-limit{ending}"] = str(meter.limit)
            told[f"x-ratelimit-remaining{ending}"] = str(max(0, meter.left(now_s)))
            told[f"x-ratelimit-reset{ending}"] = str(ceil(reset_s)) if is_plain else spelled(reset_s)
        return told


def spelled(seconds: float) -> str:
    """As OpenAI does: ``17ms``, ``1.5s``, ``1m0s``."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    minutes, rest_s = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest_s:.3f}s" if minutes else f"{rest_s:.3f}s"
