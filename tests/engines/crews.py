"""Workers without a cluster: in this process, talked to directly, and lost on demand."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import anyio
from anyio.abc import TaskGroup

from pipeline.engines import Engine, Running, Work
from pipeline.engines.messages import Said, Setup, Told
from pipeline.engines.reaching import limits_of
from pipeline.engines.spreading import Spread, WorkerLost
from pipeline.engines.worker import Worker
from pipeline.errors import StoreUnwritable


class Mate:
    """One of them. What is said goes through pickle, as it does on a cluster."""

    def __init__(self, setup: Setup, tasks: TaskGroup) -> None:
        self.worker = Worker(pickle.loads(pickle.dumps(setup)))
        self.scope = anyio.CancelScope()
        self.is_lost = anyio.Event()
        self.exchanges = 0
        self.leases = 0
        self.rows = 0
        self._tasks = tasks
        self._is_over = False
        tasks.start_soon(self._live)

    async def _live(self) -> None:
        with self.scope:
            await self.worker.execute()
        self._is_over = True

    async def _wind_up(self) -> None:
        """A process that is lost says nothing more; this one must be told that nobody listens."""
        nobody = StoreUnwritable("nowhere", "this worker is lost")
        with suppress(Exception):
            while not self._is_over:
                await self.worker.talk(Told(problem=nobody, is_stopping=True))

    async def talk(self, told: Told) -> Said:
        said: list[Said] = []

        async def exchange() -> None:
            said.append(pickle.loads(pickle.dumps(await self.worker.talk(pickle.loads(pickle.dumps(told))))))
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange)
            await self.is_lost.wait()
            tasks.cancel_scope.cancel()
        if self.is_lost.is_set():
            raise WorkerLost("killed")
        self.exchanges += 1
        self.rows += len(pickle.loads(told.rows)) if told.rows else 0
        self.leases += said[0].lease is not None
        return said[0]

    def end(self) -> None:
        self.lose()

    def lose(self) -> None:
        if not self.is_lost.is_set():
            self.is_lost.set()
            self.scope.cancel()
            self._tasks.start_soon(self._wind_up)


@dataclass
class Crew:
    """An engine of so many workers in this process; each comes so much later than the one before."""

    size: int = 2
    late_s: float = 0.0
    mates: list[Mate] = field(default_factory=list)

    @property
    def engine(self) -> Engine:
        @asynccontextmanager
        async def engine(work: Work) -> AsyncIterator[Running]:
            limits = await limits_of(work.plan, work.world)
            async with anyio.create_task_group() as tasks:
                before = count()

                async def hire(setup: Setup) -> Mate:
                    await anyio.sleep(self.late_s * next(before))
                    self.mates.append(Mate(setup, tasks))
                    return self.mates[-1]

                try:
                    yield Spread(work, limits, hire, self.size)
                finally:
                    for mate in self.mates:
                        mate.lose()
                    tasks.cancel_scope.cancel()

        return engine
