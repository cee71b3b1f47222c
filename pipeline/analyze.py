"""ONE item, end to end: start reading here.

The row's journey, ``request → gate → ledger(sent) → dialect.render → transport → dialect.parse → token
counts → cost → ledger(done)``, is a ladder of functions, each named for what it adds:

    analyze                an item becomes an outcome; a useless endpoint halts, and the next is asked
      send_with_remedies   where a schema is asked for and not kept to, or refused: another way, once each
        send_with_retry    attempts follow one another by policy, and each is on record before the next
          send_with_media  what goes inline is fetched before, and let go of after
            send_within_budget   only where it fits
              send_once    one attempt: admitted, a line in the ledger, a clock, a bill
                exchange   the bytes: render, post, parse, and hold against the schema

An error of an endpoint never leaves ``analyze`` as an exception; a disk that takes no more writes does, and
so does a bug of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pipeline.dialects import media_seen
from pipeline.dialects.usage import cost_in_headers
from pipeline.dialects.wire import said
from pipeline.endpoints import Endpoint, Endpoints
from pipeline.errors import (
    AttemptError,
    ConnectFailed,
    MediaUnreachable,
    RowError,
    Throttled,
    TransientError,
    WaitTooLong,
)
from pipeline.gate import NOBODY_ANSWERED, Entry, GateClosed
from pipeline.media.delivery import Fetched
from pipeline.media.splicing import spliced
from pipeline.pricing import Priced, price
from pipeline.recorder import Recorder
from pipeline.records import (
    Attempt,
    BadRow,
    Item,
    Media,
    NotAttempted,
    Outcome,
    Reply,
    Request,
    SchemaIn,
    Seen,
)
from pipeline.store.rows import micros
from pipeline.typed.remedies import as_learned, hold_against_schema, remedy

if TYPE_CHECKING:
    from pipeline.media.inlining import Inliner
    from pipeline.media.reach import Detour, Reach
    from pipeline.media.spool import Held

UNPRICED = Priced((), None, None, None)


@dataclass(slots=True)
class Case:
    """One item under way: what outlives a single attempt. ``item`` asks another model after a fallback."""

    item: Item
    endpoints: Endpoints
    recorder: Recorder
    attempts: list[Attempt] = field(default_factory=list)
    endpoint: Endpoint | None = None  # of the last attempt
    models: list[str] = field(default_factory=list)  # asked before this one
    excused: int = 0
    met_outage: bool = False
    said_in: SchemaIn = "format"  # how the last attempt said its schema
    fetched: Fetched = field(default_factory=dict)  # while an attempt is under way
    by_url: tuple[Media, ...] = ()  # of the last attempt, where it matters (`auto`)
    detour: Detour | None = None
    _first: int = 0  # of the attempts at this model and endpoint
    _suspect: int = 0  # of the excused, those that the item itself may have caused
    _started_s: float = 0.0
    _out_before_s: float = 0.0

    @property
    def trying_s(self) -> float:
        """Seconds since the first attempt was sent, outages left out."""
        out_s = self.endpoints.out_s() - self._out_before_s
        return self.endpoints.clock() - self._started_s - out_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reach = self.endpoints.delivery.reach
        if reach is not None and self.detour is not None:
            reach.end(self.detour)

    @property
    def idempotency_key(self) -> str:
        """One for all attempts at the item; another model, a remedy, or a detour is another question, to
        which the first one's answer would be none."""
        key = self.recorder.idempotency_key(self.item.row)
        if self.models:
            key = f"{key}-{blake2b(self.item.request.model.encode(), digest_size=4).hexdigest()}"
        if self.detour is not None:
            key = f"{key}-inline"
        if self.item.request.objection is not None:
            return f"{key}-repair"
        return key if self.item.request.schema_in == "format" else f"{key}-words"

    @property
    def gives_up(self) -> bool:
        reach = self.endpoints.delivery.reach
        return reach is not None and bool(self.by_url) and reach.gives_up(self.attempts[-1].error)

    def tries_of(self, kind: type[AttemptError]) -> int:
        return sum(type(attempt.error) is kind for attempt in self.attempts[self._first :])

    def admitted(self, entry: Entry) -> None:
        """Waiting to be admitted is no trying: the clock starts here."""
        if len(self.attempts) == self._first:
            self._started_s = entry.sent_s
            self._out_before_s = self.endpoints.out_s()

    def ended(self, attempt: Attempt, endpoint: Endpoint) -> None:
        self.attempts.append(attempt)
        self.endpoint = endpoint
        self.met_outage = isinstance(attempt.error, NOBODY_ANSWERED) and endpoint.gate.is_out
        if not self.met_outage:
            return
        # Items may themselves be what makes an endpoint fall over, the last of a run above all: not for ever.
        # None makes it refuse a connection.
        most = self.endpoints.rules.max_attempts * (1 if self.endpoints.is_work_over else 4)
        if isinstance(attempt.error, ConnectFailed):
            self.excused += 1
        elif self._suspect < most:
            self._suspect += 1
            self.excused += 1

    def goes_on(self) -> None:
        """Another attempt will follow: put the last one on record."""
        self.recorder.tried(self.item.row, self.item.id, self.attempts[-1])

    def begins_anew(self, model: str) -> None:
        """Ask this model, with all its tries, as far as the last attempt is on record."""
        if model != self.item.request.model:
            self.models.append(self.item.request.model)
            self.asks(replace(self.item.request, model=model, objection=None, schema_in="format"))
        else:
            self._forget_tries()

    def asks(self, request: Request) -> None:
        """Another question about the item, with all its tries."""
        self.item = replace(self.item, request=request)
        self._forget_tries()

    def _forget_tries(self) -> None:
        self._first = len(self.attempts)
        self.excused = self._suspect = 0


