"""ONE item, end to end: start reading here.

The row's journey, ``request → gate → dialect.render → transport → dialect.parse → token counts → cost``, is a
ladder of four functions, each named for what it adds:

    analyze              an item becomes an outcome; a useless endpoint halts
      send_with_retry    attempts follow one another by policy
        send_once        one attempt: a slot, a clock, a bill
          exchange       the bytes: render, post, parse

An error of an endpoint never leaves ``analyze`` as an exception; a bug of ours does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
import anyio.to_thread

from pipeline.dialects import Dialect, media_seen
from pipeline.errors import AttemptError, ConnectionLost, Throttled
from pipeline.gate import Gate, GateClosed
from pipeline.halting import HaltRules
from pipeline.keys import request_key
from pipeline.media.delivery import deliverable_urls
from pipeline.pricing import PriceBook, Priced, price
from pipeline.records import Attempt, Item, NotAttempted, Outcome, Reply, Request
from pipeline.retry import Policies
from pipeline.transport import Transport

UNPRICED = Priced((), None, None, None)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Endpoint:
    """Where requests go, with everything one attempt needs. ``name`` stands in the store."""

    name: str
    dialect: Dialect
    transport: Transport
    gate: Gate
    prices: PriceBook
    retry: Policies
    rules: HaltRules = field(default_factory=HaltRules)
    dropped: list[NotAttempted] = field(default_factory=list)
    """Items that were under way when the run was cancelled, not waited for."""
    now: Callable[[], datetime] = utc_now


@dataclass(slots=True)
class Case:
    """One item under way: what outlives a single attempt."""

    item: Item
    endpoint: Endpoint
    started_s: float  # on anyio's clock: when the first attempt was sent
    attempts: list[Attempt] = field(default_factory=list)

    def tries_of(self, kind: type[AttemptError]) -> int:
        return sum(type(attempt.error) is kind for attempt in self.attempts)


async def analyze(item: Item, endpoint: Endpoint) -> Outcome | NotAttempted:
    """Have one item analysed: ok, failed, or not attempted where the run or the model stopped meanwhile."""
    case = Case(item, endpoint, anyio.current_time())
    model = item.request.model
    try:
        last = await send_with_retry(case)
    except GateClosed:
        return NotAttempted(item.id, item.row, tuple(case.attempts))
    except anyio.get_cancelled_exc_class():
        endpoint.dropped.append(NotAttempted(item.id, item.row, tuple(case.attempts)))
        raise
    error = last.error
    if error is None:
        endpoint.rules.ok(model)
    elif endpoint.rules.halts_model(model, error):
        endpoint.gate.halt(model, error)
        return NotAttempted(item.id, item.row, tuple(case.attempts))
    return Outcome(
        item,
        await key_of(item.request),
        tuple(case.attempts),
        error,
        media_seen(item.request, last.reply.usage if last.reply else None),
    )


async def send_with_retry(case: Case) -> Attempt:
    """The last attempt: the first that is not transient, or the one that used up the tries.

    Raises:
        GateClosed: the run or the model stopped before an attempt could go.
    """
    attempt: Attempt = await case.endpoint.retry(case.item.request.model)(send_once, case)
    return attempt


async def send_once(case: Case) -> Attempt:
    """One attempt, timed and charged; its error, if any, stands in it.

    The slot is taken per attempt: an item asleep in backoff must not keep a healthy one waiting.
    """
    endpoint, request = case.endpoint, case.item.request
    reply: Reply | None = None
    error: AttemptError | None = None
    status: int | None
    cancelled: BaseException | None = None
    async with endpoint.gate.slot(request.model):
        sent_at = endpoint.now()
        if not case.attempts:
            case.started_s = anyio.current_time()  # waiting for a slot, or out a hold, is no trying
        try:
            reply, request_id = await exchange(request, endpoint)
            status = 200
        except AttemptError as caught:
            error, reply = caught, caught.reply
            status, request_id = caught.http_status, caught.request_id
        except anyio.get_cancelled_exc_class() as caught:
            # Nobody waits for the answer any more, but the question was sent, and may have to be paid for.
            cancelled, error = caught, ConnectionLost("the run was stopped before the endpoint had answered")
            status, request_id = None, None
        done_at = endpoint.now()
    if isinstance(error, Throttled) and error.retry_after_s is not None:
        endpoint.gate.hold(error.retry_after_s)
    priced = charge(reply, request, endpoint, done_at)
    attempt = Attempt(
        number=len(case.attempts) + 1,
        sent_at=sent_at,
        done_at=done_at,
        state=error.state if error else "billed",
        endpoint=endpoint.name,
        model=request.model,
        dialect=endpoint.dialect.name,
        http_status=status,
        request_id=request_id,
        error=error,
        reply=reply,
        charges=priced.charges,
        cost=priced.cost,
        cost_low=priced.cost_low,
        cost_high=priced.cost_high,
    )
    case.attempts.append(attempt)
    if cancelled:
        raise cancelled
    return attempt


async def exchange(request: Request, endpoint: Endpoint) -> tuple[Reply, str | None]:
    """The reply and the endpoint's request id.

    Raises:
        AttemptError: whatever went wrong, in the terms of the error tree.
    """
    dialect = endpoint.dialect
    urls = await deliverable_urls(request.media)
    answer = await endpoint.transport.post(dialect.render(request, urls))
    if answer.status != 200:
        raise dialect.classify(answer.status, answer.headers, answer.body)
    request_id = answer.headers.get("x-oneapi-request-id") or answer.headers.get("x-request-id")
    try:
        return dialect.parse(answer.body, request), request_id
    except AttemptError as error:
        error.http_status = 200
        error.request_id = request_id
        raise


async def key_of(request: Request) -> str | None:
    """The request key; None where a local file went away meanwhile. Files are read off the event loop."""
    if not any(media.is_local for media in request.media):
        return request_key(request)
    key: str | None = None
    # Shielded, because the answer is here already, and paid for.
    with anyio.CancelScope(shield=True), suppress(OSError):
        key = await anyio.to_thread.run_sync(request_key, request)
    return key


def charge(reply: Reply | None, request: Request, endpoint: Endpoint, at: datetime) -> Priced:
    """Price what usage says, by the model that was asked for, else by the one that answered."""
    if reply is None or reply.usage is None:
        return UNPRICED
    rates = endpoint.prices.rates(request.model, at)
    if rates is None and reply.model is not None:
        rates = endpoint.prices.rates(reply.model, at)
    return price(reply.usage.counts, rates, [media.modality for media in request.media])
