"""mediabatch, the library: media in, analyses and an exact bill out. No click here, and no printing.

A row's journey::

    manifest → item → request → gate → ledger(sent) → dialect.render → transport → dialect.parse
        → counts → cost → ledger(done) → store

`analyze.py` tells that story for ONE item; start reading there. `run.py` tells it for many, `session.py` over
crashes and mornings after.

    errors.py      the exception tree, drawn in its docstring
    records.py     frozen dataclasses of the words: item, request, reply, token count, attempt, outcome
    plan.py        everything that decides what a run asks and how, without a secret
    templates.py   prompts that are templates over a row's cells
    manifest/      files → items, streamed; bad rows become failed outcomes
    media/         urls.py (signatures, identity), kinds.py (modality, MIME), probing.py (facts of bytes);
                   delivery.py (what stands in a body for each), splicing.py (files into bodies, as those are
                   sent); inlining.py (media that go inline, in files): downloading.py, buckets.py,
                   judging.py, shrinking.py, spool.py; reach.py (`auto`); guarding.py (which addresses
                   may be asked), visiting.py (how they are), fetching.py (first bytes)
    buckets.py     objects in buckets, and what their errors mean
    keys.py        the request key; keytable.py tells millions of them apart in a few bytes each
    dialects/      one file a dialect: render, parse, classify; usage → exclusive token counts
    typed/         answers that keep to a JSON Schema: sent, checked, one typed column
    pricing/       price books and the arithmetic
    tokens.py      token rules, for estimates and the embedded endpoint
    wire.py        pyreqwest (Rust) as an httpx transport that reads every answer whole
    transport.py   posts through any httpx transport; foreign errors mapped once; holds the secrets
    retry.py       one tenacity policy, Retry-After aware
    gate/          what admits attempts: slots that adapt, requests and tokens a minute, holds, outages
    endpoints.py   the endpoints of a run, in order of preference
    halting.py     when an endpoint has shown that it answers nobody
    ledger.py      the run's crash-safe record, written ahead: SQLite
    store/         Parquet datasets in a folder or a bucket: schemas, rows, writer, reader; rest, the lock
    tally.py       what a run has come to so far, counted from rows
    recorder.py    the one door to the disk: nothing goes before it is on record, nothing counts before
    sealing.py     ledger → parts, verified
    settling.py    where a run stands, whatever ended it: the rest into parts, what was under way as lost
    salvage.py     a damaged ledger made anew
    repeats.py     what was asked before, by an earlier run or row
    estimates.py   an estimate, kept for the run it is of
    analyze.py     ONE item, end to end
    run.py         many items: bounded fan-out, stop conditions
    asked.py       what a plan asks of rows that say nothing themselves
    prices.py      what prices a run's answers, endpoint by endpoint
    budget.py      what may be spent: an attempt goes only where what it can cost fits
    off_loop.py    how a blocking call leaves the event loop
    surroundings.py  what a run meets outside itself, behind one seam: threads, wire, prices, clock, disk
    asking.py      what an endpoint honours: one tiny question a modality
    session.py     a run on its store, once or resumed: lock, settle, go on, finish
    engines/       where items are asked: in this process, or by workers on a Ray cluster
    launch.py      a plan becomes a run
    following.py   a run as a stream of rows, for programs
    batch_file.py  … or a file of the requests it would send
    watching.py    a run as another process sees it
    pruning.py     what is old and superseded leaves the store
    reprocessing/  items chosen by their latest outcome → the rows of a new run
    estimating/    a manifest → what it will cost: media looked at, token rules, what replies have shown
    report/        outcomes and costs over the store, as lazy queries
    embedded/      the embedded endpoint: real HTTP, real media facts, no model

Imports run one way, from `jobs` down to `records`; `tests/test_floors.py` holds the floors. Rules (pricing,
dialects, errors, records) import no HTTP and no event loop.

For programs, `from pipeline import …` gives what the commands themselves are made of:

    Plan, EndpointPlan, Secrets    what is asked, where, and with which key
    run_plan                       `launch.launch`: to its end, and a `Summary`
    follow_plan                    `following.following`: its rows as they end
    scan, latest_outcomes          the store as lazy frames
"""

from typing import Any

_GIVEN = {
    "EndpointPlan": ("pipeline.plan", "EndpointPlan"),
    "Plan": ("pipeline.plan", "Plan"),
    "Secrets": ("pipeline.plan", "Secrets"),
    "Summary": ("pipeline.run", "Summary"),
    # Not by their own names: those are modules of this package.
    "follow_plan": ("pipeline.following", "following"),
    "latest_outcomes": ("pipeline.store.reader", "latest_outcomes"),
    "run_plan": ("pipeline.launch", "launch"),
    "scan": ("pipeline.store.reader", "scan"),
}
__all__ = list(_GIVEN)


def __getattr__(name: str) -> Any:
    """Imported when asked for: a command needs few of them."""
    if name not in _GIVEN:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _GIVEN[name]
    return getattr(import_module(module), attribute)
