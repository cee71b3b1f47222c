"""A thread of one's own: what it returns and raises, in which order, and that it ends."""

from __future__ import annotations

import threading
import time

import anyio
import pytest

from pipeline.off_loop import own_thread


def test_calls_run_elsewhere_one_after_the_other_and_the_loop_goes_on():
    ran: list[tuple[int, str]] = []

    def slowly(number: int) -> int:
        time.sleep(0.02)
        ran.append((number, threading.current_thread().name))
        return number * 10

    async def night() -> None:
        ticks = 0
        results: list[int] = []
        with own_thread() as off_loop:

            async def ask(number: int) -> None:
                results.append(await off_loop(slowly, number))

            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(ask, number)
                while len(results) < 5:
                    await anyio.sleep(0.001)
                    ticks += 1
        assert results == [0, 10, 20, 30, 40]
        assert [number for number, _ in ran] == [0, 1, 2, 3, 4]
        assert {name for _, name in ran} == {"own-thread"}
        assert ticks > 10

    anyio.run(night)
    assert "own-thread" not in {thread.name for thread in threading.enumerate()}


def test_what_a_call_raises_is_raised_where_it_was_called():
    async def night() -> None:
        with own_thread() as off_loop:
            with pytest.raises(ZeroDivisionError):
                await off_loop(divmod, 1, 0)
            assert await off_loop(divmod, 7, 2) == (3, 1)

    anyio.run(night)
