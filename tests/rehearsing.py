"""A wire that answers by script and a clock that jumps: whole nights without socket or sleep."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import httpx
import orjson
from trio.testing import MockClock

from pipeline.dialects import DIALECTS, Dialect
from pipeline.endpoints import Endpoint, Endpoints
from pipeline.errors import MediabatchError
from pipeline.gate import Entry, Gate, Limits
from pipeline.keytable import KeyTable
from pipeline.pricing import Rates, UnitPrice
from pipeline.records import Attempt, BadRow, Duplicate, Ended, Item, Outcome, Request, Skipped
from pipeline.repeats import Repeats
from pipeline.retry import RetryRules
from pipeline.run import Sorter
from pipeline.store.rows import NO_TRIES, Tries
from pipeline.transport import Transport, WireSettings

START = datetime(2026, 3, 5, 22, 0, tzinfo=UTC)


def on_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test under trio, on a clock that jumps whenever everybody waits."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        clock = MockClock(autojump_threshold=0)
        anyio.run(functools.partial(test, *args, **kwargs), backend="trio", backend_options={"clock": clock})

    return run


def virtual_now() -> datetime:
    return START + timedelta(seconds=anyio.current_time())


@dataclass(frozen=True)
class Asked:
    """One request as the wire saw it. ``nth`` counts the requests with this prompt, from 1."""

    prompt: str
    model: str
    nth: int
    at_s: float
    headers: Mapping[str, str]
    body: bytes


Script = Callable[[Asked], Awaitable[httpx.Response]]


class ScriptedWire(httpx.AsyncBaseTransport):
    """Answers each request by its script, and remembers what it was asked."""

    def __init__(self, script: Script) -> None:
        self.asked: list[Asked] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._script = script
        self._times: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        prompt = body["messages"][0]["content"][0]["text"]
        self._times[prompt] += 1
        asked = Asked(
            prompt,
            body["model"],
            self._times[prompt],
            anyio.current_time(),
            dict(request.headers),
            request.content,
        )
        self.asked.append(asked)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._script(asked)
        finally:
            self.in_flight -= 1

    def times_of(self, prompt: str) -> list[float]:
        return [asked.at_s for asked in self.asked if asked.prompt == prompt]


def answer(text: str = "yes", *, tokens: tuple[int, int] = (10, 5), **more: Any) -> httpx.Response:
    """A 200 with ``tokens`` (prompt, completion), all of them text."""
    prompt, completion = tokens
    body = {
        "id": "c-1",
        "model": "a-model",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"text_tokens": prompt},
        },
        **more,
    }
    return httpx.Response(200, json=body)


def refusal(status: int, code: object = "", **headers: str) -> httpx.Response:
    error = {"message": "no", "type": "x", "param": None, "code": code}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": error}, headers=named)


def in_turn(*answers: Callable[[], httpx.Response]) -> Script:
    """The nth answer to the nth request with a prompt; the last one for ever. None of them takes time."""

    async def script(asked: Asked) -> httpx.Response:
        return answers[min(asked.nth, len(answers)) - 1]()

    return script


class FlatPrices:
    """USD 1 a million text tokens in, USD 2 out, for the models it knows."""

    def __init__(self, *models: str) -> None:
        self._models = models or ("a-model", "b-model")

    def rates(self, model: str, at: datetime) -> Rates | None:
        if model not in self._models:
            return None
        sheet = {
            ("text", "input", "fresh"): UnitPrice.of(Decimal(1)),
            ("text", "output", "fresh"): UnitPrice.of(Decimal(2)),
        }
        return Rates("USD", "flat", sheet)  # type: ignore[arg-type]


def an_endpoint(
    wire: ScriptedWire,
    host: str = "endpoint.example",
    *,
    limits: Limits = Limits(4),  # noqa: B008 # frozen
    dialect: Dialect = DIALECTS["newapi"],
    prices: Any = None,
    models: Iterable[str] = (),
    is_leased: bool = False,
) -> Endpoint:
    """One of several, known by its host."""
    base_url = f"http://{host}/v1"
    transport = Transport(WireSettings(f"{base_url}/chat/completions", {}), wire)
    gate = Gate(limits, host=host, clock=anyio.current_time, is_leased=is_leased)
    return Endpoint(base_url, dialect, transport, gate, prices or FlatPrices(), frozenset(models))


def several(
    *endpoints: Endpoint,
    retry: RetryRules = RetryRules(),  # noqa: B008 # frozen
    fallbacks: Mapping[str, str] | None = None,
) -> Endpoints:
    """The most preferred first."""
    return Endpoints(endpoints, retry, fallbacks=fallbacks, clock=anyio.current_time, now=virtual_now)


def endpoint(
    wire: ScriptedWire,
    *,
    slots: int | None = 4,
    retry: RetryRules = RetryRules(),  # noqa: B008 # frozen
    fallbacks: Mapping[str, str] | None = None,
    **more: Any,
) -> Endpoints:
    """One endpoint, alone; ``more`` as for `an_endpoint`."""
    return several(an_endpoint(wire, **{"limits": Limits(slots), **more}), retry=retry, fallbacks=fallbacks)


def gate_of(endpoints: Endpoints) -> Gate:
    """Of the only one."""
    (one,) = endpoints
    return one.gate


@asynccontextmanager
async def admitted(gate: Gate, one: Item) -> AsyncIterator[Entry]:
    """An attempt that is answered, unless its caller goes away."""
    entry = await gate.enter(one)
    try:
        yield entry
    except BaseException:
        gate.abandon(entry)
        raise
    gate.leave(entry, None)


def item(name: str, row: int = 1, model: str = "a-model") -> Item:
    """An item without media, known by its prompt."""
    return Item(name, row, Request(model, name, (), {"max_tokens": 9}))


def items(count: int, model: str = "a-model") -> list[Item]:
    return [item(f"i{row}", row, model) for row in range(1, count + 1)]


class RowsAtHand:
    """A feed without a thread, so that virtual time stands still while it is read."""

    def __init__(self, rows: Iterable[Item | BadRow]) -> None:
        self._rows = iter(rows)
        self.handed_out = 0

    async def next(self) -> Item | BadRow | None:
        row = next(self._rows, None)
        self.handed_out += row is not None
        return row


class Gathered:
    """A recorder that keeps everything in lists, on no disk."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.attempts: list[tuple[int, Attempt]] = []  # (row, attempt), in the order of their ends
        self.sent_rows: list[int] = []
        self.is_closed = False

    def idempotency_key(self, row: int) -> str:
        return f"r1-{row}"

    def tries_of(self, row: int) -> Tries:
        return NO_TRIES.and_then(self.attempts_of(row))

    async def sent(
        self, row: int, item_id: str, sent_at: int, endpoint: str, model: str, dialect: str
    ) -> int:
        self.sent_rows.append(row)
        return len(self.sent_rows)

    def tried(self, row: int, item_id: str, attempt: Attempt) -> None:
        self.attempts.append((row, attempt))

    async def put(self, ended: Ended) -> None:
        self.ended.append(ended)
        row, last = self._last(ended)
        if last is not None:
            self.attempts.append((row, last))

    async def commit_groups(self, report: Callable[[MediabatchError], None]) -> None:
        await anyio.sleep_forever()

    async def seal_parts(self, report: Callable[[MediabatchError], None]) -> None:
        await anyio.sleep_forever()

    async def close(self) -> None:
        self.is_closed = True

    def attempts_of(self, row: int) -> list[Attempt]:
        return [attempt for of_row, attempt in self.attempts if of_row == row]

    @staticmethod
    def _last(ended: Ended) -> tuple[int, Attempt | None]:
        if isinstance(ended, Outcome):
            return ended.item.row, None if ended.is_on_record else ended.last
        return ended.row, None if isinstance(ended, BadRow | Skipped | Duplicate) else ended.last

    @property
    def ids(self) -> list[str]:
        return [ended.item.id if isinstance(ended, Outcome) else ended.id for ended in self.ended]


def no_repeats(limit: int | None = None) -> Sorter:
    """Nothing was asked before."""
    return Sorter(Repeats(KeyTable(), [], KeyTable()), limit)


async def inline(call: Callable[..., Any], *arguments: Any) -> Any:
    """A blocking call on the loop itself, so that virtual time stands still meanwhile."""
    return call(*arguments)


def gaps(times: list[float]) -> list[float]:
    return [later - sooner for sooner, later in itertools.pairwise(times)]
