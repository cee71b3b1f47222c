"""The budget of a run: an attempt goes only where it fits beside what is spent, what may have been spent, and
what is set aside for those under way.

What an attempt can cost at most is set aside before it goes, and becomes what it did cost: the cap holds
whatever the answers are like. Near the cap fewer are under way at once, until not even one would fit. Nobody
overtakes. Money is in trillionths of the currency, as in `pricing`.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from zoneinfo import ZoneInfo

import anyio

from pipeline.errors import CurrencyDiffers, Unpriced
from pipeline.gate import GateClosed, Limited
from pipeline.pricing import PriceBook, Rates, trillionths
from pipeline.records import AttemptState, Item, MediaModality, Request, Usage

OVERHEAD_TOKENS = 64
"""What a request has besides its prompt and media. A token of text is a byte at least."""
USUAL_TOKENS: Mapping[MediaModality, int] = {
    "image": 1_300,
    "audio": 1_000,
    "video": 3_000,
    "document": 3_000,
}
"""So many there must be room for before media go of which nothing is known."""
WELL_KNOWN = 10
"""Answers to similar media, after which the most of them tells."""
MOST_INPUT_TOKENS = 1_048_576
"""What media come to where nothing like them was answered yet: the longest context that models take."""


@dataclass(slots=True)
class Cap:
    """So much may be spent in all, or, where it is a day's, on each day of the clock ``timezone``."""

    limit: int
    spent: int  # before and in this session, what may have been spent included
    timezone: ZoneInfo | None = None
    day: date | None = None

    def room(self, now: datetime) -> int:
        if self.timezone is not None:
            today = now.astimezone(self.timezone).date()
            if today != self.day:
                self.day, self.spent = today, 0
        return self.limit - self.spent


@dataclass(slots=True)
class Hold:
    """What is set aside for one attempt."""

    amount: int
    item: Item


Shape = tuple[str, tuple[str, ...] | None]
"""What replies are alike: model and modalities of the media, whose input is known; or the model alone (None),
for its output."""


@dataclass(slots=True)
class Known:
    """The most tokens of the replies so far. What the next may come to: twice that of one, 1.1 times that of
    a hundred."""

    tokens: int = 0
    replies: int = 0

    def learn(self, tokens: int) -> None:
        self.tokens = max(self.tokens, tokens)
        self.replies += 1

    def join(self, other: Known) -> None:
        self.tokens = max(self.tokens, other.tokens)
        self.replies += other.replies

    def next(self) -> int:
        return math.ceil(self.tokens * (1 + 1 / math.sqrt(self.replies)))


class Ceilings:
    """What requests can cost at most, by the dearest rate that may apply.

    A text without media: its prompt, and the longest answer it allows; nothing it does can cost more. With
    media: what similar media came to, and the longest of the model's answers, each with a margin; until
    something is known of them, the longest context that models take. ``books``: of each endpoint, with the
    models it serves (none: all).
    """

    def __init__(
        self, books: Sequence[tuple[PriceBook, frozenset[str]]], currency: str, now: Callable[[], datetime]
    ) -> None:
        self._books = books
        self._currency = currency
        self._now = now
        self._known: defaultdict[Shape, Known] = defaultdict(Known)
        self._news: defaultdict[Shape, Known] | None = None

    def of(self, item: Item) -> int:
        """
        Raises:
            Unpriced, CurrencyDiffers: nobody could hold a budget with it.
        """
        request = item.request
        media_tokens = 0
        if request.media:
            known = self._known.get(_shape(request))
            media_tokens = known.next() if known else MOST_INPUT_TOKENS
        return self._cost(item, media_tokens)

    def guess(self, item: Item) -> int:
        """With media of a usual size.

        Raises:
            Unpriced, CurrencyDiffers: nobody could hold a budget with it.
        """
        return self._cost(item, sum(USUAL_TOKENS[media.modality] for media in item.request.media))

    def replies_to(self, request: Request) -> int:
        """How many answers to requests with such media were learned from."""
        known = self._known.get(_shape(request))
        return known.replies if known else 0

    def learn(self, request: Request, usage: Usage) -> None:
        """What a request came to."""
        for learning in (self._known, self._news):
            if learning is None:
                continue
            learning[request.model, None].learn(usage.completion_tokens)
            if request.media:
                learning[_shape(request)].learn(usage.prompt_tokens)

    def news(self) -> dict[Shape, Known]:
        """What was learned since this was asked last, for other processes that ask the same."""
        news, self._news = self._news, defaultdict(Known)
        return dict(news or {})

    def told(self, known: Mapping[Shape, Known]) -> None:
        """What all of them have learned, the news from here that were told so far included."""
        for shape, one in known.items():
            mine = self._known[shape] = Known(one.tokens, one.replies)
            if self._news and shape in self._news:
                mine.join(self._news[shape])

    def _cost(self, item: Item, media_tokens: int) -> int:
        request = item.request
        input_tokens = _text_bytes(request) + OVERHEAD_TOKENS + media_tokens
        output_tokens = request.parameters.get("max_tokens")
        assert isinstance(output_tokens, int)
        known = self._known.get((request.model, None))
        if request.media and known:
            output_tokens = min(output_tokens, known.next())
        most = 0
        for book, models in self._books:
            if models and request.model not in models:
                continue
            rates = book.rates(request.model, self._now())
            if rates is None:
                raise Unpriced(item.row, request.model)
            if rates.currency != self._currency:
                raise CurrencyDiffers(item.row, request.model, rates.currency, self._currency)
            most = max(most, _dearest(rates, request, input_tokens, output_tokens))
        return most