async def analyze(
    item: Item, request_key: str | None, endpoints: Endpoints, recorder: Recorder
) -> Outcome | NotAttempted | BadRow:
    """Have one item analysed: ok, failed, or not attempted where the run or the model stopped meanwhile.

    Raises:
        StoreUnwritable, LedgerDamaged: the attempt could not be put on record, so it did not go.
    """
    with Case(item, endpoints, recorder) as case:
        while True:
            last: Attempt | None = None
            error: object
            try:
                last = await send_with_remedies(case)
                error = last.error
            except GateClosed as closed:
                error = closed.reason
            except RowError as never:
                return _answer_before(case, request_key) or BadRow(item.id, item.row, never)
            except MediaUnreachable as never:
                return _answer_before(case, request_key) or BadRow(item.id, item.row, never, item.request)
            caught = last is None or _is_caught(case, last)
            if last is not None and not caught and _goes_inline(case, last):
                continue
            model = _next_model(case, error, caught)
            if model is None:
                break
            if last is not None:
                case.goes_on()
            case.begins_anew(model)
        if (last is None or caught or last.error) and (answer := _answer_before(case, request_key)):
            if last is not None:
                case.goes_on()
            return answer
        if last is None or caught:
            return NotAttempted(item.id, item.row, last)
        return Outcome(case.item, request_key, last, last.error, _seen(case.item, last))


def _seen(item: Item, last: Attempt) -> tuple[Seen, ...]:
    return media_seen(item.request, last.reply.usage if last.reply else None)


def _goes_inline(case: Case, last: Attempt) -> bool:
    """Whether the item is asked once more with all its media inlined (`auto`): the endpoint could not get at
    them, or never looked."""
    reach = case.endpoints.delivery.reach
    if reach is None:
        return False
    if case.detour is not None:
        reach.learn(case.detour, last)
        return False
    case.detour = reach.detour(case.item, case.by_url, last)
    if case.detour is None:
        return False
    case.goes_on()
    case.asks(replace(case.item.request, objection=None))
    return True


def _answer_before(case: Case, request_key: str | None) -> Outcome | None:
    """The answer that was paid for before the detour; it did not see everything, and is better than none."""
    detour = case.detour
    if detour is None or not detour.has_answer:
        return None
    seen = _seen(detour.item, detour.last)
    return Outcome(detour.item, request_key, detour.last, None, seen, is_on_record=True)


