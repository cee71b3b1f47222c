"""The engine of one machine: everything in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.engines.reaching import limits_of, reach_all
from pipeline.engines.work import Running, Work
from pipeline.gate import Gate
from pipeline.plan import EndpointPlan
from pipeline.run import Run, Sorter


@asynccontextmanager
async def in_this_process(work: Work) -> AsyncIterator[Running]:
    """A run whose items are all asked here."""
    plan, world = work.plan, work.world
    limits = await limits_of(plan, world)

    def gate_of(one: EndpointPlan) -> Gate:
        return Gate(
            limits[one.name], host=one.name, clock=world.clock, unix_clock=lambda: world.now().timestamp()
        )

    async with reach_all(plan, work.secrets, work.prices, work.budget, world, gate_of) as endpoints:
        yield Run(
            work.feed,
            endpoints,
            work.recorder,
            Sorter(work.repeats, plan.limit),
            stop_if_unseen=plan.stop_if_unseen,
        )
