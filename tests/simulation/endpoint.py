"""The simulated endpoints: they keep an account of what they served, and fail by the weather of the night.

A wire to one stands where pyreqwest's httpx transport stands, and raises what that one raises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from math import ceil
from random import Random
from typing import Any

import httpx
import orjson
import trio
from pyreqwest.exceptions import ConnectError as RustConnectError

from tests.simulation.bills import Bill, make_bill
from tests.simulation.fates import FATES, Fate
from tests.simulation.limits import Doorkeeper, ServerLimits

COMPLETION_PATH = "/v1/chat/completions"


@dataclass(slots=True)
class Asked:
    """One request as it arrived, and what became of it.

    ``at_us`` and ``done_us`` are microseconds since 1970, on the night's clock. ``is_delivered``: the whole
    answer, or the wire's failure, was handed to the caller; ``order`` counts these.
    """

    number: int
    session: int
    endpoint: str  # its name
    key: str
    model: str
    prompt: str
    at_us: int
    run_id: str = ""
    row: int = 0
    fate: Fate = FATES["ok"]
    is_billed: bool = False
    bill: Bill | None = None
    hold_s: float | None = None
    is_over_limit: bool = False
    done_us: int = 0
    order: int = 0
    is_delivered: bool = False
    # As the gate had it, seconds of the session: see `gatewatch`.
    admitted_s: float = 0.0
    left_s: float | None = None
    set_aside: float = 0.0  # tokens
    met_outage: bool = False  # nobody answered, in an outage
    is_last_work: bool = False  # no row is left but those under way
    is_excused: bool = False  # by the oracle: it does not count
    out_for_s: float = 0.0  # the outage, so far

    @property
    def reply_id(self) -> str:
        return f"c-{self.number}"

    @property
    def request_id(self) -> str:
        return f"r-{self.number}"

    @property
    def text(self) -> str:
        return f"answer {self.number}"


@dataclass(frozen=True, slots=True)
class Episode:
    """A while in which most requests meet the same fate. Seconds of the session."""

    begins_s: float
    ends_s: float
    fate: str
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Weather:
    """How an endpoint behaves in one session. ``passing``: shares of requests, by fate."""

    latency_s: tuple[float, float] = (0.2, 2.0)
    slow_share: float = 0.0
    passing: tuple[tuple[str, float], ...] = ()
    episodes: tuple[Episode, ...] = ()
    for_good: tuple[float, str] | None = None  # from this second on, everything ends so


@dataclass(frozen=True, slots=True)
class Place:
    """One endpoint in one session: what a person says of it, and what it is like."""

    weather: Weather
    slots: int | None  # None: adaptive
    name: str = "https://endpoint.example/v1"
    models: tuple[str, ...] = ()
    rpm: int | None = None
    tpm: int | None = None
    limits: ServerLimits | None = None


@dataclass(slots=True)
class Account:
    """What all endpoints and sessions of a simulated night share: who asked what, and what is odd about some
    rows. ``odd_of``: only when their own model is asked, where it is told."""

    oddities: dict[str, str] = field(default_factory=dict)  # prompt → fate
    odd_of: dict[str, str] = field(default_factory=dict)  # prompt → model
    unknown_model: str = ""
    asked: list[Asked] = field(default_factory=list)
    deliveries: int = 0


class Wire(httpx.AsyncBaseTransport):
    """The way to one endpoint in one session. ``on_arrival`` may object to a request."""

    def __init__(
        self,
        account: Account,
        session: int,
        place: Place,
        rng: Random,
        now_us: Callable[[], int],
        timeout_s: float,
        on_arrival: Callable[[Asked], None],
    ) -> None:
        self.place = place
        self.in_flight = 0
        self._account = account
        self._session = session
        self._weather = place.weather
        self._doorkeeper = Doorkeeper(place.limits) if place.limits else None
        self._rng = rng
        self._now_us = now_us
        self._timeout_s = timeout_s
        self._on_arrival = on_arrival

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        content = body["messages"][0]["content"]
        asked = Asked(
            number=len(self._account.asked) + 1,
            session=self._session,
            endpoint=self.place.name,
            key=request.headers["Idempotency-Key"],
            model=body["model"],
            prompt=content[0]["text"],
            at_us=self._now_us(),
        )
        self._account.asked.append(asked)
        self.in_flight += 1
        try:
            self._on_arrival(asked)
            modalities = tuple(part["type"].removesuffix("_url") for part in content[1:])
            return await self._play(asked, modalities)
        finally:
            self.in_flight -= 1

    async def _play(self, asked: Asked, modalities: tuple[str, ...]) -> httpx.Response:
        rng, weather = self._rng, self._weather
        fate = asked.fate = self._let_in(asked, FATES[self._fate_of(asked)])
        asked.is_billed = rng.random() < 0.5 if fate.is_billed is None else fate.is_billed
        if asked.is_billed:
            asked.bill = make_bill(rng, asked.model, modalities)
        if self._doorkeeper and fate.status not in (None, 429):
            self._doorkeeper.served(
                asked.bill.usage["total_tokens"] if asked.bill else 0, trio.current_time()
            )
        if fate.name == "silence":
            seconds = self._timeout_s
        elif fate.name == "refused":
            seconds = rng.uniform(0.001, 0.01)
        else:
            seconds = rng.uniform(*weather.latency_s)
            if rng.random() < weather.slow_share:
                seconds = rng.uniform(0.1, 0.95) * self._timeout_s
        await trio.sleep(seconds)
        asked.done_us = self._now_us()
        asked.is_delivered = True
        asked.order = self._account.deliveries = self._account.deliveries + 1
        answer = self._answer(asked, fate)
        if self._doorkeeper:
            answer.headers.update(self._doorkeeper.headers(trio.current_time()))
        return answer

    def _let_in(self, asked: Asked, fate: Fate) -> Fate:
        """The fate, unless a limit is reached."""
        if self._doorkeeper is None or fate.status is None:
            return fate
        wait_s = self._doorkeeper.wait_s(trio.current_time())
        if wait_s is None:
            return fate
        asked.is_over_limit = True
        if self._doorkeeper.names_time:
            asked.hold_s = float(ceil(wait_s))
        return FATES["throttled_until" if self._doorkeeper.names_time else "throttled"]

    def _fate_of(self, asked: Asked) -> str:
        rng, weather, now_s = self._rng, self._weather, trio.current_time()
        if weather.for_good is not None and now_s >= weather.for_good[0]:
            return weather.for_good[1]
        for episode in weather.episodes:
            if episode.begins_s <= now_s < episode.ends_s and rng.random() < episode.share:
                return episode.fate
        if asked.model == self._account.unknown_model:
            return "unknown_model"
        chance = rng.random()
        for fate, share in weather.passing:
            chance -= share
            if chance < 0:
                return fate
        if self._account.odd_of.get(asked.prompt, asked.model) != asked.model:
            return "ok"
        return self._account.oddities.get(asked.prompt, "ok")

    def _answer(self, asked: Asked, fate: Fate) -> httpx.Response:
        """The answer.

        Raises:
            httpx.TransportError: what pyreqwest's transport raises, its cause included.
        """
        rng = self._rng
        match fate.name:
            case "refused":
                error = httpx.ConnectError("error sending request")
                told = "client error (Connect)", "tcp connect error", "Connection refused (os error 111)"
                raise error from RustConnectError("error", {"causes": [{"message": one} for one in told]})
            case "reset":
                # After the whole body was read, it comes as this; or the server hung up without an answer.
                kind = rng.choice((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError))
                raise kind("connection closed before message completed")
            case "silence":
                raise rng.choice((httpx.ReadTimeout, httpx.ConnectTimeout))("operation timed out")
            case "throttled" | "throttled_until" | "throttled_for_hours":
                return self._throttled(asked)
            case "broken_off":
                return httpx.Response(200, stream=_BrokenOff(_completion(asked)[:40]))
            case "truncated":
                whole = _completion(asked)
                return httpx.Response(200, content=whole[: rng.randrange(0, len(whole) - 2)])
            case "page":
                return httpx.Response(200, content=b"<html><head><title>hello</title></head></html>")
            case "event_stream":
                return httpx.Response(200, content=b'data: {"choices": []}\n\ndata: [DONE]\n\n')
            case "outage":
                status = rng.choice((500, 502, 503, 504, 520, 524))
                if rng.random() < 0.5:
                    return httpx.Response(status, content=b"<html><title>Bad gateway</title></html>")
                return _refusal(status, rng.choice(("", "bad_response_status_code", None)), asked=asked)
        if fate.status == 200:
            headers = {"X-Oneapi-Request-Id": asked.request_id}
            return httpx.Response(200, stream=httpx.ByteStream(_completion(asked)), headers=headers)
        return _refusal(fate.status or 0, *_WORDS[fate.name], asked=asked)

    def _throttled(self, asked: Asked) -> httpx.Response:
        rng = self._rng
        headers: dict[str, str] = {}
        if asked.fate.name != "throttled":
            hours = asked.fate.name == "throttled_for_hours"
            wait_s = rng.randint(7200, 10_000) if hours else rng.choice((0, 1, rng.randint(2, 90)))
            if asked.hold_s is not None:
                wait_s = round(asked.hold_s)
            spelling = rng.randrange(3)
            if spelling == 0:
                headers["Retry-After"] = str(wait_s)
            elif spelling == 1:
                headers["retry-after-ms"] = str(wait_s * 1000)
            else:
                headers["Date"] = "Thu, 05 Mar 2026 00:00:00 GMT"
                clock = f"{wait_s // 3600:02d}:{wait_s // 60 % 60:02d}:{wait_s % 60:02d}"
                headers["Retry-After"] = f"Thu, 05 Mar 2026 {clock} GMT"
            if not hours:
                asked.hold_s = float(wait_s)
        if rng.random() < 0.5:
            return httpx.Response(429, headers=headers)
        return _refusal(429, rng.choice(("", 1302, "rate_limit_exceeded")), asked=asked, headers=headers)


_WORDS: dict[str, tuple[object, str]] = {
    "conflict": ("", "try again"),
    "media_host_failed": ("convert_request_failed", "get file: context deadline exceeded"),
    "channel_key": ("invalid_api_key", "Incorrect API key provided"),
    "reserved": ("insufficient_user_quota", "not enough"),
    "no_channel": ("model_not_found", "no available channel"),
    "bad_input": ("INVALID_ARGUMENT", "no"),
    "content": ("prompt_blocked", "no"),
    "unreadable": ("convert_request_failed", "download failed, status code: 404"),
    "too_large": ("", "too large"),
    "not_served": ("not_for_you", "no"),
    "key": ("", "invalid token"),
    "credit": ("", "pay first"),
    "quota": ("insufficient_quota", "pay first"),
    "denied": ("access_denied", "not from there"),
    "unknown_model": ("model_not_found", "no such model"),
    "wrong_address": ("", "Invalid URL"),
    "no_price": ("model_price_error", "no price"),
}


def _refusal(
    status: int, code: object, message: str = "no", *, asked: Asked, headers: dict[str, str] | None = None
) -> httpx.Response:
    error = {"message": f"{message} (request id: {asked.request_id})", "type": "new_api_error", "code": code}
    named = {"X-Oneapi-Request-Id": asked.request_id, **(headers or {})}
    return httpx.Response(status, content=orjson.dumps({"error": error}), headers=named)


def _completion(asked: Asked) -> bytes:
    """The body of a 200, whole."""
    fate = asked.fate.name
    body: dict[str, Any] = {
        "id": asked.reply_id,
        "object": "chat.completion",
        "model": f"{asked.model}-0305",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": asked.text},
                "finish_reason": "length" if fate == "cut_off" else "stop",
            }
        ],
    }
    if asked.bill is not None and (asked.fate.has_usage or asked.fate.status != 200 or fate in _CUT):
        body["usage"] = asked.bill.usage
    if fate == "blocked":
        body["choices"][0] = {"message": {"content": ""}, "finish_reason": "content_filter"}
    elif fate == "no_choices":
        body["choices"] = []
    elif fate.startswith("error_in_200"):
        body["choices"] = []
        body["error"] = {"message": "upstream failed", "code": "upstream_error"}
    return orjson.dumps(body)


_CUT = ("truncated", "broken_off")


class _BrokenOff(httpx.AsyncByteStream):
    """A body whose connection breaks before its end."""

    def __init__(self, first: bytes) -> None:
        self._first = first

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        raise httpx.ReadError("end of file before message length reached")
