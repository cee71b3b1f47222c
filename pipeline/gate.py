"""The gate: what admits attempts to one endpoint. Slots and holds; halts close it, per model or altogether.

A slot is taken per attempt: an item asleep in backoff must not keep a healthy one waiting. Waiters are served
first come, first served. The gate decides *when* an attempt may go, never whether one is worth repeating
(that is ``retry``) nor when an endpoint has shown itself useless (that is ``halting``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType

import anyio

from pipeline.errors import MediabatchError


class GateClosed(Exception):
    """The attempt may not go any more: the run stops, or this model's endpoint halted."""

    def __init__(self, reason: MediabatchError | None) -> None:
        super().__init__(str(reason) if reason else "the run is stopping")
        self.reason = reason


def _nobody_asks() -> None:
    """Called when an item goes to sleep, until a run asks to know."""


class _Slot:
    """What ``async with gate.slot(model)`` enters; it keeps no state, so one a model serves all."""

    __slots__ = ("_gate", "_model")

    def __init__(self, gate: Gate, model: str) -> None:
        self._gate = gate
        self._model = model

    async def __aenter__(self) -> None:
        await self._gate.acquire(self._model)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.release()


class Gate:
    """Admits at most ``slots`` attempts at once to one endpoint."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._free = slots
        self._waiting: deque[anyio.Event] = deque()
        self._held_until = 0.0  # on anyio's clock, seconds
        self._halted: dict[str, MediabatchError] = {}
        self._closed = False
        self._closing = anyio.Event()
        self._slots: dict[str, _Slot] = {}
        self.asleep = 0
        self.on_sleep: Callable[[], None] = _nobody_asks

    @property
    def in_use(self) -> int:
        return self.slots - self._free

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def halted(self) -> dict[str, MediabatchError]:
        """Models this endpoint no longer answers, with the reason."""
        return self._halted

    def slot(self, model: str) -> _Slot:
        """A context that holds one slot. Entering raises GateClosed once the gate is shut for the model."""
        slot = self._slots.get(model)
        if slot is None:
            slot = self._slots[model] = _Slot(self, model)
        return slot

    async def acquire(self, model: str) -> None:
        self.check(model)
        if self._free and not self._waiting:
            self._free -= 1
        else:
            turn = anyio.Event()
            self._waiting.append(turn)
            try:
                await turn.wait()
            except BaseException:
                # Cancelled: leave the queue, or hand on the slot that had just been given.
                if turn.is_set():
                    self.release()
                else:
                    self._waiting.remove(turn)
                raise
        try:
            while self._held_until and (wait_s := self._held_until - anyio.current_time()) > 0:
                await self._nap(wait_s)
                self.check(model)
            self.check(model)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()  # the slot passes on without becoming free in between
        else:
            self._free += 1

    def hold(self, seconds: float) -> None:
        """Admit nobody for so long; a hold only ever moves forward."""
        self._held_until = max(self._held_until, anyio.current_time() + seconds)

    async def sleep(self, model: str, seconds: float) -> None:
        """Back off without a slot. Raises GateClosed as soon as the gate is shut for the model."""
        until_s = anyio.current_time() + seconds
        self.asleep += 1
        self.on_sleep()
        try:
            self.check(model)
            await self._nap(seconds)
            self.check(model)
            # Woken early because another model halted: that one's trouble does not shorten this wait.
            while (wait_s := until_s - anyio.current_time()) > 0:
                await self._nap(wait_s)
                self.check(model)
        finally:
            self.asleep -= 1

    def halt(self, model: str, reason: MediabatchError) -> None:
        """Admit nothing more for this model; what is in flight is waited for elsewhere."""
        self._halted.setdefault(model, reason)
        self._closing.set()
        self._closing = anyio.Event()

    def close(self) -> None:
        """Admit nothing more at all."""
        self._closed = True
        self._closing.set()

    def check(self, model: str) -> None:
        """Raise GateClosed where nothing may go for this model."""
        if self._closed or model in self._halted:
            raise GateClosed(self._halted.get(model))

    async def _nap(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._closing.wait()
