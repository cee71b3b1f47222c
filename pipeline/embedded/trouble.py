"""What keeps a rehearsal from being too easy: limits, a latency, and faults drawn by lot.

    throttled       429, without a time, as the gateway says it
    overloaded      503
    bad-gateway     502, an HTML page of the proxy in front
    upstream-error  200, with an error in the body
    blocked         200, no text and finish_reason content_filter; it is paid
    no-usage        200, an answer without usage
    broken          200, the JSON cut in the middle
    reset           the connection, once the request was read

Owns when an answer goes wrong, and what becomes of it; how media and schemas are answered is not known here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, get_args

from pipeline.embedded.refusals import overloaded, throttled

Fault = Literal[
    "throttled", "overloaded", "bad-gateway", "upstream-error", "blocked", "no-usage", "broken", "reset"
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """``faults``: the share of the requests that meet each; together at most 1. None: no limit."""

    faults: Mapping[Fault, float] = field(default_factory=dict)
    slots: int | None = None  # requests at once
    rpm: int | None = None  # requests in any 60 s
    latency_s: float = 0.0
    seed: int = 0


class Course:
    """One server's: who is in, who came lately, and whose turn it is to fail."""

    def __init__(self, trouble: Trouble, clock: Callable[[], float] = time.monotonic) -> None:
        self._trouble = trouble
        self._clock = clock
        self._lot = Random(trouble.seed)
        self._inside = 0
        self._admitted = deque[float]()

    async def ask(
        self, answer: Callable[[], Awaitable[dict[str, Any]]]
    ) -> tuple[dict[str, Any], Fault | None]:
        """The completion, and the fault that is left for the wire to commit, if any.

        Raises:
            Refusal: past a limit, or by lot; ``answer`` was not called then.
        """
        self._admit()
        self._inside += 1
        try:
            await asyncio.sleep(self._trouble.latency_s)
            fault = self._drawn()
            if fault == "throttled":
                raise throttled("by lot")
            if fault == "overloaded":
                raise overloaded()
            if fault in ("bad-gateway", "upstream-error", "reset"):
                return {}, fault
            completion = await answer()
        finally:
            self._inside -= 1
        return (spoilt(completion, fault), None) if fault in ("blocked", "no-usage") else (completion, fault)

    def _admit(self) -> None:
        if self._trouble.slots is not None and self._inside >= self._trouble.slots:
            raise throttled(f"at most {self._trouble.slots} requests at once")
        if self._trouble.rpm is None:
            return
        now = self._clock()
        while self._admitted and self._admitted[0] <= now - WINDOW_S:
            self._admitted.popleft()
        if len(self._admitted) >= self._trouble.rpm:
            raise throttled(f"at most {self._trouble.rpm} requests a minute")
        self._admitted.append(now)

    def _drawn(self) -> Fault | None:
        point = self._lot.random()
        for fault, share in self._trouble.faults.items():
            point -= share
            if point < 0:
                return fault
        return None


def spoilt(completion: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
    """A completion as it is when its text was blocked, or nobody counted its tokens."""
    if fault == "no-usage":
        return {name: value for name, value in completion.items() if name != "usage"}
    choice = completion["choices"][0]
    blocked = {**choice, "message": {**choice["message"], "content": ""}, "finish_reason": "content_filter"}
    return {**completion, "choices": [blocked]}
