"""ONE item, end to end: start reading here.

The row's journey, ``request → gate → ledger(sent) → dialect.render → transport → dialect.parse → token
counts → cost → ledger(done)``, is a ladder of four functions, each named for what it adds:

    analyze              an item becomes an outcome; a useless endpoint halts
      send_with_retry    attempts follow one another by policy, and each is on record before the next
        send_once        one attempt: a slot, a line in the ledger, a clock, a bill
          exchange       the bytes: render, post, parse

An error of an endpoint never leaves ``analyze`` as an exception; a disk that takes no more writes does, and
so does a bug of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from pipeline.dialects import Dialect, media_seen
from pipeline.errors import AttemptError, Throttled, TransientError, WaitTooLong
from pipeline.gate import Gate, GateClosed
from pipeline.halting import HaltRules
from pipeline.media.delivery import deliverable_urls
from pipeline.pricing import PriceBook, Priced, price
from pipeline.recorder import Recorder
from pipeline.records import Attempt, Item, NotAttempted, Outcome, Reply, Request
from pipeline.retry import Policies, RetryRules
from pipeline.store.rows import micros
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
    patience_s: float = RetryRules().max_total_s
    now: Callable[[], datetime] = utc_now


@dataclass(slots=True)
class Case:
    """One item under way: what outlives a single attempt."""

    item: Item
    endpoint: Endpoint
    recorder: Recorder
    started_s: float  # on anyio's clock: when the first attempt was sent
    attempts: list[Attempt] = field(default_factory=list)

    def tries_of(self, kind: type[AttemptError]) -> int:
        return sum(type(attempt.error) is kind for attempt in self.attempts)

    def goes_on(self) -> None:
        """Another attempt will follow: put the last one on record."""
        self.recorder.tried(self.item.row, self.item.id, self.attempts[-1])


async def analyze(
    item: Item, request_key: str | None, endpoint: Endpoint, recorder: Recorder
) -> Outcome | NotAttempted:
    """Have one item analysed: ok, failed, or not attempted where the run or the model stopped meanwhile.

    Raises:
        StoreUnwritable, LedgerDamaged: the attempt could not be put on record, so it did not go.
    """
    case = Case(item, endpoint, recorder, anyio.current_time())
    model = item.request.model
    try:
        last = await send_with_retry(case)
    except GateClosed:
        return NotAttempted(item.id, item.row)
    error = last.error
    if error is None:
        endpoint.rules.ok(model)
    elif endpoint.rules.halts_model(model, error):
        endpoint.gate.halt(model, error)
        return NotAttempted(item.id, item.row, last)
    seen = media_seen(item.request, last.reply.usage if last.reply else None)
    return Outcome(item, request_key, last, error, seen)


async def send_with_retry(case: Case) -> Attempt:
    """The last attempt: the first that is not transient, or the one that used up the tries.

    Raises:
        GateClosed: the run or the model stopped before an attempt could go.
    """
    first = await send_once(case)
    if not isinstance(first.error, TransientError):
        return first
    # Only now: tenacity's bookkeeping takes longer than parsing an answer, and most answers need none of it.
    ahead = [first]

    async def send_again(case: Case) -> Attempt:
        return ahead.pop() if ahead else await send_once(case)

    attempt: Attempt = await case.endpoint.retry(case.item.request.model)(send_again, case)
    return attempt


async def send_once(case: Case) -> Attempt:
    """One attempt, timed and charged; its error, if any, stands in it.

    The slot is taken per attempt: an item asleep in backoff must not keep a healthy one waiting. It is on
    record before it goes, so that whatever happens to this process, it is known to have gone.
    """
    endpoint, item, request = case.endpoint, case.item, case.item.request
    number = case.recorder.tries_of(item.row).attempts + 1
    reply: Reply | None = None
    error: AttemptError | None = None
    status: int | None
    async with endpoint.gate.slot(request.model):
        sent_at = endpoint.now()
        ticket = await case.recorder.sent(
            item.row, item.id, micros(sent_at), endpoint.name, request.model, endpoint.dialect.name
        )
        if not case.attempts:
            case.started_s = anyio.current_time()  # waiting for a slot, or out a hold, is no trying
        try:
            reply, request_id = await exchange(case)
            status = 200
        except AttemptError as caught:
            error, reply = caught, caught.reply
            status, request_id = caught.http_status, caught.request_id
        done_at = endpoint.now()
    named_s = error.retry_after_s if isinstance(error, Throttled) else None
    if named_s is not None and named_s <= endpoint.patience_s:
        endpoint.gate.hold(named_s)
    elif named_s is not None:
        error = WaitTooLong(
            f"{error}; a run waits {endpoint.patience_s:,.0f} s at most",
            http_status=status,
            request_id=request_id,
        )
    priced = charge(reply, request, endpoint, done_at)
    attempt = Attempt(
        ticket=ticket,
        number=number,
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
    return attempt


async def exchange(case: Case) -> tuple[Reply, str | None]:
    """The reply and the endpoint's request id.

    Raises:
        AttemptError: whatever went wrong, in the terms of the error tree.
    """
    request, dialect = case.item.request, case.endpoint.dialect
    urls = await deliverable_urls(request.media)
    idempotency_key = case.recorder.idempotency_key(case.item.row)
    answer = await case.endpoint.transport.post(dialect.render(request, urls), idempotency_key)
    if answer.status != 200:
        raise dialect.classify(answer.status, answer.headers, answer.body)
    request_id = answer.headers.get("x-oneapi-request-id") or answer.headers.get("x-request-id")
    try:
        return dialect.parse(answer.body, request), request_id
    except AttemptError as error:
        error.http_status = 200
        error.request_id = request_id
        raise


def charge(reply: Reply | None, request: Request, endpoint: Endpoint, at: datetime) -> Priced:
    """Price what usage says, by the model that was asked for, else by the one that answered."""
    if reply is None or reply.usage is None:
        return UNPRICED
    rates = endpoint.prices.rates(request.model, at)
    if rates is None and reply.model is not None:
        rates = endpoint.prices.rates(reply.model, at)
    return price(reply.usage.counts, rates, [media.modality for media in request.media])
