"""Ids told apart without being kept.

Owns which ids a run has given away; refuses to remember their texts. A million ids as strings in a set are
130 MB; here each is 8 bytes of its hash and 4 of a counter in an open-addressing table, two thirds full at
most: 18 to 36 bytes an id. Of manifests with a million ids, one in 37 million has two that share 8 bytes; the
later one would become a bad row that says so, never a silent mix-up.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Final

_64_BITS: Final = 0xFFFF_FFFF_FFFF_FFFF

# Ids of this shape could be taken for ones given here: default ids, and numbered ones.
LIKE_GIVEN: Final = re.compile(r"[0-9a-f]{16}|.*#[0-9]+", re.DOTALL)


class IdTable:
    """A set of ids that also remembers, for each, which number its next repetition gets."""

    def __init__(self) -> None:
        self._slots = 1 << 12
        self._keys = array("Q", [0]) * self._slots
        self._next_numbers = array("I", [0]) * self._slots
        self._used = 0

    def __contains__(self, item_id: str) -> bool:
        return self._keys[self._slot(_key(item_id))] != 0

    def add(self, item_id: str) -> bool:
        """Whether the id is new here."""
        key = hash(item_id) & _64_BITS or 1  # as `_key`: this is the hot one
        keys, mask = self._keys, self._slots - 1
        slot = key & mask
        while there := keys[slot]:
            if there == key:
                return False
            slot = (slot + 1) & mask
        keys[slot], self._next_numbers[slot] = key, 2
        self._used += 1
        if self._used * 3 > self._slots * 2:
            self._grow()
        return True

    def next_number(self, item_id: str) -> int:
        """The number of the next repetition of an id that is here: 2, 3, …"""
        slot = self._slot(_key(item_id))
        number = self._next_numbers[slot]
        self._next_numbers[slot] = number + 1
        return number

    def _slot(self, key: int) -> int:
        keys, mask = self._keys, self._slots - 1
        slot = key & mask
        while (there := keys[slot]) and there != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        keys, numbers = self._keys, self._next_numbers
        self._slots *= 2
        self._keys = array("Q", [0]) * self._slots
        self._next_numbers = array("I", [0]) * self._slots
        for key, number in zip(keys, numbers, strict=True):
            if key:
                slot = self._slot(key)
                self._keys[slot], self._next_numbers[slot] = key, number


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