def _is_caught(case: Case, last: Attempt) -> bool:
    """Whether this answer halts the model there, so that it is no verdict on the item."""
    endpoint, model = case.endpoint, last.model
    assert endpoint is not None
    if last.error is None:
        endpoint.rules.ok(model)
        return False
    if not endpoint.rules.halts_model(model, last.error):
        return False
    case.endpoints.halt(endpoint, model, last.error)
    return True


def _next_model(case: Case, error: object, caught: bool) -> str | None:
    """The model to go on with: the same where another endpoint is left for it, the fallback for this error
    where there is one that was not asked yet; else None."""
    if error is None:
        return None
    model = case.item.request.model
    if caught and case.endpoints.serve(model):
        return model
    fallback = case.endpoints.fallbacks.get(type(error).__name__)
    if fallback is None or fallback == model or fallback in case.models or not case.endpoints.serve(fallback):
        return None
    return fallback


async def send_with_remedies(case: Case) -> Attempt:
    """The last attempt; where it failed by the schema, and something else can be said, that is said first.

    Raises:
        GateClosed: the run or the model stopped before an attempt could go.
        RowError: it could never be admitted.
    """
    attempt = await send_with_retry(case)
    while attempt.error is not None and case.endpoint is not None:
        request = remedy(case.item.request, case.said_in, attempt.error, case.endpoint.schema_in)
        if request is None:
            break
        case.goes_on()
        case.asks(request)
        attempt = await send_with_retry(case)
    return attempt


async def send_with_retry(case: Case) -> Attempt:
    """The last attempt: the first that is not transient, or the one that used up the tries.

    Raises:
        GateClosed: the run or the model stopped before an attempt could go.
        RowError: it could never be admitted.
        MediaUnreachable: a medium that goes inline cannot be had.
    """
    first = await send_with_media(case)
    if not isinstance(first.error, TransientError) or case.gives_up:
        return first
    # Only now: tenacity's bookkeeping takes longer than parsing an answer, and most answers need none of it.
    ahead = [first]

    async def send_again(case: Case) -> Attempt:
        return ahead.pop() if ahead else await send_with_media(case)

    attempt: Attempt = await case.endpoints.retry(case.item.request.model)(send_again, case)
    return attempt


async def send_with_media(case: Case) -> Attempt:
    """One attempt, with the media at hand that go inline.

    They are fetched before it asks for a slot, so that a slow media host holds up no endpoint; and let go of
    when it has ended, so that an item asleep in backoff holds none of them.

    Raises:
        MediaUnreachable: one of them cannot be had, so that nothing was sent.
        GateClosed, RowError: as below.
    """
    delivery, request = case.endpoints.delivery, case.item.request
    if delivery.inliner is None:
        return await send_within_budget(case)
    if delivery.reach is not None:
        await learn_from_others(case, delivery.reach)
    media = await delivery.to_fetch(request, everything=case.detour is not None)
    case.by_url = tuple([one for one in request.media if not one.is_inline and one not in media])
    if not media:
        return await send_within_budget(case)
    held = await fetch_with_retry(case, delivery.inliner, media)
    try:
        case.fetched = dict(zip(media, held.blobs, strict=True))
        attempt = await send_within_budget(case)
        if attempt.error is None:
            delivery.count_saved(request, held.blobs)
        return attempt
    finally:
        case.fetched = {}
        held.let_go()


async def learn_from_others(case: Case, reach: Reach) -> None:
    """Not to pay many times over for what one item is about to tell. That one waits for nobody."""
    request = case.item.request
    if case.detour is not None and case.detour.has_begun:
        return
    while (other := reach.about(request.media)) is not None:
        with case.endpoints.elsewhere(request.model):
            await other.over.wait()
    if case.detour is not None:
        reach.begin(case.detour)


async def fetch_with_retry(case: Case, inliner: Inliner, media: Sequence[Media]) -> Held:
    """The media in files; fetched again, by the policy of attempts, where their host failed just now."""
    request = case.item.request

    async def fetch_once() -> Held:
        with case.endpoints.elsewhere(request.model):
            return await inliner.fetch(request, media)
        raise AssertionError("called off, and nothing is closed")

    held: Held = await case.endpoints.refetch(request.model)(fetch_once)
    return held


