"""The promises, checked against the store's Parquet files and the endpoint's own count."""

from __future__ import annotations

import bisect
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from tests.crash.endpoint import Asked, CountingEndpoint
from tests.crash.killing import Kill
from tests.end_to_end.nights import Store


@dataclass(frozen=True)
class Found:
    """Figures of a night, and what was broken: empty, where all was kept."""

    figures: dict[str, object]
    broken: list[str]


def check(
    out: Path, endpoint: CountingEndpoint, kills: Sequence[Kill], rows: int, *, is_one_run: bool
) -> Found:
    store = Store(out)
    broken: list[str] = []

    def expect(what: str, wrong: Sequence[object] | bool) -> None:
        if wrong:
            told = "" if wrong is True else f": {len(wrong)}, for instance {list(wrong)[:3]}"  # type: ignore[arg-type]
            broken.append(what + told)

    attempts = store.attempts.sort("run_id", "item_id", "attempt")
    served = [one for one in endpoint.asked if one.served_at_s is not None]
    recorded = set(attempts.filter(state="billed")["remote_id"].drop_nulls())
    unrecorded = [one for one in served if one.reply_id not in recorded]
    under_way = set().union(*(kill.in_flight for kill in kills))
    in_flight = len(under_way)

    _check_rows(store, rows, expect)
    asked_twice = _asked_twice(endpoint.asked, kills, failed_too=is_one_run)
    expect("asked again after its outcome was on record", asked_twice)
    expect(
        "a reply that was on record is gone",
        sorted(set().union(*(kill.replies for kill in kills)) - set(attempts["remote_id"].drop_nulls())),
    )
    expect("on record, but never served", sorted(recorded - {one.reply_id for one in served}))
    expect(
        f"{len(served)} served, {len(recorded)} recorded, but only {in_flight} in flight at the kills",
        len(served) - len(recorded) > in_flight,
    )
    unlisted, unmatched = _unlisted(attempts, endpoint.asked, recorded)
    expect("served, not recorded, and not listed as possibly billed", unlisted)
    expect("requests that no attempt accounts for", unmatched)
    _check_numbers(store, attempts, expect)
    _check_money(store, endpoint.asked, recorded, expect)
    lost = attempts.filter(error_class="Lost")
    listed = set(lost.select("run_id", "item_id", "attempt").iter_rows())
    expect("listed as lost, but not in flight at a kill", sorted(listed - under_way))
    expect("in flight at a kill, but not listed as lost", sorted(under_way - listed))
    return Found(
        {
            "kills": len(kills),
            **{f"  {moment}": count for moment, count in Counter(kill.moment for kill in kills).items()},
            "requests received": len(endpoint.asked),
            "replies served": len(served),
            "replies recorded": len(recorded),
            "in flight at the kills": in_flight,
            "served, not recorded": len(unrecorded),
            "  of them listed as possibly billed": len(unrecorded) - len(unlisted),
            "attempts listed as lost": lost.height,
            "items asked again after their outcome was on record": len(asked_twice),
            "outcomes": dict(
                store.results.sort("status").group_by("status", maintain_order=True).len().iter_rows()
            ),
            "parts": len(list(out.glob("results/date=*/run=*/part-*.parquet"))),
            "cost, USD": sum(store.costs["cost"].drop_nulls(), Decimal(0)).normalize(),
        },
        broken,
    )


def _check_rows(store: Store, rows: int, expect: Any) -> None:
    """One outcome for every row of every run, and none left over in the last."""
    both = pl.concat([store.results.select("run_id", "row"), store.rest.select("run_id", "row")])
    facts = [json.loads(path.read_text("utf-8")) for path in (store.out / "runs").glob("*/run.json")]
    facts.sort(key=lambda one: str(one["started_at"]))
    expect("not exactly one run is done", [one["run_id"] for one in facts if one["state"] == "done"][1:])
    for one in facts:
        here = both.filter(run_id=one["run_id"])["row"].sort().to_list()
        if here != list(range(1, rows + 1)):
            twice = [row for row, count in Counter(here).items() if count > 1]
            gone = sorted(set(range(1, rows + 1)) - set(here))
            expect(f"run {one['run_id']} ({one['state']}): rows missing {gone[:5]}, twice {twice[:5]}", True)
        told, kept = one["totals"], store.results.filter(run_id=one["run_id"])
        counts = {status: kept.filter(status=status).height for status in ("ok", "failed")}
        expect(
            f"run {one['run_id']}: run.json says {told}, the results {counts}",
            any(told[status] != count for status, count in counts.items()),
        )
        made = store.attempts.filter(run_id=one["run_id"]).height
        expect(
            f"run {one['run_id']}: {told['attempts']} attempts told, {made} listed", told["attempts"] != made
        )
    last = facts[-1]["run_id"]
    expect("the last run is not done", facts[-1]["state"] != "done")
    expect(
        "not attempted at the end",
        store.rest.filter(run_id=last, status="not_attempted")["item_id"].to_list(),
    )
    answered = {
        (run_id, item)
        for run_id, item, status in store.results.select("run_id", "item_id", "status").iter_rows()
        if status == "ok"
    }
    skipped = store.rest.filter(status="skipped").select("answered_by_run_id", "item_id").iter_rows()
    firsts = {
        item: first for item, first in store.results.select("item_id", "duplicate_of").iter_rows() if first
    }
    expect(
        "skipped, but the run that is said to have answered it did not",
        [pair for pair in skipped if pair not in answered and not _shared(pair, firsts, answered)],
    )


