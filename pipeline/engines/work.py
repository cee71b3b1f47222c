"""What an engine is given, and what it makes of it: a run that is under way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.budget import Budget
from pipeline.endpoints import Vitals
from pipeline.errors import MediabatchError
from pipeline.media.delivery import Saved
from pipeline.plan import Plan, Secrets
from pipeline.prices import Prices
from pipeline.recorder import Recorder
from pipeline.records import RunState
from pipeline.repeats import Repeats
from pipeline.run import Feed, Halt
from pipeline.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class Work:
    """A session of a run, all but the asking."""

    plan: Plan
    secrets: Secrets
    prices: Prices
    budget: Budget | None
    feed: Feed
    recorder: Recorder
    repeats: Repeats
    world: Surroundings


class Running(Protocol):
    """A run under way, wherever it executes."""

    @property
    def state(self) -> RunState: ...

    @property
    def halts(self) -> tuple[Halt, ...]: ...

    @property
    def levels(self) -> dict[str, int]:
        """By endpoint: the slots that proved themselves."""

    @property
    def saved(self) -> Saved: ...

    def vitals(self) -> Vitals: ...

    def stop(self, why: Literal["interrupted", "deadline", "budget"]) -> None:
        """Admit nothing new; what is in flight is waited for."""

    def halt(self, reason: MediabatchError) -> None:
        """Stop the whole run for a reason that concerns all models."""

    async def execute(self) -> None:
        """Bring every row to its outcome and record it. Cancelled, it drops what is in flight."""


Engine = Callable[[Work], AbstractAsyncContextManager[Running]]
"""Where a run executes. Raises UsageError where it cannot begin; nothing was sent then."""