async def send_within_budget(case: Case) -> Attempt:
    """One attempt; where there is a budget, only once it fits.

    Raises:
        GateClosed: the budget is spent, or the run or the model stopped.
        RowError: no budget could be held with it, or it could never be admitted.
    """
    budget = case.endpoints.budget
    if budget is None:
        return await send_once(case)
    hold = await budget.hold(case.item)
    try:
        attempt = await send_once(case)
    except BaseException as error:
        budget.settle(
            hold, "not_billed" if isinstance(error, (GateClosed, RowError)) else "possibly_billed", None
        )
        raise
    usage = attempt.reply.usage if attempt.reply else None
    budget.settle(hold, attempt.state, attempt.cost, usage)
    return attempt


async def send_once(case: Case) -> Attempt:
    """One attempt, timed and charged; its error, if any, stands in it.

    It is admitted per attempt: an item asleep in backoff must not keep a healthy one waiting. It is on
    record before it goes, so that whatever happens to this process, it is known to have gone.
    """
    item, request = case.item, case.item.request
    now = case.endpoints.now
    number = case.recorder.tries_of(item.row).attempts + 1
    endpoint, entry = await case.endpoints.enter(item, case.endpoint if case.attempts else None)
    reply: Reply | None = None
    error: AttemptError | None = None
    status: int | None = 200
    headers: Mapping[str, str] | None = None
    try:
        sent_at = now()
        ticket = await case.recorder.sent(
            item.row, item.id, micros(sent_at), endpoint.name, request.model, endpoint.dialect.name
        )
        case.admitted(entry)
        try:
            reply, request_id, headers = await exchange(case, endpoint)
        except AttemptError as caught:
            error, reply = caught, caught.reply
            status, request_id, headers = caught.http_status, caught.request_id, caught.headers
            if (
                isinstance(error, Throttled)
                and (error.retry_after_s or 0.0) > case.endpoints.rules.max_total_s
            ):
                error = WaitTooLong(
                    f"{error}; a run waits {case.endpoints.rules.max_total_s:,.0f} s at most",
                    http_status=status,
                    request_id=request_id,
                )
                error.said = caught.said
        done_at = now()
    except BaseException:
        endpoint.gate.abandon(entry)
        raise
    usage = reply.usage if reply else None
    case.endpoints.leave(endpoint, entry, error, usage.total_tokens if usage else None, headers)
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
    case.ended(attempt, endpoint)
    return attempt


async def exchange(case: Case, endpoint: Endpoint) -> tuple[Reply, str | None, Mapping[str, str]]:
    """The reply, the endpoint's request id, and the answer's headers.

    Raises:
        AttemptError: whatever went wrong, in the terms of the error tree.
    """
    request, dialect = as_learned(case.item.request, endpoint.schema_in), endpoint.dialect
    case.said_in = request.schema_in
    urls, files = await case.endpoints.delivery.deliver(request, case.fetched)
    rendered = dialect.render(request, urls)
    body = await spliced(rendered, files) if files else rendered
    answer = await endpoint.transport.post(body, case.idempotency_key)
    if answer.status != 200:
        error = dialect.classify(answer.status, answer.headers, answer.body)
        error.headers, error.said = answer.headers, said(answer.body)
        raise error
    request_id = answer.headers.get("x-oneapi-request-id") or answer.headers.get("x-request-id")
    try:
        reply = dialect.parse(answer.body, request)
        if reply.reported_cost is None and (told := cost_in_headers(answer.headers)) is not None:
            reply = replace(reply, reported_cost=told)
        hold_against_schema(reply, request, endpoint.schema_in)
        return reply, request_id, answer.headers
    except AttemptError as error:
        error.http_status = 200
        error.request_id = request_id
        error.headers, error.said = answer.headers, said(answer.body)
        raise


def charge(reply: Reply | None, request: Request, endpoint: Endpoint, at: datetime) -> Priced:
    """Price what usage says, by the model that was asked for, else by the one that answered; where there is
    none, a fee at most."""
    if reply is None:
        return UNPRICED
    rates = endpoint.prices.rates(request.model, at)
    if rates is None and reply.model is not None:
        rates = endpoint.prices.rates(reply.model, at)
    counts = reply.usage.counts if reply.usage else ()
    return price(counts, rates, [media.modality for media in request.media])
