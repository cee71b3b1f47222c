"""One retry policy, in tenacity's terms: which attempts are worth another, after how long, and how often.

Fate is read from the error's class. Waits are exponential with full jitter, after the time that the endpoint
named, if it did: the first time it is kept exactly, but whoever came then and was refused again was told what
many others were, and would use up its attempts among them within a moment.
Attempts that met an outage do not count, nor does the time it took: the gate makes items wait there. The
total time is the item's to tell, on the run's clock, so that simulated nights keep the rule.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from random import uniform
from typing import Protocol

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    retry_if_result,
    stop_after_attempt,
    wait_random_exponential,
)

from pipeline.errors import AttemptError, FetchFailed, MediaUnreachable, TransientError
from pipeline.records import Attempt


class UnderWay(Protocol):
    """What the policy asks of the item it retries."""

    @property
    def excused(self) -> int:
        """Attempts that do not count: they met an outage."""

    @property
    def met_outage(self) -> bool:
        """Whether the last one did."""

    @property
    def trying_s(self) -> float:
        """Seconds since its first attempt was sent, outages left out."""

    @property
    def gives_up(self) -> bool:
        """Whether something else promises more than another attempt."""

    def tries_of(self, kind: type[AttemptError]) -> int:
        """How many of its attempts ended in just this error."""

    def goes_on(self) -> None:
        """Told before every wait: another attempt will follow."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Caps for one item: attempts in all, and seconds from the first attempt to the last one's start."""

    max_attempts: int = 5
    max_total_s: float = 1800.0
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0


Policies = Callable[[str], AsyncRetrying]
"""model → its policy"""

_KEPT_POLICIES = 256  # a manifest may name a model of its own in every row


def retrying(rules: RetryRules, sleep: Callable[[str, float], Awaitable[None]]) -> Policies:
    """The policy of each model, to be called as ``await policy(model)(send_once, case)``; it returns the
    last attempt. ``sleep`` is told for which model.

    It is shared by all items of a run: state that belongs to one item lives in its case. Its hooks must
    not suspend, because tenacity keeps what it iterates over in the shared object.
    """
    backoff = wait_random_exponential(multiplier=rules.first_wait_s, max=rules.max_wait_s)

    def wait(state: RetryCallState) -> float:
        named_s = _error(state).retry_after_s
        if named_s is not None:
            return named_s if state.attempt_number == 1 else named_s + backoff(state)
        case: UnderWay = state.args[0]
        # In an outage it is the gate that waits; all that is needed here is that not all wake at once.
        return uniform(0, rules.first_wait_s) if case.met_outage else backoff(state)

    def stop(state: RetryCallState) -> bool:
        error = _error(state)
        case: UnderWay = state.args[0]
        if case.gives_up:
            return True
        if state.attempt_number - case.excused >= rules.max_attempts:
            return True
        if error.max_tries is not None and case.tries_of(type(error)) >= error.max_tries:
            return True
        # A wait that would end past the cap is not begun.
        return case.trying_s + state.upcoming_sleep > rules.max_total_s

    @lru_cache(maxsize=_KEPT_POLICIES)
    def policy(model: str) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_result(_is_transient),
            wait=wait,
            stop=stop,
            sleep=partial(sleep, model),
            before_sleep=_on_record,
            retry_error_callback=_last_attempt,
        )

    return policy


def refetching(rules: RetryRules, sleep: Callable[[str, float], Awaitable[None]]) -> Policies:
    """The policy of fetching media for each model: as many tries, and the same waits. It raises what the last
    one raised; what is not passing, at once."""
    backoff = wait_random_exponential(multiplier=rules.first_wait_s, max=rules.max_wait_s)

    def wait(state: RetryCallState) -> float:
        assert state.outcome is not None
        error = state.outcome.exception()
        named_s = error.retry_after_s if isinstance(error, FetchFailed) else None
        return backoff(state) if named_s is None else named_s

    @lru_cache(maxsize=_KEPT_POLICIES)
    def policy(model: str) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(_is_passing),
            wait=wait,
            stop=stop_after_attempt(rules.max_attempts),
            sleep=partial(sleep, model),
            reraise=True,
        )

    return policy


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, MediaUnreachable) and error.is_passing


def _on_record(state: RetryCallState) -> None:
    case: UnderWay = state.args[0]
    case.goes_on()


def _is_transient(attempt: Attempt) -> bool:
    return isinstance(attempt.error, TransientError)


def _last_attempt(state: RetryCallState) -> Attempt:
    assert state.outcome is not None
    attempt: Attempt = state.outcome.result()
    return attempt


def _error(state: RetryCallState) -> TransientError:
    error = _last_attempt(state).error
    assert isinstance(error, TransientError)
    return error
