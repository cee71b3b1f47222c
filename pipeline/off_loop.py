"""How a blocking call leaves the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import anyio.to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")

OffLoop = Callable[..., Awaitable[Any]]
"""`anyio.to_thread.run_sync`, or what stands in for it; in simulated nights, a plain call."""

FEW = 4
"""Threads that handle media: each keeps memory of its own for what passes through it."""
_few: RunVar[anyio.CapacityLimiter] = RunVar("few threads")


async def in_few_threads(function: Callable[..., T], *arguments: Any) -> T:
    """For calls that move megabytes. Over forty threads, which is anyio's usual limit, the memory that each
    sets aside for the next megabytes came to hundreds of them (measured, on a busy machine)."""
    try:
        limiter = _few.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(FEW)
        _few.set(limiter)
    return await anyio.to_thread.run_sync(function, *arguments, limiter=limiter)


_Call = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


@contextmanager
def own_thread() -> Iterator[OffLoop]:
    """A thread that stays, for calls that come many times a second and must not be cancelled.

    `anyio.to_thread` has the event loop go round three times more for each; with 1,000 items at a time that
    made a run a tenth longer (measured).
    """
    calls: SimpleQueue[_Call | None] = SimpleQueue()

    def work() -> None:
        while (call := calls.get()) is not None:
            loop, done, function, arguments = call
            try:
                result = function(*arguments)
            except BaseException as error:  # noqa: BLE001 # raised where it was called from
                loop.call_soon_threadsafe(done.set_exception, error)
            else:
                loop.call_soon_threadsafe(done.set_result, result)

    async def off_loop(function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        calls.put((loop, done, function, arguments))
        return await done

    thread = Thread(target=work, name="own-thread", daemon=True)
    thread.start()
    try:
        yield off_loop
    finally:
        calls.put(None)
        thread.join()
