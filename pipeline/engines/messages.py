"""What the process that owns a run and those that ask for it say to each other.

A worker says (`Said`) what it recorded and what it needs; it is told (`Told`) what is on record by then, what
it may do, and what to do next. One follows the other, so that being told something acknowledges what was said
before it.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.budget import Known, Shape
from pipeline.endpoints import Vitals
from pipeline.errors import MediabatchError
from pipeline.gate.leased import Returned
from pipeline.ledger import Group
from pipeline.media.delivery import Saved
from pipeline.plan import Plan, Secrets
from pipeline.prices import Prices
from pipeline.records import Item, Media, Request
from pipeline.run import Halt
from pipeline.store.rows import Tries
from pipeline.typed.schema import AnswerSchema

LEASE_S = 0.75
"""So long after it was asked for, what was granted may be used."""
RENEW_S = 0.375
"""So often a worker asks."""


class Asked(NamedTuple):
    """A row to be asked: its request key, and what earlier attempts at it came to."""

    item: Item
    key: str | None
    tries: Tries


@dataclass(slots=True)
class Asks:
    """What a worker needs of one endpoint. ``least_tokens``: of whoever waits first."""

    in_use: int
    waiting: int
    slots: int  # that its gate has, in use or not
    requests: float
    tokens: float
    least_tokens: float
    requests_back: Returned
    tokens_back: Returned
    hold_s: float  # that its own answers asked for
    is_out: bool  # it found nobody there, and probes


@dataclass(slots=True)
class Grant:
    """What a worker may do at one endpoint, until `LEASE_S` after it asked."""

    slots: int | None  # at most, where a number is given
    requests: float
    tokens: float
    counted_at_s: float
    hold_s: float
    is_probed_elsewhere: bool


@dataclass(slots=True)
class MoneyAsks:
    """In trillionths. ``keep``: what is set aside for attempts under way, and kept for the next ones;
    ``least``: what the first that waits needs, ``guess``: with which it could go alone."""

    spent: int
    keep: int
    want: int
    least: int
    guess: int
    news: dict[Shape, Known]


@dataclass(slots=True)
class MoneyGrant:
    amount: int
    is_alone: bool  # nobody else has any
    known: dict[Shape, Known]


@dataclass(slots=True)
class Lease:
    """A worker's turn at what is shared. By endpoint, in the plan's order."""

    asks: list[Asks]
    money: MoneyAsks | None


@dataclass(slots=True)
class Granted:
    grants: list[Grant]
    money: MoneyGrant | None


class Halted(MediabatchError):
    """What halted another process of the run."""

    def __init__(self, halt: Halt) -> None:
        super().__init__(halt.message)
        self.halt = halt

    @property
    def error_class(self) -> str:
        return self.halt.error_class


@dataclass(slots=True)
class Farewell:
    """How a worker's part of the run ended."""

    is_caught: bool  # items went unasked because of a halt
    levels: dict[str, int]
    saved: Saved


@dataclass(slots=True)
class Said:
    """What a worker has to say. ``group``: writes to put on record; ``rested``: rows that it did not ask;
    ``room``: rows that it could take."""

    group: Group | None = None
    rested: list[tuple[str, int]] = field(default_factory=list)
    room: int = 0
    lease: Lease | None = None
    vitals: Vitals | None = None  # with a lease; when its errors came in seconds before now
    halts: list[Halt] = field(default_factory=list)
    succeeded: list[tuple[str, str]] = field(default_factory=list)  # (endpoint, model), for the first time
    farewell: Farewell | None = None


@dataclass(slots=True)
class Told:
    """What a worker is told. ``problem``: why what it said could not be put on record."""

    rows: bytes = b""
    problem: MediabatchError | None = None
    granted: Granted | None = None
    halts: list[Halt] = field(default_factory=list)
    succeeded: list[tuple[str, str]] = field(default_factory=list)
    pause_s: float = 0.0  # before it says more
    is_stopping: bool = False
    is_work_over: bool = False  # no rows will come but those that others lose
    is_over: bool = False  # no rows will come at all


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to begin: no store, no manifest, no ledger."""

    plan: Plan
    secrets: Secrets
    prices: Prices
    slots: Mapping[str, int | None]  # by endpoint: of a number, or of the level that an earlier run found
    has_budget: bool


def pack(rows: Sequence[Asked]) -> bytes:
    """Rows as bytes. A schema stays behind: it is the run's, and cannot travel."""
    return pickle.dumps([_packed(*row) for row in rows], protocol=5) if rows else b""


def unpack(body: bytes, schema: AnswerSchema | None) -> list[Asked]:
    return [_unpacked(row, schema) for row in pickle.loads(body)] if body else []


_Packed = tuple[
    str, int, str | None, Tries, str, str, list[tuple[object, ...]], object, str | None, bool, int | None
]


def _packed(item: Item, key: str | None, tries: Tries) -> _Packed:
    request = item.request
    media: list[tuple[object, ...]] = [(one.modality, one.url, one.key) for one in request.media]
    return (
        item.id,
        item.row,
        key,
        tries,
        request.model,
        request.prompt,
        media,
        request.parameters,
        request.system,
        request.schema is not None,
        request.image_max_px,
    )


def _unpacked(packed: _Packed, schema: AnswerSchema | None) -> Asked:
    item_id, row, key, tries, model, prompt, media, parameters, system, has_schema, image_max_px = packed
    request = Request(
        model,
        prompt,
        tuple([Media(*one) for one in media]),  # type: ignore[arg-type] # as they were packed
        parameters,  # type: ignore[arg-type]
        system,
        schema if has_schema else None,
        image_max_px=image_max_px,
    )
    return Asked(Item(item_id, row, request), key, tries)
