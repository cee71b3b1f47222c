"""The words of the design as frozen records: what an item, a request, a reply, a charge and an outcome are.

Owns the shapes that travel between rooms; refuses behaviour. Nothing here knows HTTP, JSON or Parquet.
``None`` always means unknown, never zero. Instants are UTC-aware, durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from pipeline.errors import AttemptError, MediabatchError
    from pipeline.typed.schema import AnswerSchema

T = TypeVar("T")

MediaModality = Literal["image", "audio", "video", "document"]
CountModality = Literal["text", "image", "audio", "video", "document", "image+video", "unattributed"]
Direction = Literal["input", "output"]
Kind = Literal["fresh", "cached", "cache_write_5m", "cache_write_1h", "reasoning", "request"]
"""``request`` is no kind of token: the fee that a price book takes for each reply, with no tokens."""
Provenance = Literal["reported", "derived", "estimated"]
Seen = Literal["yes", "no", "unknown"]
DeliveryKind = Literal["url", "inline", "auto"]
"""How media reach an endpoint: as URLs, inlined, or inlined where the endpoint cannot get at them."""
AttemptState = Literal["submitted", "not_billed", "billed", "possibly_billed"]
RestStatus = Literal["skipped", "not_attempted"]
SchemaIn = Literal["format", "both", "words"]
"""By ``response_format``; in the prompt too, where endpoints ignore it; there alone, where they refuse it."""
RunState = Literal["running", "done", "halted", "interrupted", "deadline", "budget"]

EMBEDDED = "embedded"
"""The endpoint's name of rehearsals: never skipped over, never a latest outcome."""

BUCKETS = ("s3://", "gs://", "az://")
"""What URLs of objects in buckets begin with."""
_ELSEWHERE = ("http://", "https://", "data:", *BUCKETS)

MEDIA_MODALITIES: tuple[MediaModality, ...] = ("image", "audio", "video", "document")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """A dataclass that the type checker holds frozen. One that is frozen at run time too takes four times as
    long to make, and an item takes a dozen."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


@record
class Media:
    """One URL with its modality.

    ``url`` is ``http(s)://…``, ``data:…``, ``s3://…`` (gs, az) or the absolute path of a local file; ``key``
    is the manifest's ``media_key`` where it has one.
    """

    modality: MediaModality
    url: str
    key: str | None = None

    @property
    def is_local(self) -> bool:
        return not self.url.startswith(_ELSEWHERE)

    @property
    def is_inline(self) -> bool:
        """Whether it goes inline however the others are delivered."""
        return self.is_local or self.url.startswith("data:")

    @property
    def is_in_bucket(self) -> bool:
        return self.url.startswith(BUCKETS)

    @property
    def is_ready(self) -> bool:
        """Whether an endpoint is given the URL as it stands."""
        return self.url.startswith(("http://", "https://", "data:"))


@record
class Objection:
    """An answer that did not keep to the schema, and what is wrong with it, to be told once."""

    answer: str
    fault: str


@record
class Request:
    """What is asked, immutable and endpoint-neutral. ``parameters`` holds only what is set.

    ``schema`` is what the answer has to keep to, ``schema_in`` how that is said; ``objection`` is what
    followed a first answer.
    ``image_max_px``: images that go inline are made no longer than that, where it is set.
    """

    model: str
    prompt: str
    media: tuple[Media, ...]
    parameters: Mapping[str, object]
    system: str | None = None
    schema: AnswerSchema | None = None
    schema_in: SchemaIn = "format"
    objection: Objection | None = None
    image_max_px: int | None = None


@record
class Item:
    """One manifest row that can be asked; ``row`` counts from 1, header not counted."""

    id: str
    row: int
    request: Request


@record
class BadRow:
    """One manifest row that cannot be asked: it becomes a failed outcome without an attempt of its own.
    ``request``: what it would have asked, where its media could not be had."""

    id: str
    row: int
    error: MediabatchError
    request: Request | None = None


@record
class TokenCount:
    """Tokens of one modality, direction and kind, exclusive of every other count in the same reply."""

    modality: CountModality
    direction: Direction
    kind: Kind
    tokens: int
    provenance: Provenance


@record
class Usage:
    """What a reply's usage says. ``counts`` add up to ``total_tokens``; counts of zero are left out.

    ``raw`` is the usage as it came, as JSON text. ``contradiction`` says what in it cannot be true.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    counts: tuple[TokenCount, ...]
    raw: str
    contradiction: str | None = None


@record
class Reply:
    """What came back, parsed. ``usage`` is None where the reply carried none."""

    text: str | None
    finish_reason: str | None
    model: str | None
    reply_id: str | None
    usage: Usage | None
    reported_cost: Decimal | None = None


@record
class Charge:
    """What one token count cost. ``cost`` is None where no price is known; the bounds differ from it only
    where the count was allocated between modalities or kinds."""

    count: TokenCount
    price_per_mtok: Decimal | None
    cost: Decimal | None
    cost_low: Decimal | None
    cost_high: Decimal | None
    currency: str | None
    price_source: str | None


@record
class Attempt:
    """One time a request was sent, and what is known of it afterwards."""

    ticket: int  # its number in the ledger
    number: int
    sent_at: datetime
    done_at: datetime
    state: AttemptState
    endpoint: str
    model: str
    dialect: str
    http_status: int | None
    request_id: str | None
    error: AttemptError | None
    reply: Reply | None
    charges: tuple[Charge, ...]
    # What the reply is known to cost; the bounds differ from it only where tokens were allocated between
    # modalities or kinds whose rates differ, and are None where they need a rate nobody knows.
    cost: Decimal | None
    cost_low: Decimal | None
    cost_high: Decimal | None


@record
class Outcome:
    """How an item that was asked ended. ``error`` is None exactly where it is ``ok``; ``request_key`` is None
    where a local file that it counts by went away. ``last``: the attempt that decided; those before it are on
    record already, and so may it be itself (``is_on_record``), with later ones that were of no use."""

    item: Item
    request_key: str | None
    last: Attempt
    error: AttemptError | None
    seen: tuple[Seen, ...]
    is_on_record: bool = False


@record
class NotAttempted:
    """A row the run stopped before, or was limited to exclude. ``last``: an attempt not on record yet."""

    id: str
    row: int
    last: Attempt | None = None


@record
class Skipped:
    """A row whose request an earlier run has had answered."""

    id: str
    row: int
    answered_by_run_id: str


@record
class Duplicate:
    """A row that asks what an earlier row of the same run asks: it shares that one's outcome."""

    id: str
    row: int
    first_row: int
    request_key: str


Ended = Outcome | BadRow | NotAttempted | Skipped | Duplicate
"""How a manifest row left the run: every row is exactly one of these."""
