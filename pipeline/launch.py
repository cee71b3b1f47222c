"""A plan becomes a run: opens manifest, endpoint and store, runs, and leaves run.json behind.

The order matters: everything a person can get wrong is found before the endpoint is spoken to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import anyio

from pipeline.asked import defaults_of
from pipeline.engines import Engine, Running, Work, in_this_process
from pipeline.errors import LedgerDamaged, ManifestError, StoreUnwritable
from pipeline.manifest import Defaults
from pipeline.media.delivery import MISSING_EXTRA, has_extra
from pipeline.plan import Plan, Secrets
from pipeline.prices import Prices
from pipeline.recorder import Follow, Recorder
from pipeline.records import Item
from pipeline.reprocessing.selection import Source, open_source
from pipeline.run import Feed, Summary
from pipeline.session import Session
from pipeline.surroundings import THE_REAL_ONES, Surroundings
from pipeline.tally import Tally


def _unwatched(run: Running, tally: Tally, notes: Sequence[str]) -> None:
    """Nobody watches."""


async def launch(
    plan: Plan,
    secrets: Secrets,
    *,
    on_start: Callable[[Running, Tally, Sequence[str]], None] = _unwatched,
    at_once: anyio.CancelScope | None = None,
    follow: Follow | None = None,
    world: Surroundings = THE_REAL_ONES,
    engine: Engine = in_this_process,
) -> Summary:
    """Run a plan to its end, or go on with it where the store has a run of this name.

    ``on_start`` gets the live run, its counts, and what a person should know first. Cancelling ``at_once``
    drops what is in flight, which is then listed as possibly billed; what had been answered is written.
    ``follow`` gets rows as they end, once they are durable; while it takes its time, nothing new is recorded.
    ``engine``: where it executes.

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
        return await _run(session, defaults, secrets, prices, engine, on_start, at_once, follow)
    finally:
        session.close()


async def _run(
    session: Session,
    defaults: Defaults,
    secrets: Secrets,
    prices: Prices,
    engine: Engine,
    on_start: Callable[[Running, Tally, Sequence[str]], None],
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
        feed = Feed(session.manifest.read(defaults, session.passed), off_loop=world.off_loop)
        work = Work(plan, secrets, prices, budget, feed, recorder, session.repeats, world)
        async with engine(work) as run:
            await world.off_loop(session.write_run, "running")
            on_start(run, tally, session.notes)
            with at_once:
                await run.execute()
            session.limits_met = session.limits_met.and_then(run.vitals().limits_met)
            session.levels = run.levels
            saved = run.saved
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
