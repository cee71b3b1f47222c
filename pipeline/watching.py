"""A run as another process sees it: while it goes on, when it was killed, and once it is at rest.

Reads run.json and the ledger, and disturbs neither. What a run skips is known only when it ends.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from pipeline.errors import LedgerDamaged
from pipeline.ledger import Ledger
from pipeline.plan import Plan, plan_of
from pipeline.records import RunState
from pipeline.store.locking import holder_of
from pipeline.store.places import InBucket, Place
from pipeline.store.reader import every_run, run_facts
from pipeline.store.rows import ATTEMPT_COLUMN, RESULT_COLUMN, Entry
from pipeline.tally import Tally

SeenState = RunState | Literal["killed"]
"""``killed``: it was running, and no process does any more."""

_FINISHED = RESULT_COLUMN["finished_at"]
_DONE = ATTEMPT_COLUMN["done_at"]
RECENT_S = 60.0
RECENT_ENTRIES = 2_000


@dataclass(frozen=True, slots=True)
class Sight:
    """``tally`` and what follows come from the ledger, and are None where the run is at rest: ``totals`` tell
    then."""

    plan: Plan
    facts: Mapping[str, Any]  # run.json
    state: SeenState
    rows: int | None
    ok: int
    failed: int
    skipped: int | None
    not_attempted: int | None
    possibly_billed: int
    cost: Mapping[str, Decimal]
    tally: Tally | None = field(default=None, repr=False)
    in_flight: int | None = None
    per_s: float | None = None  # over the last minute in which anything was answered
    last_at: datetime | None = None  # when something was last put on record

    @property
    def left(self) -> int | None:
        if self.rows is None:
            return None
        return max(0, self.rows - self.ok - self.failed - (self.skipped or 0))


def sight(out: Place, run_id: str) -> Sight:
    """A run of the store.

    Raises:
        StoreError: there is no such run.
    """
    return _seen(out, run_facts(out, run_id))


def sights(out: Place) -> list[Sight]:
    """All runs of the store, oldest first.

    Raises:
        StoreError: there is no store, or a run.json of it is damaged.
    """
    found = [_seen(out, facts) for facts in every_run(out)]
    return sorted(found, key=lambda one: (one.plan.started_at, one.plan.run_id))


def _seen(out: Place, facts: Mapping[str, Any]) -> Sight:
    plan = plan_of(facts, out)
    state: SeenState = facts["state"]
    if state == "running" and not _is_alive(plan):
        state = "killed"
    # Its ledger tells more than run.json only until it is settled, whoever does that.
    if "finished_at" not in facts and "settled_at" not in facts:
        with suppress(LedgerDamaged):
            return _in_ledger(plan, facts, state)
    totals = facts["totals"]
    is_told = state not in ("running", "killed")
    return Sight(
        plan,
        facts,
        state,
        totals["rows"],
        totals["ok"],
        totals["failed"],
        totals["skipped"] if is_told else None,
        totals["not_attempted"] if is_told else None,
        totals["possibly_billed"],
        {currency: Decimal(cost) for currency, cost in totals["cost"].items()},
    )


def _in_ledger(plan: Plan, facts: Mapping[str, Any], state: SeenState) -> Sight:
    tally = Tally()
    ended_us: list[int] = []
    newest_us = 0
    with Ledger.looking(plan.ledger_path) as ledger:
        in_flight = len(ledger.in_flight())
        sealed = ledger.sealed()
        last_seq = ledger.last_seq()
        for part in sealed:
            tally.merge(Tally.decode(part.tally))
        counted = sealed[-1].last_seq if sealed else 0
        for seq, body in ledger.done(min(counted, last_seq - RECENT_ENTRIES) + 1, last_seq):
            entry = Entry.decode(body)
            if seq > counted:
                tally.add(entry)
            newest_us = max([newest_us, *(int(str(one[_DONE] or 0)) for one in entry.attempts)])
            if entry.result is not None:
                ended_us.append(int(str(entry.result[_FINISHED])))
    return Sight(
        plan,
        facts,
        state,
        facts["totals"]["rows"],
        tally.ok,
        tally.failed,
        None,
        None,
        tally.possibly_billed,
        tally.cost,
        tally,
        in_flight,
        _per_s(ended_us),
        datetime.fromtimestamp(max([newest_us, *ended_us]) / 1e6, UTC) if newest_us or ended_us else None,
    )


def _per_s(ended_us: list[int]) -> float | None:
    """Of those that ended within a minute of the last."""
    if len(ended_us) < 2:
        return None
    last_us = max(ended_us)
    recent = [us for us in ended_us if last_us - us <= RECENT_S * 1e6]
    span_s = (last_us - min(recent)) / 1e6
    return (len(recent) - 1) / span_s if span_s > 0 else None


def _is_alive(plan: Plan) -> bool:
    """Whether a process is at this run. Of one on another machine nobody here can tell: it is believed."""
    if isinstance(plan.out, InBucket) and not plan.ledger_path.exists():
        return True
    holder = holder_of(plan.out, plan.job)
    if holder is None or holder[0] != plan.run_id:
        return False
    try:
        os.kill(holder[1], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True
