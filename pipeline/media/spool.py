"""Fetched media as files in a folder of their own, bounded in bytes: memory holds none of them.

What an item needs is set aside all at once, in the order of asking, before anything of it is fetched; so no
two items wait for each other's bytes. A file is made once, however many items want it at the same time, and
stays until its room is needed. Refuses to know where media come from.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import anyio

from pipeline.errors import FetchFailed, MediabatchError, MediaUnreachable, StoreUnwritable

MOST_BYTES: Final = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Blob:
    """A medium in a file. ``before_px`` and ``after_px`` are set where it was made smaller: width, height."""

    path: Path
    size_bytes: int
    mime: str
    before_px: tuple[int, int] | None = None
    after_px: tuple[int, int] | None = None


Make = Callable[[Path, Callable[[int], None]], Awaitable[Blob]]
"""Make the file at this path; told how many bytes there will be, the second sets no more aside than that."""


@dataclass(slots=True, eq=False)
class _Entry:
    key: Hashable
    path: Path
    size_bytes: int  # set aside at first, then what it is
    holders: int = 0
    blob: Blob | None = None
    problem: MediabatchError | None = None
    made: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True, eq=False)
class _Waiter:
    turn: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """One medium that an item needs, of at most so many bytes."""

    key: Hashable
    most_bytes: int
    make: Make


class Held:
    """What an item holds, one blob for each that it wanted, until it lets go."""

    def __init__(self, spool: Spool, entries: Sequence[_Entry]) -> None:
        self._spool = spool
        self._entries = entries

    @property
    def blobs(self) -> list[Blob]:
        return [entry.blob for entry in self._entries if entry.blob is not None]

    def let_go(self) -> None:
        entries, self._entries = self._entries, ()
        self._spool.release(entries)


class Spool:
    """The folder. It is made when the first file is, and removed with all that is in it by ``close``."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._entries: dict[Hashable, _Entry] = {}  # made or in the making
        self._idle: dict[
            Hashable, _Entry
        ] = {}  # of those, the ones that nobody holds, the longest unused first
        self._held_bytes = 0
        self._idle_bytes = 0
        self._line: deque[_Waiter] = deque()
        self._line_is_gone = anyio.Event()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = count()

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    async def hold(self, wanted: Sequence[Wanted]) -> Held:
        """Wait for room, then make what is not there yet.

        Raises:
            MediaUnreachable: one of them cannot be had.
            StoreUnwritable: the folder takes no more.
        """
        entries, mine = await self._admitted(wanted)
        held = Held(self, entries)
        try:
            async with anyio.create_task_group() as tasks:
                for one, entry in mine:
                    tasks.start_soon(self._make, one, entry)
                for entry in entries:
                    await entry.made.wait()
            for entry in entries:
                if entry.problem is not None:
                    raise entry.problem
        except BaseException:
            held.let_go()
            raise
        return held

    async def no_line(self) -> None:
        """Wait until nobody waits for room."""
        while self._line:
            await self._line_is_gone.wait()

    async def _admitted(self, wanted: Sequence[Wanted]) -> tuple[list[_Entry], list[tuple[Wanted, _Entry]]]:
        """Nobody overtakes: what needs much room would else wait for ever."""
        if not self._line and (admitted := self._fitting(wanted)) is not None:
            return admitted
        me = _Waiter()
        self._line.append(me)
        try:
            while True:
                if self._line[0] is me and (admitted := self._fitting(wanted)) is not None:
                    return admitted
                await me.turn.wait()
                me.turn = anyio.Event()
        finally:
            self._line.remove(me)
            self._rouse()
            if not self._line:
                self._line_is_gone.set()
                self._line_is_gone = anyio.Event()

    def _fitting(self, wanted: Sequence[Wanted]) -> tuple[list[_Entry], list[tuple[Wanted, _Entry]]] | None:
        """(an entry for each, those to be made), or None where there is no room now. Alone, anything goes."""
        missing = {one.key: one for one in wanted if one.key not in self._entries}
        there = {one.key: self._entries[one.key] for one in wanted if one.key in self._entries}
        woken_bytes = sum(self._idle[key].size_bytes for key in there if key in self._idle)
        new_bytes = sum(one.most_bytes for one in missing.values())
        if self._held_bytes and self._held_bytes + woken_bytes + new_bytes > self._most_bytes:
            return None
        for key, one in missing.items():
            self._entries[key] = _Entry(key, self._free_path(), one.most_bytes)
        for key in there:
            self._idle.pop(key, None)
        self._idle_bytes -= woken_bytes
        self._held_bytes += woken_bytes + new_bytes
        entries = [self._entries[one.key] for one in wanted]
        for entry in entries:
            entry.holders += 1
        self._make_room()
        return entries, [(one, self._entries[key]) for key, one in missing.items()]

    async def _make(self, one: Wanted, entry: _Entry) -> None:
        def will_have(size_bytes: int) -> None:
            self._held_bytes += size_bytes - entry.size_bytes
            entry.size_bytes = size_bytes
            self._rouse()

        try:
            entry.blob = await one.make(entry.path, will_have)
            will_have(entry.blob.size_bytes)
        except MediaUnreachable as error:
            entry.problem = error
        except OSError as error:
            entry.problem = StoreUnwritable(entry.path.parent, error.strerror or str(error))
        finally:
            if entry.blob is None:
                # Whoever waits for it as well, after this one was called off, fetches it anew.
                entry.problem = entry.problem or FetchFailed("its download was called off")
                del self._entries[one.key]
            entry.made.set()

    def release(self, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            entry.holders -= 1
            if entry.holders:
                continue
            self._held_bytes -= entry.size_bytes
            if entry.blob is None:
                with suppress(OSError):
                    entry.path.unlink()
            else:
                self._idle_bytes += entry.size_bytes
                self._idle[entry.key] = entry
        self._make_room()
        self._rouse()

    def _make_room(self) -> None:
        """What nobody holds goes, the longest unused first."""
        while self._idle and self._held_bytes + self._idle_bytes > self._most_bytes:
            key = next(iter(self._idle))
            entry = self._idle.pop(key)
            del self._entries[key]
            self._idle_bytes -= entry.size_bytes
            with suppress(OSError):
                entry.path.unlink()

    def _free_path(self) -> Path:
        if self._folder is None:
            try:
                self._folder = tempfile.TemporaryDirectory(prefix="mediabatch-", ignore_cleanup_errors=True)
            except OSError as error:
                raise StoreUnwritable(tempfile.gettempdir(), error.strerror or str(error)) from None
        return Path(self._folder.name) / str(next(self._numbers))

    def _rouse(self) -> None:
        if self._line:
            self._line[0].turn.set()
