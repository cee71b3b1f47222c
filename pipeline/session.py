"""A session of a run on its store: what must be in order before the first request, and is put in order after
the last. A run has one session, and one more each time it is resumed.

Synchronous: `launch` brings the thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC
from functools import cache
from importlib.metadata import version
from typing import Any, Self

from pipeline.asked import schema_of
from pipeline.errors import LedgerDamaged, ManifestError, RunFinished, UsageError
from pipeline.estimates import kept as kept_estimate
from pipeline.gate import LimitsMet, limits_met
from pipeline.keytable import KeyTable
from pipeline.ledger import Ledger
from pipeline.manifest import Defaults
from pipeline.plan import Plan, plan_of, resumed
from pipeline.pricing import BookIdentity
from pipeline.records import EMBEDDED, RunState
from pipeline.repeats import Repeats
from pipeline.reprocessing.selection import Source, open_source
from pipeline.run import Halt
from pipeline.salvage import open_settled
from pipeline.settling import Standing, is_settled, settle
from pipeline.store.locking import job_lock, make_local_folder
from pipeline.store.places import InBucket
from pipeline.store.reader import every_run, has_run, run_facts
from pipeline.store.resting import Duplicates, Rest
from pipeline.store.rows import Writing
from pipeline.store.writer import RunWriter
from pipeline.surroundings import THE_REAL_ONES, Surroundings
from pipeline.tally import Tally


@dataclass(slots=True)
class Session:
    """What is open while a run goes on. ``notes`` are sentences for a person."""

    plan: Plan
    manifest: Source
    price_books: tuple[BookIdentity, ...]  # the most preferred first
    ledger: Ledger
    writer: RunWriter
    writing: Writing
    standing: Standing
    repeats: Repeats
    passed: bytearray  # by manifest row: 1 where an earlier session of this run ended it
    tally: Tally
    rest: Rest
    duplicates: Duplicates
    notes: list[str]
    world: Surroundings
    _open: ExitStack = field(repr=False)
    estimate: dict[str, Any] | None = None  # that somebody made of this run
    levels: dict[str, int] = field(default_factory=dict)  # by endpoint: slots that proved themselves
    limits_met: LimitsMet = field(default_factory=LimitsMet)  # over all sessions that ended

    @classmethod
    def open(
        cls, plan: Plan, manifest: Source, price_books: tuple[BookIdentity, ...], world: Surroundings
    ) -> Self:
        """Lock the job, settle what other runs of it left behind, and find out where this one stands.

        Raises:
            UsageError: somebody else runs the job, or the run was planned otherwise.
            StoreUnwritable, LedgerDamaged: the store is in no state to begin.
        """
        with ExitStack() as stack:
            stack.enter_context(job_lock(plan.out, plan.job, plan.run_id))
            plan, met = _checked(plan, manifest)
            notes = [*manifest.notes, *_settle_others(plan, world)]
            writer, writing = _writers(plan, world)
            writer.open()
            make_local_folder(plan.ledger_path.parent)
            ledger, standing, told = _open_settled(plan, writer, writing, world)
            stack.enter_context(ledger)
            notes.extend([*told, *_told(standing)])
            tally = standing.tally
            tally.rows_total = manifest.rows_total
            return cls(
                plan,
                manifest,
                price_books,
                ledger,
                writer,
                writing,
                standing,
                _repeats(plan, standing),
                _passed(manifest, standing),
                tally,
                Rest(plan.run_id, plan.job),
                Duplicates(),
                notes,
                world,
                stack.pop_all(),
                kept_estimate(plan, manifest.digest),
                limits_met=met,
            )

    def close(self) -> None:
        self._open.close()

    def finish(self, state: RunState, halts: Sequence[Halt]) -> Tally:
        """Bring everything into the store, and say what the run has come to over all its sessions.

        Raises:
            StoreUnwritable, LedgerDamaged: the ledger keeps what is not in parts yet; resume when it is
            mended.
        """
        standing = settle(self.ledger, self.writer, self.writing, self.world.part_items)
        tally = standing.tally
        tally.rows_total = self.manifest.rows_total
        tally.skipped, tally.not_attempted = self.tally.skipped, self.tally.not_attempted
        shared, left = self.duplicates.resolve(self.writer)
        tally.add_duplicates(shared)
        for item_id, row in left.select("item_id", "row").iter_rows():
            self.rest.add(item_id, row, "not_attempted")
            tally.not_attempted += 1
        self.rest.write(self.writer)
        self.write_run(state, halts, tally)
        if state == "done":
            self.ledger.remove()
        return tally

    def write_run(self, state: RunState, halts: Sequence[Halt] = (), tally: Tally | None = None) -> None:
        """What run.json says: the plan without secrets, versions, and what the run has come to."""
        facts: dict[str, Any] = {
            "run_id": self.plan.run_id,
            "job": self.plan.job,
            "state": state,
            "started_at": self.plan.started_at,
            "plan": {**self.plan.facts(), "manifest_digest": self.manifest.digest},
            "versions": _versions(),
            "price_book": asdict(self.price_books[0]),
            "price_books": [asdict(book) for book in self.price_books],
            "totals": (tally or self.tally).totals(),
            "halts": [asdict(halt) for halt in halts],
            "levels": self.levels,
            "pace": self.limits_met.facts(),
            "estimate": self.estimate,
        }
        if tally is not None:  # else it is unfinished business, whatever its state: rows at rest are missing
            facts["finished_at"] = self.world.now()
        self.writer.write_run(facts)


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("mediabatch", "polars", "httpx", "pyreqwest")}


def settle_job(plan: Plan, world: Surroundings = THE_REAL_ONES) -> list[str]:
    """Settle what other runs of the plan's job left behind, as opening a session does: whoever chooses items
    by their outcomes does it first. Returns sentences for a person.

    Raises:
        UsageError: somebody else runs the job.
        StoreUnwritable: the store takes no parts.
    """
    with job_lock(plan.out, plan.job, plan.run_id):
        return _settle_others(plan, world)


def _checked(plan: Plan, manifest: Source) -> tuple[Plan, LimitsMet]:
    """The plan to go by: of a run that exists already, the stored one with what may change. And the limits
    that it has met so far.

    Raises:
        UsageError: the run is finished, or it would ask something else now.
    """
    if not has_run(plan.out, plan.run_id):
        return plan, LimitsMet()
    facts = run_facts(plan.out, plan.run_id)
    if facts["state"] != "done" and "pruned_at" in facts:
        raise UsageError(
            f"run {plan.run_id} cannot go on, because prune has let go of its ledger; start a new run, which "
            "skips what was answered"
        )
    told = facts["plan"]["manifest_digest"]
    if told != manifest.digest:
        raise UsageError(
            f"run {plan.run_id} cannot go on, because the manifest {plan.manifest} has changed since; "
            "start a new run, which skips what was answered"
        )
    plan = resumed(plan_of(facts, plan.out), plan)
    if facts["state"] == "done":
        raise RunFinished(plan.run_id)
    return plan, limits_met(facts.get("pace", {}))


def _writers(plan: Plan, world: Surroundings) -> tuple[RunWriter, Writing]:
    writer = world.run_writer(plan.out, plan.run_id, plan.started_at.astimezone(plan.timezone))
    writer.schema = schema_of(plan)
    stamp = f"-{plan.started_at.astimezone(UTC):%Y%m%d%H%M%S%f}"
    return writer, Writing(plan.run_id, plan.job, EMBEDDED if plan.is_rehearsal else None, world.now, stamp)


def _settle_others(plan: Plan, world: Surroundings) -> list[str]:
    """Seal what unfinished runs of the job left in their ledgers, so that nothing paid is asked again."""
    notes = []
    for facts in every_run(plan.out):
        run_id = facts["run_id"]
        if run_id == plan.run_id or facts["job"] != plan.job or facts["state"] == "done":
            continue
        if "pruned_at" in facts:
            continue
        other = plan_of(facts, plan.out)
        if facts["state"] != "running" and not other.ledger_path.exists():
            continue
        if isinstance(plan.out, InBucket) and not other.ledger_path.exists():
            notes.append(
                f"run {run_id} was left as it is, for its ledger is not on this machine: what it brought "
                f"into the store counts; go on with it there, or, if that machine is lost, here: `mediabatch "
                f"resume {run_id}`"
            )
            continue
        try:
            note = _settle_other(other, facts, world)
        except LedgerDamaged as error:
            note = f"run {run_id} was left as it is: {error}"
        if note is not None:
            notes.append(note)
    return notes


def _settle_other(other: Plan, facts: dict[str, Any], world: Surroundings) -> str | None:
    is_at_rest = "finished_at" in facts or "settled_at" in facts
    if is_at_rest and _needs_no_settling(other, world):
        return None
    writer, writing = _writers(other, world)
    ledger, standing, told = _open_settled(other, writer, writing, world)
    with ledger:
        tally = standing.tally
        tally.rows_total = facts["totals"]["rows"]
        if facts["state"] == "running":
            facts["state"] = "interrupted"
        rest = Rest(other.run_id, other.job)
        with suppress(ManifestError):
            manifest = open_source(other)
            if manifest.digest == facts["plan"]["manifest_digest"]:
                # Ids alone are read, and those do not depend on what is asked.
                defaults = Defaults(other.model, other.prompt, other.parameters)
                for batch in manifest.read(defaults, _passed(manifest, standing)):
                    for row in batch:
                        rest.add(row.id, row.row, "not_attempted")
                        tally.not_attempted += 1
                rest.write(writer)
        facts["totals"] = tally.totals()
        Duplicates().resolve(writer)  # those of an earlier session are among the rows at rest now
        facts["settled_at"] = world.now()
        writer.write_run(facts)
    left = (
        f"run {other.run_id} had been left unfinished: {tally.ok + tally.failed:,} of its outcomes are in "
        f"the store; {standing.lost:,} attempts were under way, and are listed as possibly billed"
    )
    return "; ".join([left, *told])


def _needs_no_settling(other: Plan, world: Surroundings) -> bool:
    try:
        with world.open_ledger(other.ledger_path) as ledger:
            return is_settled(ledger, other.out)
    except (LedgerDamaged, ValueError):
        return False


def _open_settled(
    plan: Plan, writer: RunWriter, writing: Writing, world: Surroundings
) -> tuple[Ledger, Standing, list[str]]:
    return open_settled(
        plan.ledger_path,
        writer,
        writing,
        is_known=has_run(plan.out, plan.run_id),
        open_ledger=world.open_ledger,
        part_items=world.part_items,
    )


def _told(standing: Standing) -> list[str]:
    notes = []
    if standing.rebuilt:
        notes.append(f"{standing.rebuilt:,} damaged parts were made again from the ledger")
    if standing.lost:
        notes.append(
            f"{standing.lost:,} attempts were under way when this run ended last; they are listed as "
            "possibly billed, and their items are asked again"
        )
    return notes


def _passed(manifest: Source, standing: Standing) -> bytearray:
    passed = bytearray(manifest.rows_total + 1)
    for row in standing.rows:
        passed[row] = 1
    return passed


def _repeats(plan: Plan, standing: Standing) -> Repeats:
    asked = KeyTable()
    asked.fill(standing.keys, standing.rows)
    return Repeats.of(plan, asked)
