"""A plan becomes a run: opens manifest, endpoint and store, runs, and leaves run.json behind.

The order matters: everything a person can get wrong is found before the endpoint is spoken to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import anyio

from pipeline.analyze import Endpoint
from pipeline.dialects import DIALECTS
from pipeline.errors import LedgerDamaged, StoreUnwritable
from pipeline.gate import Gate
from pipeline.manifest import Defaults
from pipeline.plan import Plan, Secrets
from pipeline.pricing import PriceBook
from pipeline.recorder import Recorder
from pipeline.records import EMBEDDED
from pipeline.reprocessing.selection import open_source
from pipeline.retry import retrying
from pipeline.run import Feed, Run, Summary
from pipeline.session import Session
from pipeline.surroundings import THE_REAL_ONES, Surroundings
from pipeline.tally import Tally
from pipeline.transport import WireSettings


def _unwatched(run: Run, tally: Tally, notes: Sequence[str]) -> None:
    """Nobody watches."""


async def launch(
    plan: Plan,
    secrets: Secrets,
    *,
    on_start: Callable[[Run, Tally, Sequence[str]], None] = _unwatched,
    at_once: anyio.CancelScope | None = None,
    world: Surroundings = THE_REAL_ONES,
) -> Summary:
    """Run a plan to its end, or go on with it where the store has a run of this name.

    ``on_start`` gets the live run, its counts, and what a person should know first. Cancelling ``at_once``
    drops what is in flight, which is then listed as possibly billed; what had been answered is written.

    Raises:
        UsageError: a person's mistake; nothing was sent.
        StoreUnwritable, LedgerDamaged: the store is in no state to begin; nothing was sent.
    """
    off_loop = world.off_loop
    manifest = await off_loop(open_source, plan)
    prices = world.price_book()
    # Here, in a thread, because the first look loads the list.
    rates = await off_loop(prices.rates, plan.model, plan.started_at)
    session = await off_loop(Session.open, plan, manifest, prices.identity(), world)
    try:
        if rates is None:
            session.notes.append(
                f"no price is known for model {plan.model!r}: what it costs will be null, not zero"
            )
        return await _run(session, secrets, prices, on_start, at_once or anyio.CancelScope())
    finally:
        session.close()


async def _run(
    session: Session,
    secrets: Secrets,
    prices: PriceBook,
    on_start: Callable[[Run, Tally, Sequence[str]], None],
    at_once: anyio.CancelScope,
) -> Summary:
    plan, tally, world = session.plan, session.tally, session.world
    recorder = Recorder(
        session.ledger,
        session.writer,
        session.writing,
        tally,
        session.rest,
        session.duplicates,
        off_loop=world.off_loop,
        part_items=world.part_items,
    )
    defaults = Defaults(model=plan.model, prompt=plan.prompt, parameters=plan.parameters)
    began_at = world.now()
    async with _open_endpoint(plan, secrets, prices, world) as endpoint:
        feed = Feed(session.manifest.read(defaults, session.passed), off_loop=world.off_loop)
        run = Run(feed, endpoint, recorder, session.repeats, limit=plan.limit)
        session.write_run("running")
        on_start(run, tally, session.notes)
        with at_once:
            await run.execute()
    try:
        with anyio.CancelScope(shield=True):
            # Once more, where that failed: what is at hand must not be settled as lost.
            await recorder.close()
            tally = await world.off_loop(session.finish, run.state, run.halts)
    except (StoreUnwritable, LedgerDamaged) as error:
        run.halt(error)
        with suppress(StoreUnwritable):
            session.write_run(run.state, run.halts)
    return Summary(plan.run_id, plan.job, run.state, plan.started_at, began_at, world.now(), run.halts, tally)


@asynccontextmanager
async def _open_endpoint(
    plan: Plan, secrets: Secrets, prices: PriceBook, world: Surroundings
) -> AsyncIterator[Endpoint]:
    if plan.base_url is None:
        # The embedded endpoint brings decoders that a run against a real one never needs.
        from pipeline.embedded import serve_embedded

        async with (
            serve_embedded() as base_url,
            _reach(plan, base_url, EMBEDDED, Secrets(), prices, world) as endpoint,
        ):
            yield endpoint
    else:
        async with _reach(plan, plan.base_url, plan.base_url, secrets, prices, world) as endpoint:
            yield endpoint


@asynccontextmanager
async def _reach(
    plan: Plan, base_url: str, name: str, secrets: Secrets, prices: PriceBook, world: Surroundings
) -> AsyncIterator[Endpoint]:
    dialect = DIALECTS[plan.dialect]
    key = {"Authorization": f"Bearer {secrets.api_key}"} if secrets.api_key else {}
    wire = WireSettings(
        url=base_url + dialect.path,
        headers={**key, **secrets.headers},
        timeouts=plan.timeouts,
        ca_file=plan.ca_file,
    )
    gate = Gate(plan.slots)
    async with world.reach(wire) as transport:
        yield Endpoint(
            name,
            dialect,
            transport,
            gate,
            prices,
            retrying(plan.retry, gate.sleep),
            patience_s=plan.retry.max_total_s,
            now=world.now,
        )
