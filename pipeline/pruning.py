"""What is old and superseded leaves the store: retention.

Of runs whose last sign of life is older than what is kept:

- results go, but for the latest outcome of every item, and the newest ``ok`` of every request, by which a
  later run knows that it need not ask (and pay) again;
- attempts go, but for those that may have been billed, and those that were billed and were no answer;
- rows at rest go, but for those of items that have no outcome of their own;
- a ledger goes: what it held stands in parts. Such a run cannot be resumed any more.

Costs stay, all of them, and so does run.json: what was paid is never forgotten, and every bill, of any day,
is what it was. Of old rehearsals, which cost nothing and count nowhere, nothing stays but run.json.

Whatever its age, the ledger goes of a run that stopped half-way, once a later run has gone through the same
manifest to its end.

Killed in between, it goes on where it was when it is called again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import StoreUnwritable
from pipeline.plan import Plan, plan_of
from pipeline.records import EMBEDDED
from pipeline.session import settle_job
from pipeline.store.locking import job_lock
from pipeline.store.places import Place, found, on_disk
from pipeline.store.reader import latest_outcomes, runs_of, scan
from pipeline.store.writer import RunWriter
from pipeline.surroundings import THE_REAL_ONES, Surroundings

BY = "prune"
"""Who holds the job's lock meanwhile."""

_ROW = ("run_id", "row")


@dataclass(slots=True)
class Pruned:
    """What went, or would go. ``notes`` are sentences for a person."""

    runs: int = 0
    results: int = 0
    attempts: int = 0
    rest: int = 0
    costs: int = 0  # of rehearsals
    ledgers: int = 0
    freed_bytes: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Run:
    plan: Plan
    facts: dict[str, Any]
    is_old: bool  # else it was left half-way, and superseded


def prune(
    out: Place, job: str, before: datetime, *, is_dry: bool = False, world: Surroundings = THE_REAL_ONES
) -> Pruned:
    """Let go of what no longer counts of the job's runs that ended before that instant.

    Raises:
        UsageError: somebody runs the job, or there is no store.
        StoreUnwritable: the store takes no writes.
    """
    runs = runs_of(out, job)
    if not runs:
        return Pruned()
    notes: list[str] = []
    if not is_dry:
        notes = settle_job(replace(plan_of(runs[-1], out), run_id=BY), world)
    with job_lock(out, job, BY):
        return _prune(out, job, before, is_dry, world, notes)


def _prune(
    out: Place, job: str, before: datetime, is_dry: bool, world: Surroundings, notes: list[str]
) -> Pruned:
    chosen = list(_chosen(out, job, before))
    old = [one for one in chosen if one.is_old]
    superseded = _superseded(out, job, [one.plan.run_id for one in old])
    at_rest = _at_rest(out, job, [one.plan.run_id for one in old])
    pruned = Pruned(runs=len(old), notes=tuple(notes))
    for one in chosen:
        writer = world.run_writer(out, one.plan.run_id, one.plan.started_at.astimezone(one.plan.timezone))
        if not is_dry and "pruned_at" not in one.facts:
            writer.write_run({**one.facts, "pruned_at": world.now()})  # first: from here on it is not resumed
        pruned.ledgers += _drop_ledger(one.plan, pruned, is_dry)
        if one.is_old:
            _prune_run(one.plan, writer, superseded, at_rest, pruned, is_dry)
    return pruned


def _chosen(out: Place, job: str, before: datetime) -> Iterator[_Run]:
    """Runs at rest that are old, or were left half-way and superseded."""
    last = _last_signs(out, job)
    finished: dict[str, str] = {}  # manifest → when the newest run began that went through all of it
    runs = runs_of(out, job)
    for facts in runs:
        plan = plan_of(facts, out)
        if facts["state"] == "done" and plan.anew is None and plan.limit is None:
            finished[plan.manifest] = max(str(facts["started_at"]), finished.get(plan.manifest, ""))
    for facts in runs:
        if "finished_at" not in facts and "settled_at" not in facts:
            continue  # it may be going on
        plan = plan_of(facts, out)
        if max(plan.started_at, last.get(plan.run_id, plan.started_at)) < before:
            yield _Run(plan, facts, is_old=True)
        elif (
            facts["state"] != "done"
            and plan.anew is None
            and str(facts["started_at"]) < finished.get(plan.manifest, "")
        ):
            yield _Run(plan, facts, is_old=False)


