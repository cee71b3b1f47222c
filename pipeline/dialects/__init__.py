"""Dialects: how one kind of endpoint spells requests, usage and errors.

Owns the seam (`Dialect`) and the table of what is behind it. A dialect is one short file here and one
line in `DIALECTS`; what the family shares lives in modules of its own:

    parts.py          media → content parts of a user message
    chat.py           the body of a 200 → `Reply`, or the error it really is
    usage.py          usage → exclusive token counts
    seen.py           usage → which media were seen
    failures.py       any other status → an error of our tree
    media_causes.py   the one place where a message may decide
    wire.py           JSON that may be anything, headers, and words fit to be stored and shown

Refuses HTTP and event loops: bytes and headers in, bytes and records out. Next: `pipeline.pricing`
charges the counts; `pipeline.transport` carries the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pipeline.dialects.newapi import NewApi
from pipeline.dialects.openai import OpenAI
from pipeline.dialects.seen import media_seen
from pipeline.errors import AttemptError
from pipeline.records import Reply, Request

__all__ = ["DEFAULT_DIALECT", "DIALECTS", "Dialect", "media_seen"]


class Dialect(Protocol):
    """One kind of endpoint's spelling. Stateless: one instance serves every request of every run."""

    @property
    def name(self) -> str:
        """The name in `DIALECTS`, and in the store's ``dialect`` column."""

    @property
    def path(self) -> str:
        """Appended to the base URL (which includes ``/v1``)."""

    def render(self, request: Request, urls: Sequence[str]) -> bytes:
        """The body to send. ``urls``: one per ``request.media``, in order, ``http(s)://`` or ``data:``."""

    def parse(self, body: bytes, request: Request) -> Reply:
        """What a status 200 says.

        Raises:
            AttemptError: whatever the bytes are, if they are no answer; ``reply`` is set on it where
                they carry usage.
        """

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptError:
        """The error that any other status means. ``headers`` has lower-case names."""


DIALECTS: dict[str, Dialect] = {
    "newapi": NewApi(),
    "newapi-strings": NewApi("newapi-strings", are_strings=True),
    "openai": OpenAI(),
}

DEFAULT_DIALECT = "newapi"