def _dearest(rates: Rates, request: Request, input_tokens: int, output_tokens: int) -> int:
    modalities = {"text", "image+video", "unattributed", *(media.modality for media in request.media)}
    if "video" in modalities:
        modalities.add("audio")  # its soundtrack
    dearest = 0
    for sheet in (rates.base, *(sheet for above, sheet in rates.tiers if input_tokens > above)):
        dearest_in = dearest_out = 0
        for (modality, direction, kind), price in sheet.items():
            if direction == "output":
                dearest_out = max(dearest_out, price.micros)
            elif modality in modalities and kind in ("fresh", "cached"):
                dearest_in = max(dearest_in, price.micros)
        dearest = max(dearest, input_tokens * dearest_in + output_tokens * dearest_out)
    return dearest + rates.fee


@dataclass(slots=True, eq=False)
class _Waiter:
    item: Item
    turn: anyio.Event = field(default_factory=anyio.Event)


class Budget:
    """Held over all attempts of a run. ``on_spent`` is called once no more attempt fits. ``is_leased``: the
    cap is what this process was given of a budget of several, and may grow."""

    def __init__(
        self,
        caps: Sequence[Cap],
        ceilings: Ceilings,
        now: Callable[[], datetime],
        *,
        is_leased: bool = False,
    ) -> None:
        self.caps = tuple(caps)
        self.ceilings = ceilings
        self._now = now
        self.held = 0
        self.set_aside = 0  # so far, in all
        self.is_alone = not is_leased  # nobody else has any of it
        self._is_leased = is_leased
        self._under_way = 0
        self._overrated: list[Hold] = []  # perhaps billed, and set aside for when little was known
        self._queue: deque[_Waiter] = deque()
        self._is_closed = False
        self.limited = Limited()
        self.on_spent: Callable[[], None] = _nobody_asks

    async def hold(self, item: Item) -> Hold:
        """Wait until an attempt fits, and set aside what it can cost.

        Raises:
            GateClosed: nothing goes any more.
            Unpriced, CurrencyDiffers: it never could.
        """
        self._check()
        if not self._queue:
            amount = self._fitting(item)
            if amount is not None:
                return self._set_aside(amount, item)
        me = _Waiter(item)
        self._queue.append(me)
        self.limited.by("budget", anyio.current_time())
        try:
            while True:
                self._check()
                if self._queue[0] is me:
                    amount = self._fitting(item)
                    if amount is not None:
                        return self._set_aside(amount, item)
                    if not self._under_way and not self._is_leased:
                        self.close()
                        self.on_spent()
                        continue
                await me.turn.wait()
                me.turn = anyio.Event()
        finally:
            is_first = self._queue[0] is me
            self._queue.remove(me)
            if is_first:
                self.rouse()
            if not self._queue:
                self.limited.by(None, anyio.current_time())

    def settle(
        self, hold: Hold, state: AttemptState, cost: Decimal | None, usage: Usage | None = None
    ) -> None:
        """An attempt has ended. What may have been billed counts as much as was set aside for it; so does
        what was billed and has no known cost."""
        self.held -= hold.amount
        self._under_way -= 1
        if usage is not None:
            self.ceilings.learn(hold.item.request, usage)
        if state != "not_billed":
            self._spend(hold.amount if cost is None else trillionths(cost))
            if cost is None and hold.item.request.media:
                self._overrated.append(hold)
        self._rate_anew()
        self.rouse()

    def close(self) -> None:
        """Admit nothing more."""
        self._is_closed = True
        for waiter in self._queue:
            waiter.turn.set()

    def _check(self) -> None:
        if self._is_closed:
            raise GateClosed(None)

    def waiting(self, most: int) -> list[Item]:
        """Those that wait for money, in their order, and no more than that."""
        return [waiter.item for waiter in islice(self._queue, most)]

    def rouse(self) -> None:
        """There may be room for whoever is first."""
        if self._queue:
            self._queue[0].turn.set()

    def _fitting(self, item: Item) -> int | None:
        """What to set aside; None where there is no room for it now."""
        amount = self.ceilings.of(item)
        now = self._now()
        room = min(cap.room(now) for cap in self.caps) - self.held
        is_unknown = bool(item.request.media) and not self.ceilings.replies_to(item.request)
        goes_alone = is_unknown and self.is_alone and not self._under_way
        if goes_alone and amount > room >= self.ceilings.guess(item):
            return room  # nothing like it was answered yet: it goes alone, to be learned from
        return amount if amount <= room else None

    def _set_aside(self, amount: int, item: Item) -> Hold:
        self.held += amount
        self.set_aside += amount
        self._under_way += 1
        return Hold(amount, item)

    def _spend(self, amount: int) -> None:
        now = self._now()
        for cap in self.caps:
            cap.room(now)  # the day may have changed
            cap.spent += amount

    def _rate_anew(self) -> None:
        """What was perhaps billed counts as much as would be set aside for it now, once enough is known."""
        still = []
        for hold in self._overrated:
            if self.ceilings.replies_to(hold.item.request) < WELL_KNOWN:
                still.append(hold)
            else:
                self._spend(min(0, self.ceilings.of(hold.item) - hold.amount))
        self._overrated = still


def _text_bytes(request: Request) -> int:
    """Of all that is said. A schema may be counted as it is sent, and said in words beside it."""
    size = len(request.prompt.encode())
    if request.system is not None:
        size += len(request.system.encode())
    if request.schema is not None:
        size += len(request.schema.response_format) + len(request.schema.words.encode())
        if request.objection is not None:
            objection = request.schema.objection_to(request.objection.fault)
            size += len(request.objection.answer.encode()) + len(objection.encode()) + OVERHEAD_TOKENS
    return size


def _shape(request: Request) -> Shape:
    return request.model, tuple(media.modality for media in request.media)


def _nobody_asks() -> None:
    """Called when nothing more fits, until a run asks to know."""
