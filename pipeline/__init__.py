"""mediabatch, the library: media in, analyses and an exact bill out. No click here, and no printing.

A row's journey::

    manifest → item → request → gate → dialect.render → transport → dialect.parse → counts → cost → store

`analyze.py` tells that story for ONE item; start reading there. `run.py` tells it for many.

    errors.py      the exception tree, drawn in its docstring
    records.py     frozen dataclasses of the words: item, request, reply, token count, attempt, outcome
    plan.py        everything that decides what a run asks and how, without a secret
    manifest/      files → items, streamed; bad rows become failed outcomes
    media/         urls.py (signatures, identity), kinds.py (modality, MIME), delivery.py, probing.py
    keys.py        the request key
    dialects/      one file a dialect: render, parse, classify; usage → exclusive token counts
    pricing/       price books and the arithmetic
    tokens.py      token rules, for estimates and the embedded endpoint
    transport.py   the wire behind httpx's transport interface; foreign errors mapped once; holds the secrets
    retry.py       one tenacity policy, Retry-After aware
    gate.py        slots and holds
    halting.py     when an endpoint has shown that it answers nobody
    analyze.py     ONE item, end to end
    tally.py       what a run has come to so far
    recorder.py    outcomes as they come → parts
    run.py         many items: bounded fan-out, stop conditions
    launch.py      a plan becomes a run
    store/         Parquet datasets: schemas, rows, writer, reader
    embedded/      the embedded endpoint: real HTTP, real media facts, no model

Imports run one way, from `jobs` down to `records`; `tests/test_floors.py` holds the floors. Rules (pricing,
dialects, errors, records) import no HTTP and no event loop.
"""
