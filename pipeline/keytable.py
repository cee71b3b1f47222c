"""Things told apart without being kept: request keys (who asked this first?) and item ids (is it taken?).

A million keys as Python ints in a dict are 150 MB; here each is 8 bytes of its hash and 4 of a number, in an
open-addressing table that is two thirds full at most. Of a million different things, one pair in 37 million
such sets would share 64 bits.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence


class KeyTable:
    """64-bit keys (never 0) → numbers below 2³²."""

    def __init__(self) -> None:
        self._slots = 1 << 12
        self._keys = array("Q", [0]) * self._slots
        self._numbers = array("I", [0]) * self._slots
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def get(self, key: int) -> int | None:
        slot = self._slot(key)
        return self._numbers[slot] if self._keys[slot] else None

    def claim(self, key: int, number: int) -> int:
        """The number that came first with this key: this one, where the key is new."""
        return number if self.add(key, number) else self._numbers[self._slot(key)]

    def add(self, key: int, number: int) -> bool:
        """Keep the number with this key, if the key is new; whether it is."""
        keys, mask = self._keys, self._slots - 1
        slot = key & mask
        while there := keys[slot]:
            if there == key:
                return False
            slot = (slot + 1) & mask
        keys[slot], self._numbers[slot] = key, number
        self._used += 1
        if self._used * 3 > self._slots * 2:
            self._grow(self._slots * 2)
        return True

    def count_up(self, key: int) -> int:
        """The number kept with a key that is here; one more is kept from now on."""
        slot = self._slot(key)
        number = self._numbers[slot]
        self._numbers[slot] = number + 1
        return number

    def fill(self, keys: Sequence[int], numbers: Iterable[int]) -> None:
        """Claim many; keys of 0 are none."""
        slots = self._slots
        while (self._used + len(keys)) * 3 > slots * 2:
            slots *= 2
        if slots > self._slots:
            self._grow(slots)  # at once, not by and by
        for key, number in zip(keys, numbers, strict=True):
            if key:
                self.add(key, number)

    def _slot(self, key: int) -> int:
        keys, mask = self._keys, self._slots - 1
        slot = key & mask
        while (there := keys[slot]) and there != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self, slots: int) -> None:
        keys, numbers = self._keys, self._numbers
        self._slots = slots
        self._keys = array("Q", [0]) * slots
        self._numbers = array("I", [0]) * slots
        for key, number in zip(keys, numbers, strict=True):
            if key:
                slot = self._slot(key)
                self._keys[slot], self._numbers[slot] = key, number
