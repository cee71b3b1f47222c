"""Ids told apart without being kept.

Owns which ids a run has given away; refuses to remember their texts. A million ids as strings in a set are
130 MB; in a `KeyTable` each is 8 bytes of its hash and 4 of a counter, two thirds full at
most: 18 to 36 bytes an id. Of manifests with a million ids, one in 37 million has two that share 8 bytes; the
later one would become a bad row that says so, never a silent mix-up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Final

from pipeline.keytable import KeyTable

_64_BITS: Final = 0xFFFF_FFFF_FFFF_FFFF

# Ids of this shape could be taken for ones given here: default ids, and numbered ones.
LIKE_GIVEN: Final = re.compile(r"[0-9a-f]{16}|.*#[0-9]+", re.DOTALL)


class IdTable:
    """A set of ids that also remembers, for each, which number its next repetition gets."""

    def __init__(self) -> None:
        self._next_numbers = KeyTable()

    def __contains__(self, item_id: str) -> bool:
        return self._next_numbers.get(_key(item_id)) is not None

    def add(self, item_id: str) -> bool:
        """Whether the id is new here."""
        return self._next_numbers.add(_key(item_id), 2)

    def next_number(self, item_id: str) -> int:
        """The number of the next repetition of an id that is here: 2, 3, …"""
        return self._next_numbers.count_up(_key(item_id))


class Ids:
    """Gives every row of one reading an id of its own.

    ``look_alikes`` finds the manifest's explicit ids that match ``LIKE_GIVEN``, also those of rows still
    to come, so that no id given here shadows a real one. It is asked once, and only when an id is given.
    """

    def __init__(self, look_alikes: Callable[[], IdTable]) -> None:
        self._taken = IdTable()
        self._repeated = IdTable()
        self._look_alikes = look_alikes

    @cached_property
    def _reserved(self) -> IdTable:
        return self._look_alikes()

    def claim(self, item_id: str) -> bool:
        """Take an explicit id; whether it is the first to come."""
        return self._taken.add(item_id)

    def default(self, basis: Sequence[str]) -> str:
        """The id of a row that has none, by what it asks about; repetitions get ``#2``, ``#3``, …"""
        item_id = blake2b("\n".join(basis).encode(), digest_size=8).hexdigest()
        if item_id not in self._reserved and self._taken.add(item_id):
            return item_id
        return self.numbered(item_id)

    def numbered(self, item_id: str) -> str:
        """The first of ``id#2``, ``id#3``, … that no row has, nor will have."""
        self._repeated.add(item_id)
        while True:
            candidate = f"{item_id}#{self._repeated.next_number(item_id)}"
            if candidate not in self._reserved and self._taken.add(candidate):
                return candidate


def _key(item_id: str) -> int:
    # Python's own hash of a text: 64 bits of SipHash, keyed anew in every process. 0 marks a free slot.
    return hash(item_id) & _64_BITS or 1
