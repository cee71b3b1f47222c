"""What the ledger costs, and how soon a great run that was killed goes on.

``python -m benchmarks.ledgers cost`` and ``… make FOLDER`` are the children; the parts of the bench are
`measure_ledger` and `measure_resume`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import orjson

from benchmarks import work
from benchmarks.figures import Figures
from benchmarks.measuring import Broken, measure, python_server, server_stats
from benchmarks.verdicts import Verdict, tell
from pipeline.dialects import DIALECTS, media_seen
from pipeline.keys import request_key
from pipeline.ledger import Group, Ledger
from pipeline.manifest import Defaults, open_manifest
from pipeline.off_loop import own_thread
from pipeline.plan import EndpointPlan, Plan
from pipeline.pricing import ListPrices, price
from pipeline.recorder import Recorder
from pipeline.records import Attempt, Item, Outcome
from pipeline.sealing import PART_ITEMS, Batch, seal
from pipeline.session import Session
from pipeline.store.resting import Duplicates, Rest
from pipeline.store.rows import NO_TRIES, Entry, Writing, micros
from pipeline.store.writer import RunWriter
from pipeline.surroundings import THE_REAL_ONES
from pipeline.tally import Tally

LEDGER_TARGET_US = 40.0
FIRST_REQUEST_TARGET_S = 5.0
MEMORY_TARGET_BYTES = 400_000_000.0
NOW = datetime(2026, 3, 5, 22, 0, tzinfo=UTC)


def measure_ledger(items: int, rounds: int) -> Figures:
    """CPU of the ledger alone, an item: recorded as sent and as done, in groups of ``at_once`` items.

    Raises:
        Broken: the child failed.
    """
    found: dict[str, float] = {}
    for at_once in (16, 256):
        runs = [
            orjson.loads(
                measure([sys.executable, "-m", "benchmarks.ledgers", "cost", str(items), str(at_once)]).stdout
            )["us_per_item"]
            for _ in range(rounds)
        ]
        found[str(at_once)] = sorted(runs)[len(runs) // 2]
    verdicts = [
        Verdict(f"CPU an item, {at_once} at a time", us, "at most", LEDGER_TARGET_US, "µs")
        for at_once, us in found.items()
    ]
    tell(verdicts)
    return Figures(
        what="ledger",
        settings={"items": items, "rounds": rounds},
        found={"us_per_item": found, "verdicts": [one.kept() for one in verdicts]},
    )


def measure_resume(rows: int, left: int) -> Figures:
    """A killed run of ``rows`` with ``left`` to go: until its first new request, and at what memory.

    Raises:
        Broken: it failed, or asked for anything that had been answered.
    """
    with tempfile.TemporaryDirectory(prefix="mediabatch-resume-") as name, python_server() as base_url:
        folder = Path(name)
        made = [
            sys.executable,
            "-m",
            "benchmarks.ledgers",
            "make",
            str(folder),
            base_url,
            str(rows),
            str(left),
        ]
        measure(made)
        command = [sys.executable, "-m", "jobs", "resume", "great", "--out", str(folder / "out")]
        began_at = time.time()
        took = measure([*command, "--no-progress", "--json", "--concurrency", "256"])
        stats = server_stats(base_url)
        summary = orjson.loads(took.stdout)
    if stats["answered"] != left or summary["ok"] != rows:
        raise Broken(f"asked {stats['answered']:,} times for {left:,} rows; {summary['ok']:,} of {rows:,} ok")
    first_s = stats["first_at"] - began_at
    went_on = f"first request, {rows:,} rows with {left:,} to go"
    verdicts = [
        Verdict(went_on, first_s, "at most", FIRST_REQUEST_TARGET_S, "s"),
        Verdict("memory", took.peak_bytes, "at most", MEMORY_TARGET_BYTES, "MB"),
    ]
    tell(verdicts)
    return Figures(
        what="resume",
        settings={"rows": rows, "left": left},
        found={
            "first_request_s": first_s,
            "peak_bytes": took.peak_bytes,
            "wall_s": took.wall_s,
            "verdicts": [one.kept() for one in verdicts],
        },
    )


def _cost(items: int, at_once: int) -> None:
    """Print the CPU an item that the ledger's own work takes, threads included."""
    outcomes = [_outcome(item) for item in _items(items)]
    with tempfile.TemporaryDirectory(prefix="mediabatch-ledger-") as name:
        with_ledger = anyio.run(_record, outcomes, at_once, Path(name), backend_options={"use_uvloop": True})
    rows_alone = _rows_alone(outcomes)
    print(orjson.dumps({"us_per_item": (with_ledger - rows_alone) / items * 1e6}).decode())


