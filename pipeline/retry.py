"""One retry policy, in tenacity's terms: which attempts are worth another, after how long, and how often.

Fate is read from the error's class. Waits are exponential with full jitter, unless the endpoint named a time.
The total time is read from anyio's clock, not the machine's, so that simulated nights keep the rule.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random_exponential

from pipeline.errors import TransientError
from pipeline.records import Attempt

if TYPE_CHECKING:
    from pipeline.analyze import Case


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Caps for one item: attempts in all, and seconds from the first attempt to the last one's start."""

    max_attempts: int = 5
    max_total_s: float = 1800.0
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0


def retrying(rules: RetryRules, sleep: Callable[[float], Awaitable[None]]) -> AsyncRetrying:
    """The policy, to be called as ``await policy(send_once, case)``; it returns the last attempt.

    It is shared by all items of an endpoint: state that belongs to one item lives in its case.
    """
    backoff = wait_random_exponential(multiplier=rules.first_wait_s, max=rules.max_wait_s)

    def wait(state: RetryCallState) -> float:
        named_s = _error(state).retry_after_s
        return backoff(state) if named_s is None else named_s

    def stop(state: RetryCallState) -> bool:
        error = _error(state)
        case: Case = state.args[0]
        if state.attempt_number >= rules.max_attempts:
            return True
        if error.max_tries is not None and case.tries_of(type(error)) >= error.max_tries:
            return True
        # A wait that would end past the cap is not begun.
        waited_s = anyio.current_time() - case.started_s
        return waited_s + (error.retry_after_s or 0.0) > rules.max_total_s

    return AsyncRetrying(
        retry=retry_if_result(_is_transient),
        wait=wait,
        stop=stop,
        sleep=sleep,
        retry_error_callback=_last_attempt,
    )


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
