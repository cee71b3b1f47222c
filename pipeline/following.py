"""A run as a stream: every row as it ends. For programs that use the library; commands read the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from pipeline.engines import Running
from pipeline.launch import launch
from pipeline.plan import Plan, Secrets
from pipeline.records import Ended
from pipeline.run import only_one
from pipeline.surroundings import THE_REAL_ONES, Surroundings
from pipeline.tally import Tally


@asynccontextmanager
async def following(
    plan: Plan, secrets: Secrets, *, world: Surroundings = THE_REAL_ONES
) -> AsyncIterator[AsyncIterator[Ended]]:
    """Run a plan, and iterate its rows as they end, each once it is durable::

        async with following(plan, secrets) as rows:
            async for row in rows:
                ...

    A slow reader slows the run. Leaving the block early stops the run, which can be resumed: what is in
    flight is waited for and written.

    Raises:
        UsageError, StoreUnwritable, LedgerDamaged: as `launch` does, when the block is left or the rows end.
    """
    send, receive = anyio.create_memory_object_stream[Ended](100)
    running: list[Running] = []
    has_left = False

    def on_start(run: Running, tally: Tally, notes: Sequence[str]) -> None:
        running.append(run)
        if has_left:
            run.stop("interrupted")

    async def follow(ended: Sequence[Ended]) -> None:
        for one in ended:
            if not has_left:
                try:
                    await send.send(one)
                except anyio.BrokenResourceError:
                    return

    async def run() -> None:
        async with send:
            await launch(plan, secrets, on_start=on_start, follow=follow, world=world)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            try:
                with receive:
                    yield receive
            finally:
                has_left = True
                for one in running:
                    one.stop("interrupted")
    except BaseExceptionGroup as group:
        raise only_one(group) from None