def _shared(pair: tuple[str, str], firsts: dict[str, str], answered: set[tuple[str, str]]) -> bool:
    run_id, item_id = pair
    number = int(item_id.rpartition("-")[2])
    return number % 100 == 50 and (run_id, f"item-{number - 8 + 1:05d}") in answered


def _asked_twice(asked: Sequence[Asked], kills: Sequence[Kill], *, failed_too: bool) -> list[str]:
    """Items that came again after a kill that had left their outcome on record. A new run may ask again
    what failed."""
    settled_by: dict[str, int] = {}
    for kill in kills:
        for item_id, status in kill.ended.items():
            if failed_too or status == "ok":
                settled_by.setdefault(item_id, kill.asked)
    never = len(asked)
    return [one.item_id for place, one in enumerate(asked) if place >= settled_by.get(one.item_id, never)]


def _unlisted(
    attempts: pl.DataFrame, asked: Sequence[Asked], recorded: set[str]
) -> tuple[list[str], list[str]]:
    """(replies served, neither recorded nor listed; requests without an attempt). A request belongs to the
    item's last attempt that was sent before it came: the attempts at an item follow one another."""
    sent: dict[str, list[tuple[float, str, str | None]]] = defaultdict(list)
    for item_id, at, state, remote_id in (
        attempts.sort("sent_at")
        .select("item_id", pl.col("sent_at").dt.epoch("us") / 1e6, "state", "remote_id")
        .iter_rows()
    ):
        sent[item_id].append((at, state, remote_id))
    taken: set[tuple[str, int]] = set()
    unlisted, unmatched = [], []
    for one in asked:
        mine = sent[one.item_id]
        place = bisect.bisect_right(mine, one.at_s, key=lambda attempt: attempt[0]) - 1
        if place < 0 or (one.item_id, place) in taken:
            unmatched.append(f"{one.item_id} #{one.nth}")
            continue
        taken.add((one.item_id, place))
        _, state, remote_id = mine[place]
        if one.served_at_s is not None and remote_id != one.reply_id and state != "possibly_billed":
            unlisted.append(f"{one.reply_id} ({state})")
    return unlisted, unmatched


def _check_numbers(store: Store, attempts: pl.DataFrame, expect: Any) -> None:
    numbers = attempts.group_by("run_id", "item_id").agg(pl.col("attempt").sort())
    expect(
        "attempts not numbered 1, 2, 3 …",
        [(item, have) for _, item, have in numbers.iter_rows() if have != list(range(1, len(have) + 1))],
    )
    made = store.results.filter(pl.col("duplicate_of").is_null()).join(
        numbers.with_columns(pl.col("attempt").list.len().alias("made")), on=["run_id", "item_id"], how="left"
    )
    wrong = made.filter(pl.col("made").fill_null(0) != pl.col("attempts"))
    expect("results.attempts is another number", wrong.select("item_id", "attempts", "made").rows())


def _check_money(store: Store, asked: Sequence[Asked], recorded: set[str], expect: Any) -> None:
    """To the last digit: the costs are those of the replies on record, each once."""
    due = sum((one.cost for one in asked if one.reply_id in recorded), Decimal(0))
    told = sum(store.costs["cost"].drop_nulls(), Decimal(0))
    expect(f"the recorded replies cost {due}, the costs add up to {told}", due != told)
    summed = store.costs.group_by("run_id", "item_id").agg(pl.col("cost").sum().alias("due"))
    both = store.results.filter(pl.col("duplicate_of").is_null()).join(
        summed, on=["run_id", "item_id"], how="left"
    )
    wrong = both.filter(pl.col("cost").ne_missing(pl.col("due")))
    expect(
        "results.cost is not what the item's cost rows add up to",
        wrong.select("item_id", "cost", "due").rows(),
    )
    paid_twice = store.attempts.drop_nulls("remote_id")["remote_id"].is_duplicated()
    expect(
        "a reply is recorded twice",
        store.attempts.drop_nulls("remote_id").filter(paid_twice)["remote_id"].to_list(),
    )
