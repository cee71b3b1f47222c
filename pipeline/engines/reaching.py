"""The endpoints of a plan, open: their wires, their gates, and what is delivered to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from pipeline.budget import Budget
from pipeline.dialects import DIALECTS
from pipeline.endpoints import Endpoint, Endpoints
from pipeline.gate import Gate, Limits
from pipeline.plan import EndpointPlan, Plan, Secrets
from pipeline.prices import Prices
from pipeline.store.reader import remembered_level
from pipeline.surroundings import Surroundings
from pipeline.transport import WireSettings

Gates = Callable[[EndpointPlan], Gate]


@asynccontextmanager
async def reach_all(
    plan: Plan,
    secrets: Secrets,
    prices: Prices,
    budget: Budget | None,
    world: Surroundings,
    gate_of: Gates,
) -> AsyncIterator[Endpoints]:
    """All endpoints of the plan, the embedded one started."""
    async with AsyncExitStack() as stack:
        reached: list[Endpoint] = []
        for one in plan.endpoints:
            if one.base_url is None:
                # The embedded endpoint brings decoders that a run against a real one never needs.
                from pipeline.embedded import serve_embedded

                base_url, known = await stack.enter_async_context(serve_embedded()), Secrets()
            else:
                base_url, known = one.base_url, secrets
            dialect = DIALECTS[one.dialect]
            wire = WireSettings(
                url=base_url + dialect.path,
                headers=known.headers_for(one.key_variable),
                timeouts=plan.timeouts,
                ca_file=plan.ca_file,
            )
            transport = await stack.enter_async_context(world.reach(wire))
            book = prices.of_endpoint[one.name]
            models = frozenset(one.models)
            reached.append(Endpoint(one.name, dialect, transport, gate_of(one), book, models))
        delivery = await stack.enter_async_context(
            world.deliver(
                plan.media,
                allow_private=plan.allow_private,
                timeout_s=plan.timeouts.total_s,
                ca_file=plan.ca_file,
            )
        )
        yield Endpoints(
            reached,
            plan.retry,
            fallbacks=plan.fallbacks,
            budget=budget,
            delivery=delivery,
            clock=world.clock,
            now=world.now,
        )


async def limits_of(plan: Plan, world: Surroundings) -> dict[str, Limits]:
    """By endpoint: what a person says of its limits, and the level that an earlier run found."""
    limits = {}
    for one in plan.endpoints:
        level = None
        if one.slots is None:
            level = await world.off_loop(remembered_level, plan.out, one.name, plan.model)
        limits[one.name] = Limits(one.slots, one.rpm, one.tpm, plan.max_outage_s, level)
    return limits