def _last_signs(out: Place, job: str) -> dict[str, datetime]:
    """By run: when it last sent or ended anything."""
    signs = [
        scan(out, dataset).filter(job=job).group_by("run_id").agg(at.max().alias("at"))
        for dataset, at in (
            ("attempts", pl.coalesce("done_at", "sent_at")),
            ("results", pl.col("finished_at")),
            ("costs", pl.col("at")),
        )
    ]
    found = pl.concat(signs).group_by("run_id").agg(pl.col("at").max()).collect(engine="streaming")
    return dict(found.iter_rows())


def _superseded(out: Place, job: str, runs: list[str]) -> pl.DataFrame:
    """Rows of these runs' results that nothing needs any more."""
    results = scan(out, "results").filter(job=job)
    # Of a request instead of an item: the same question, asked of another column.
    answered = latest_outcomes(
        results.filter(pl.col("status") == "ok", pl.col("request_key").is_not_null()).select(
            *_ROW, "job", "status", "finished_at", "endpoint", item_id="request_key"
        )
    )
    kept = pl.concat([latest_outcomes(results).select(_ROW), answered.select(_ROW)])
    here = results.filter(pl.col("run").is_in(runs)).select(_ROW)
    return here.join(kept, on=_ROW, how="anti").collect(engine="streaming")


def _at_rest(out: Place, job: str, runs: list[str]) -> pl.DataFrame:
    """Rows at rest of these runs by which a report knows of an item: it has no outcome of its own."""
    rest = scan(out, "rest").filter(pl.col("run").is_in(runs))
    ended = scan(out, "results").filter(pl.col("endpoint").ne_missing(EMBEDDED), job=job).select("item_id")
    return rest.join(ended, on="item_id", how="anti").select(_ROW).collect(engine="streaming")


def _prune_run(
    plan: Plan,
    writer: RunWriter,
    superseded: pl.DataFrame,
    at_rest: pl.DataFrame,
    pruned: Pruned,
    is_dry: bool,
) -> None:
    goes = superseded.filter(run_id=plan.run_id)["row"].implode()
    stays = at_rest.filter(run_id=plan.run_id)["row"].implode()
    kept: dict[str, pl.Expr] = {
        "results": ~pl.col("row").is_in(goes),
        "attempts": (pl.col("state") == "possibly_billed")
        | ((pl.col("state") == "billed") & pl.col("error_class").is_not_null()),
        "rest": pl.col("row").is_in(stays),
    }
    if plan.is_rehearsal:
        kept = dict.fromkeys((*kept, "costs"), pl.lit(False))
    for dataset, keep in kept.items():
        count = 0
        for place in found(writer.dataset_folder(dataset), "*.parquet"):
            file = on_disk(place)
            before = pl.read_parquet(file, hive_partitioning=False)
            after = before.filter(keep)
            count += before.height - after.height
            if not is_dry and after.height < before.height:
                pruned.freed_bytes += file.stat().st_size - writer.replace(place, after)
        setattr(pruned, dataset, getattr(pruned, dataset) + count)
        if not is_dry:
            _remove_if_empty(writer.dataset_folder(dataset))


def _drop_ledger(plan: Plan, pruned: Pruned, is_dry: bool) -> int:
    """Its files, those set aside as damaged included. Returns 1 where there was one."""
    ledger = plan.ledger_path
    files = sorted(ledger.parent.glob(f"{ledger.name}*"))
    ballast = ledger.with_suffix(".ballast")
    for path in () if is_dry else (*files, *([ballast] if ballast.exists() else [])):
        try:
            size_bytes = path.stat().st_size
            path.unlink()
        except OSError as error:
            raise StoreUnwritable(path, error.strerror or str(error)) from None
        pruned.freed_bytes += size_bytes
    return 1 if files else 0


def _remove_if_empty(folder: Place) -> None:
    if isinstance(folder, Path):  # in a bucket there are no folders
        for empty in (folder, folder.parent):
            with suppress(OSError):
                empty.rmdir()
