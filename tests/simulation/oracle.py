"""What the rules of halting, as they are written, make of a session's answers: the other opinion."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.store.schemas import RESULTS
from tests.simulation.broken import TRIES, Broken
from tests.simulation.endpoint import Asked

if TYPE_CHECKING:
    from tests.simulation.nights import Evidence, Session

_FINISHED_AT = RESULTS.names().index("finished_at")

HALTS_IN_A_ROW = 5
FIRST_ANSWERS = 20
PATIENCE_S = 1_700.0
"""Seconds of trying after which an item may be given up for its time alone."""

Halted = tuple[str | None, str | None]
"""Endpoint and model; no model is all of them there, no endpoint the whole run."""


@dataclass(slots=True)
class _Case:
    """A row's way through a session, as far as its answers tell."""

    models: list[str] = field(default_factory=list)  # asked before this one
    tries: list[Asked] = field(default_factory=list)  # since it began anew
    ended: Asked | None = None  # the last of those, where it was one too many
    is_caught: bool = False


class Oracle:
    """Goes through a session's answers in the order in which they came.

    ``halted``: since when (microseconds), and why. ``is_sure``: every answer that ended a row's tries is
    known to have done so.

    Raises:
        Broken: a row was asked again against the rules.
    """

    def __init__(self, evidence: Evidence, session: Session, asked: list[Asked]) -> None:
        self.halted: dict[Halted, tuple[int, str]] = {}
        self.caught: set[int] = set()  # rows caught in a halt, and nobody left to ask: not attempted
        self.going_on: set[int] = set()  # rows for which somebody else was to be asked, and was not yet
        self.is_sure = True
        self._results = evidence.records.results
        self._session = session
        self._most = evidence.scenario.retry.max_attempts
        self._fallbacks = evidence.scenario.fallbacks
        self._max_outage_s = evidence.scenario.max_outage_s
        self._models_of = {place.name: place.models for place in session.scenario.places}
        self._succeeded: set[Halted] = set()
        self._in_a_row: Counter[Halted] = Counter()
        self._first_class: str | None = None
        self._answers = 0
        self._cases: defaultdict[int, _Case] = defaultdict(_Case)
        self._to_come = Counter(one.row for one in asked)
        for one in sorted(asked, key=lambda one: one.order or 1 << 60):
            self._take(one)

    def ended_here(self, row: int) -> bool:
        """Whether the row's end was recorded in this session, and not in a later one of the run."""
        result = self._results.get((self._session.run_id, row))
        return result is not None and result[_FINISHED_AT] <= self._session.ends_us

    def serve(self, model: str) -> bool:
        """Whether an endpoint is left for the model, by what halted so far."""
        return (None, None) not in self.halted and any(
            (not models or model in models)
            and (name, model) not in self.halted
            and (name, None) not in self.halted
            for name, models in self._models_of.items()
        )

    def _take(self, one: Asked) -> None:
        """A request; where it was delivered, its answer."""
        case = self._cases[one.row]
        self._check_try(case, one)
        self.going_on.discard(one.row)
        case.tries.append(one)
        self._to_come[one.row] -= 1
        # The last rows may be what makes the endpoint fall over: not for ever, then.
        suspects = sum(
            earlier.is_excused for earlier in case.tries[:-1] if earlier.fate.error_class != "ConnectFailed"
        )
        one.is_excused = one.met_outage and (
            one.fate.error_class == "ConnectFailed" or suspects < self._most or not one.is_last_work
        )
        if not one.is_delivered:
            return
        if one.out_for_s >= self._max_outage_s and one.fate.is_nobody:
            self.halted.setdefault((one.endpoint, None), (one.done_us, "EndpointDown"))
        if self._is_end(case):
            case.ended = one
            self._judge(case, one)

    def _check_try(self, case: _Case, one: Asked) -> None:
        """A row is asked again only after what may pass, and no more often than the rules say; elsewhere,
        where it was caught in a halt; another model, where there is a fallback."""
        if not case.tries:
            return
        before = case.tries[-1]
        if one.model != before.model:
            if not self._may_fall_back(case, before, one.model):
                raise Broken(
                    TRIES, f"{one.prompt} was asked of {one.model} after {before.model}: {before.fate.name}"
                )
            case.models.append(before.model)
        elif case.ended is None:
            return
        elif not (case.is_caught and one.endpoint != before.endpoint):
            alike = self._alike(case)
            raise Broken(TRIES, f"{one.prompt} was asked after {alike} x {before.fate.name}, its end")
        case.tries, case.ended, case.is_caught = [], None, False

    def _may_fall_back(self, case: _Case, before: Asked, model: str) -> bool:
        """After an end of this class; or, before its end, where the model it waited for halted meanwhile."""
        if model in case.models:
            return False
        if case.ended is not None and self._fallbacks.get(before.fate.error_class or "") == model:
            return True
        reasons = [why for (_, of), (_, why) in self.halted.items() if of in (None, before.model)]
        return any(self._fallbacks.get(why) == model for why in reasons)

    def _alike(self, case: _Case) -> int:
        error_class = case.tries[-1].fate.error_class
        return sum(one.fate.error_class == error_class for one in case.tries)

    def _is_end(self, case: _Case) -> bool:
        last = case.tries[-1]
        fate = last.fate
        counted = len(case.tries) - sum(one.is_excused for one in case.tries)
        if fate.verdict != "transient" or counted >= self._most:
            return True
        if fate.max_tries is not None and self._alike(case) >= fate.max_tries:
            return True
        if self._to_come[last.row]:
            return False
        if self.ended_here(last.row):
            return True  # its time was over: see `conduct`
        # Caught by a stop between two attempts; only where its time may have been over could it be its end.
        span_s = (last.done_us - case.tries[0].at_us) / 1e6
        if span_s > PATIENCE_S and (fate.then_halts or fate.error_class in self._fallbacks):
            self.is_sure = False
        return False

    def _judge(self, case: _Case, end: Asked) -> None:
        """What the end of a row's tries says of the endpoint that ended them, and of the run."""
        fate, place = end.fate, (end.endpoint, end.model)
        if fate.verdict == "ok":
            self._succeeded.add(place)
            self._in_a_row[place] = 0
            self._answers = FIRST_ANSWERS
            return
        if fate.verdict == "halting" or fate.then_halts:
            self._in_a_row[place] += 1
            if place not in self._succeeded or self._in_a_row[place] >= HALTS_IN_A_ROW:
                self.halted.setdefault(place, (end.done_us, fate.error_class or ""))
            case.is_caught = place in self.halted
        else:
            self._in_a_row[place] = 0
        if self._goes_on(case, end):
            self.going_on.add(end.row)
            return
        if case.is_caught:
            self.caught.add(end.row)
        elif self._answers < FIRST_ANSWERS and fate.is_alike_evidence:
            self._count_first(end)

    def _goes_on(self, case: _Case, end: Asked) -> bool:
        """Whether somebody else is asked."""
        stopped_us = self._session.is_stopped_at_us
        if stopped_us is not None and end.done_us >= stopped_us:
            return False
        if case.is_caught and self.serve(end.model):
            return True
        fallback = self._fallbacks.get(end.fate.error_class or "")
        asked = (*case.models, end.model)
        return fallback is not None and fallback not in asked and self.serve(fallback)

    def _count_first(self, end: Asked) -> None:
        error_class = end.fate.error_class
        if self._first_class not in (None, error_class):
            self._answers = FIRST_ANSWERS
            return
        self._first_class = error_class
        self._answers += 1
        if self._answers == FIRST_ANSWERS:
            self.halted[None, None] = (end.done_us, "AllAlike")