async def _record(outcomes: list[Outcome], at_once: int, folder: Path) -> float:
    """CPU seconds of recording them all, without making parts of them."""
    writing, tally = Writing("bench", "default", None), Tally()
    writer = RunWriter(folder, "bench", NOW)
    with Ledger.open(folder / "ledger.sqlite") as ledger, own_thread() as flush_off_loop:
        recorder = Recorder(
            ledger,
            writer,
            writing,
            tally,
            Rest("bench", "default"),
            Duplicates(),
            flush_off_loop=flush_off_loop,
        )
        numbers = iter(range(len(outcomes)))

        async def work_off() -> None:
            for number in numbers:
                outcome = outcomes[number]
                item = outcome.item
                ticket = await recorder.sent(item.row, item.id, micros(NOW), "bench", work.MODEL, "newapi")
                await recorder.put(replace(outcome, last=replace(outcome.last, ticket=ticket)))

        began = time.process_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(recorder.commit_groups, _fail)
            async with anyio.create_task_group() as workers:
                for _ in range(at_once):
                    workers.start_soon(work_off)
            while tally.ok < len(outcomes):  # noqa: ASYNC110 # nobody tells when the last group is durable
                await anyio.sleep(0.001)
            took = time.process_time() - began
            tasks.cancel_scope.cancel()
    return took


def _rows_alone(outcomes: list[Outcome]) -> float:
    """CPU seconds of what is done with or without a ledger: rows, counts, a part's lists."""
    writing, batch, tally = Writing("bench", "default", None), Batch(1), Tally()
    began = time.process_time()
    for seq, outcome in enumerate(outcomes, 1):
        outcome = replace(outcome, last=replace(outcome.last, ticket=seq))
        entry = writing.ended(outcome, NO_TRIES.and_then([outcome.last]), None)
        tally.add(entry)
        batch.add(seq, entry)
    return time.process_time() - began


def _make(folder: Path, base_url: str, rows: int, left: int) -> None:
    """A store as a process leaves it that was killed when all but ``left`` rows had ended."""
    manifest_path = work.write_manifest(folder / "manifest.parquet", rows)
    manifest = open_manifest(str(manifest_path))
    plan = Plan(
        run_id="great",
        job="default",
        manifest=str(manifest_path),
        out=folder / "out",
        endpoints=(EndpointPlan(base_url, "newapi", slots=256),),
        model=work.MODEL,
        prompt=work.PROMPT,
        parameters={"max_tokens": work.MAX_TOKENS},
        started_at=NOW,
        timezone=ZoneInfo("UTC"),
    )
    session = Session.open(plan, manifest, (ListPrices().identity(),), THE_REAL_ONES)
    session.write_run("running")
    batch = Batch(1)
    done: list[tuple[int, bytes]] = []
    for seq, item in enumerate(_all_items(manifest.read(_defaults())), 1):
        if seq > rows - left:
            break
        entry = session.writing.ended(*_ending(item), None)
        done.append((seq, entry.encode()))
        batch.add(seq, entry)
        if len(batch) >= PART_ITEMS:
            session.ledger.commit(Group(done=done, sealed=[seal(batch, session.writer)]))
            batch, done = Batch(seq + 1), []
    session.ledger.commit(Group(done=done))
    session.close()


def entries(count: int) -> Iterator[Entry]:
    """What the ends of so many items put on record."""
    writing = Writing("bench", "default", None)
    for item in _items(count):
        yield writing.ended(*_ending(item), None)


def _ending(item: Item) -> tuple[Outcome, Any]:
    outcome = _outcome(item)
    return outcome, NO_TRIES.and_then([outcome.last])


def _items(count: int) -> Iterator[Item]:
    with tempfile.TemporaryDirectory() as folder:
        manifest = open_manifest(str(work.write_manifest(Path(folder) / "manifest.parquet", count)))
        yield from _all_items(manifest.read(_defaults()))


def _all_items(batches: Iterator[Any]) -> Iterator[Item]:
    for batch in batches:
        yield from batch


def _defaults() -> Defaults:
    return Defaults(work.MODEL, work.PROMPT, {"max_tokens": work.MAX_TOKENS})


_shared = SimpleNamespace(attempt=None, seen=None)


def _outcome(item: Item) -> Outcome:
    """What the recorded reply comes to for this item."""
    if _shared.attempt is None:
        reply = DIALECTS["newapi"].parse(work.reply_body(), item.request)
        assert reply.usage is not None
        modalities = [media.modality for media in item.request.media]
        priced = price(reply.usage.counts, ListPrices().rates(work.MODEL, NOW), modalities)
        _shared.seen = media_seen(item.request, reply.usage)
        _shared.attempt = Attempt(
            ticket=0,
            number=1,
            sent_at=NOW,
            done_at=NOW,
            state="billed",
            endpoint="bench",
            model=work.MODEL,
            dialect="newapi",
            http_status=200,
            request_id="bench",
            error=None,
            reply=reply,
            charges=priced.charges,
            cost=priced.cost,
            cost_low=priced.cost_low,
            cost_high=priced.cost_high,
        )
    return Outcome(item, request_key(item.request), _shared.attempt, None, _shared.seen)


def _fail(problem: Exception) -> None:
    raise problem


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "cost":
        _cost(int(rest[0]), int(rest[1]))
    else:
        folder, base_url, rows, left = rest
        shutil.rmtree(Path(folder) / "out", ignore_errors=True)
        _make(Path(folder), base_url, int(rows), int(left))


if __name__ == "__main__":
    main()
