"""A plan becomes a run: opens manifest, endpoint and store, runs, and leaves run.json behind.

The order matters: everything a person can get wrong is found before the endpoint is spoken to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio

from pipeline.asked import defaults_of
from pipeline.budget import Budget
from pipeline.dialects import DIALECTS
from pipeline.endpoints import Endpoint, Endpoints
from pipeline.errors import LedgerDamaged, ManifestError, StoreUnwritable
from pipeline.gate import Gate, Limits
from pipeline.manifest import Defaults
from pipeline.media.delivery import MISSING_EXTRA, has_extra
from pipeline.plan import Plan, Secrets
from pipeline.prices import Prices
from pipeline.recorder import Follow, Recorder
from pipeline.records import Item
from pipeline.reprocessing.selection import Source, open_source
from pipeline.run import Feed, Run, Summary
from pipeline.session import Session
from pipeline.store.reader import remembered_level
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
    follow: Follow | None = None,
    world: Surroundings = THE_REAL_ONES,
) -> Summary:
    """Run a plan to its end, or go on with it where the store has a run of this name.

    ``on_start`` gets the live run, its counts, and what a person should know first. Cancelling ``at_once``
    drops what is in flight, which is then listed as possibly billed; what had been answered is written.
    ``follow`` gets rows as they end, once they are durable; while it takes its time, nothing new is recorded.

    Raises:
        UsageError: a person's mistake; nothing was sent.
        StoreUnwritable, LedgerDamaged: the store is in no state to begin; nothing was sent.
    """
    off_loop = world.off_loop
    defaults = await off_loop(defaults_of, plan)
    manifest = await off_loop(open_source, plan, secrets.manifest)
    await off_loop(manifest.check, defaults)
    if not has_extra():
        await off_loop(_check_extra, plan, defaults, manifest)
    # In a thread, because the first look loads the list.
    prices = await off_loop(Prices.of, plan, world.price_book())
    prices.check_budget(plan)
    session = await off_loop(Session.open, plan, manifest, prices.identities, world)
    try:
        if not prices.know(plan):
            session.notes.append(
                f"no price is known for model {plan.model!r}: what it costs will be null, not zero"
            )
        at_once = at_once or anyio.CancelScope()
        return await _run(session, defaults, secrets, prices, on_start, at_once, follow)
    finally:
        session.close()


async def _run(
    session: Session,
    defaults: Defaults,
    secrets: Secrets,
    prices: Prices,
    on_start: Callable[[Run, Tally, Sequence[str]], None],
    at_once: anyio.CancelScope,
    follow: Follow | None,
) -> Summary:
    plan, tally, world = session.plan, session.tally, session.world
    budget = await world.off_loop(prices.budget, plan, tally, world.now)
    with world.own_thread() as flush_off_loop:
        recorder = Recorder(
            session.ledger,
            session.writer,
            session.writing,
            tally,
            session.rest,
            session.duplicates,
            off_loop=world.off_loop,
            flush_off_loop=flush_off_loop,
            part_items=world.part_items,
            follow=follow,
        )
        began_at = world.now()
        async with _reach_all(plan, secrets, prices, budget, world) as endpoints:
            feed = Feed(session.manifest.read(defaults, session.passed), off_loop=world.off_loop)
            run = Run(
                feed,
                endpoints,
                recorder,
                session.repeats,
                limit=plan.limit,
                stop_if_unseen=plan.stop_if_unseen,
            )
            await world.off_loop(session.write_run, "running")
            on_start(run, tally, session.notes)
            with at_once:
                await run.execute()
            session.limits_met = session.limits_met.and_then(endpoints.limits_met())
            session.levels = {one.name: one.gate.level for one in endpoints if one.gate.level is not None}
            saved = endpoints.delivery.saved
        try:
            with anyio.CancelScope(shield=True):
                # Once more, where that failed: what is at hand must not be settled as lost.
                await recorder.close()
                tally = await world.off_loop(session.finish, run.state, run.halts)
        except (StoreUnwritable, LedgerDamaged) as error:
            run.halt(error)
            with suppress(StoreUnwritable), anyio.CancelScope(shield=True):
                await world.off_loop(session.write_run, run.state, run.halts)
    return Summary(
        plan.run_id,
        plan.job,
        run.state,
        plan.started_at,
        began_at,
        world.now(),
        run.halts,
        tally,
        session.estimate,
        saved,
    )


def _check_extra(plan: Plan, defaults: Defaults, manifest: Source) -> None:
    """Of the first rows. Where only later ones need it, those fail, and say the same.

    Raises:
        ManifestError: one of them has media in a bucket.
    """
    for row in next(manifest.read(defaults), []):
        if isinstance(row, Item) and any(media.is_in_bucket for media in row.request.media):
            raise ManifestError(plan.manifest, f"row {row.row}: {MISSING_EXTRA}")


@asynccontextmanager
async def _reach_all(
    plan: Plan, secrets: Secrets, prices: Prices, budget: Budget | None, world: Surroundings
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
            level = None
            if one.slots is None:
                level = await world.off_loop(remembered_level, plan.out, one.name, plan.model)
            limits = Limits(one.slots, one.rpm, one.tpm, plan.max_outage_s, level)
            gate = Gate(limits, host=one.name, clock=world.clock, unix_clock=lambda: world.now().timestamp())
            book = prices.of_endpoint[one.name]
            reached.append(Endpoint(one.name, dialect, transport, gate, book, frozenset(one.models)))
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
