"""A plan becomes a run: opens manifest, endpoint and store, runs, and leaves run.json behind.

The order matters: everything a person can get wrong is found before the endpoint is spoken to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.metadata import version

import anyio
import anyio.to_thread

from pipeline.analyze import Endpoint, utc_now
from pipeline.dialects import DIALECTS
from pipeline.errors import StoreUnwritable
from pipeline.gate import Gate
from pipeline.manifest import Defaults, Manifest, open_manifest
from pipeline.plan import Plan, Secrets
from pipeline.pricing import ListPrices, PriceBook
from pipeline.recorder import Recorder
from pipeline.records import RunState
from pipeline.retry import retrying
from pipeline.run import Feed, Run, Summary
from pipeline.store.reader import EMBEDDED
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally
from pipeline.transport import WireSettings, open_transport


def _unwatched(run: Run, tally: Tally, notes: Sequence[str]) -> None:
    """Nobody watches."""


async def launch(
    plan: Plan,
    secrets: Secrets,
    *,
    on_start: Callable[[Run, Tally, Sequence[str]], None] = _unwatched,
    at_once: anyio.CancelScope | None = None,
) -> Summary:
    """Run a plan to its end. ``on_start`` gets the live run, its counts, and what a person should know first.

    Cancelling ``at_once`` drops what is in flight; what had been answered is still written.

    Raises:
        UsageError: a person's mistake; nothing was sent.
    """
    manifest = await anyio.to_thread.run_sync(open_manifest, plan.manifest)
    writer = RunWriter(plan.out, plan.run_id, plan.started_at.astimezone(plan.timezone))
    writer.open()
    tally = Tally(rows_total=manifest.rows_total)
    is_embedded = plan.base_url is None
    recorder = Recorder(writer, tally, job=plan.job, endpoint_of_bad_rows=EMBEDDED if is_embedded else None)
    prices = ListPrices()
    # Here, in a thread, because the first look loads the list.
    rates = await anyio.to_thread.run_sync(prices.rates, plan.model, plan.started_at)
    notes = [*manifest.notes]
    if rates is None:
        notes.append(f"no price is known for model {plan.model!r}: what it costs will be null, not zero")
    async with _open_endpoint(plan, secrets, prices) as endpoint:
        defaults = Defaults(model=plan.model, prompt=plan.prompt, parameters=plan.parameters)
        run = Run(Feed(manifest.read(defaults)), endpoint, recorder, limit=plan.limit)
        writer.write_run(_facts(plan, manifest, prices, run, tally, "running"))
        on_start(run, tally, notes)
        with at_once or anyio.CancelScope():
            await run.execute()
    summary = Summary(plan.run_id, plan.job, run.state, plan.started_at, utc_now(), run.halts, tally)
    try:
        facts = _facts(plan, manifest, prices, run, tally, run.state)
        writer.write_run({**facts, "finished_at": summary.finished_at})
    except StoreUnwritable:
        if run.state != "halted":
            raise
    return summary


@asynccontextmanager
async def _open_endpoint(plan: Plan, secrets: Secrets, prices: PriceBook) -> AsyncIterator[Endpoint]:
    if plan.base_url is None:
        # The embedded endpoint brings decoders that a run against a real one never needs.
        from pipeline.embedded import serve_embedded

        async with (
            serve_embedded() as base_url,
            _reach(plan, base_url, EMBEDDED, Secrets(), prices) as endpoint,
        ):
            yield endpoint
    else:
        async with _reach(plan, plan.base_url, plan.base_url, secrets, prices) as endpoint:
            yield endpoint


@asynccontextmanager
async def _reach(
    plan: Plan, base_url: str, name: str, secrets: Secrets, prices: PriceBook
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
    async with open_transport(wire) as transport:
        yield Endpoint(name, dialect, transport, gate, prices, retrying(plan.retry, gate.sleep))


def _facts(
    plan: Plan, manifest: Manifest, prices: ListPrices, run: Run, tally: Tally, state: RunState
) -> dict[str, object]:
    """What run.json says: the plan without secrets, versions, and what the run has come to."""
    return {
        "run_id": plan.run_id,
        "job": plan.job,
        "state": state,
        "started_at": plan.started_at,
        "plan": {
            "manifest": plan.manifest,
            "manifest_digest": manifest.digest,
            "endpoint": plan.base_url or EMBEDDED,
            "dialect": plan.dialect,
            "model": plan.model,
            "prompt": plan.prompt,
            "parameters": dict(plan.parameters),
            "concurrency": plan.slots,
            "max_attempts": plan.retry.max_attempts,
            "timeout_s": plan.timeouts.total_s,
            "limit": plan.limit,
            "max_failed": plan.max_failed,
            "timezone": plan.timezone.key,
            "headers": list(plan.header_names),
        },
        "versions": {name: version(name) for name in ("mediabatch", "polars", "httpx", "pyreqwest")},
        "price_book": asdict(prices.identity()),
        "totals": {
            "rows": tally.rows_total,
            "ok": tally.ok,
            "failed": tally.failed,
            "skipped": 0,
            "not_attempted": tally.not_attempted,
            "attempts": tally.attempts,
            "possibly_billed": tally.possibly_billed,
            "cost": {currency: f"{cost:f}" for currency, cost in tally.cost.items()},
        },
        "halts": [
            {
                "endpoint": halt.endpoint,
                "model": halt.model,
                "error_class": halt.error_class,
                "message": halt.message,
            }
            for halt in run.halts
        ],
    }
