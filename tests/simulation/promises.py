"""The promises of the design, checked against the store when a simulated night is over.

Everything is compared with what the endpoint served and what passed the doors of the disk, never with what
the code under test believes. The store is read without the project's own reader.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from pipeline.store.schemas import SCHEMAS
from tests.simulation.bills import MICROS, UNPRICED
from tests.simulation.broken import ENDS, NUMBERS, PAID, PLACES, ROWS, TOKENS, Broken
from tests.simulation.conduct import check_conduct
from tests.simulation.endpoint import Asked

if TYPE_CHECKING:
    from tests.simulation.nights import Evidence, Session

Rows = list[dict[str, Any]]

_ERROR_CLASS = SCHEMAS["attempts"].names().index("error_class")


def check_all(evidence: Evidence) -> None:
    """Check every promise about a night.

    Raises:
        Broken: the first that was not kept.
    """
    last = evidence.sessions[-1]
    if last.summary is None and not _is_done(evidence, last):
        raise Broken(ENDS, f"the last session, a calm one, ended with {last.refusal!r}")
    if evidence.records.twice:
        raise Broken(ROWS, evidence.records.twice[0])
    store = Store(evidence)
    store.check_records()
    sent_at_us = store.check_attempts()
    store.check_bills()
    store.check_results()
    store.check_manifests()
    store.check_totals()
    for session in evidence.sessions:
        check_conduct(evidence, session, sent_at_us)


def _is_done(evidence: Evidence, session: Session) -> bool:
    """Whether a session that was killed had come to its end all the same."""
    path = evidence.out / "runs" / session.run_id / "run.json"
    return path.exists() and orjson.loads(path.read_bytes())["state"] == "done"


class Store:
    """What the night left on disk."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.attempts = self._read("attempts")
        self.results = self._read("results")
        self.costs = self._read("costs")
        self.rest = self._read("rest")
        self.attempts_of: defaultdict[tuple[str, str], Rows] = defaultdict(list)
        for row in sorted(self.attempts, key=lambda row: row["attempt"]):
            self.attempts_of[row["run_id"], row["item_id"]].append(row)
        self.costs_of: defaultdict[tuple[str, str, int], Rows] = defaultdict(list)
        for row in self.costs:
            self.costs_of[row["run_id"], row["item_id"], row["attempt"]].append(row)
        self.request_of: dict[tuple[str, str, int], Asked] = {}

    def _read(self, dataset: str) -> Rows:
        parts = sorted((self.evidence.out / dataset).glob("date=*/run=*/*.parquet"))
        if not parts:
            return []
        schema = SCHEMAS[dataset]
        columns = [
            pl.col(name).dt.epoch("us") if dtype == pl.Datetime else pl.col(name)
            for name, dtype in schema.items()
            if name not in ("media", "request_json")
        ]
        return (
            pl.scan_parquet(parts, hive_partitioning=False, schema=schema)
            .select(columns)
            .collect()
            .to_dicts()
        )

    def check_records(self) -> None:
        """What was committed stands in the parts, and nothing else."""
        records = self.evidence.records
        attempts = {(row["run_id"], row["item_id"], row["attempt"]): row for row in self.attempts}
        _check_same("attempts", records.attempts, attempts)
        first = [row for row in self.results if row["duplicate_of"] is None]
        _check_same("results", records.results, {(r["run_id"], r["row"]): r for r in first})
        if len(self.attempts) != len(records.attempts) or len(first) != len(records.results):
            raise Broken(ROWS, "a committed row stands in two parts")

    def check_attempts(self) -> dict[int, int]:
        """Every request is an attempt, with its state and its bill; return when each was admitted."""
        evidence = self.evidence
        asked_of: defaultdict[tuple[str, int], list[Asked]] = defaultdict(list)
        for asked in evidence.account.asked:
            asked_of[asked.run_id, asked.row].append(asked)
        sent_at_us: dict[int, int] = {}
        for session in _runs(evidence).values():
            for row in session.rows:
                attempts = self.attempts_of.pop((session.run_id, row.id), [])
                self.attempts_of[session.run_id, row.id] = attempts
                self._match(attempts, asked_of.pop((session.run_id, row.number), []), sent_at_us)
        if asked_of:
            raise Broken(PAID, f"requests of nobody's: {list(asked_of)[:3]}")
        return sent_at_us

    def _match(self, attempts: Rows, requests: list[Asked], sent_at_us: dict[int, int]) -> None:
        """Attempts and requests of one item in one run, both in their order. A request belongs to the
        newest attempt that was admitted before it came."""
        if [row["attempt"] for row in attempts] != list(range(1, len(attempts) + 1)):
            numbers = [row["attempt"] for row in attempts]
            raise Broken(NUMBERS, f"{attempts[0]['item_id']} has attempts {numbers}")
        times = [row["sent_at"] for row in attempts]
        matched: dict[int, Asked] = {}
        for asked in requests:
            before = [place for place, time in enumerate(times) if time <= asked.at_us]
            if not before or before[-1] in matched:
                raise Broken(
                    PAID,
                    f"request {asked.number} ({asked.prompt}, {asked.fate.name}, billed: {asked.is_billed}) "
                    "is in no attempt",
                )
            matched[before[-1]] = asked
        for place, row in enumerate(attempts):
            one = matched.get(place)
            self._check_attempt(row, one)
            if one is not None:
                sent_at_us[one.number] = row["sent_at"]
                self.request_of[row["run_id"], row["item_id"], row["attempt"]] = one

    def _check_attempt(self, row: dict[str, Any], asked: Asked | None) -> None:
        name = f"attempt {row['attempt']} of {row['item_id']} in {row['run_id']}"
        session = self._session_at(row["sent_at"])
        if asked is not None and (row["endpoint"], row["model"]) != (asked.endpoint, asked.model):
            raise Broken(PLACES, f"{name} tells of {row['model']} at {row['endpoint']}, asked was {asked}")
        if row["error_class"] == "Lost":
            if not session.may_lose:
                raise Broken(PAID, f"{name} is lost, but session {session.number} ended well")
            if row["state"] != "possibly_billed":
                raise Broken(PAID, f"{name} is lost and {row['state']}")
            return
        if asked is None or not asked.is_delivered:
            raise Broken(PAID, f"{name} says {row['error_class']}, but nothing came")
        if row["state"] != "possibly_billed" and row["possible_cost"] is not None:
            raise Broken(TOKENS, f"{name} is {row['state']}, and may have cost {row['possible_cost']}")
        fate = asked.fate
        told = (row["error_class"], row["state"], row["http_status"])
        status = fate.status
        if fate.name in ("outage", "broken_off"):
            status = row["http_status"]  # which of them is the wire's to choose
        if told != (fate.error_class, fate.state, status):
            raise Broken(PAID, f"{name} says {told}, it was {fate.name}")
        if asked.is_billed and row["state"] == "not_billed":
            raise Broken(PAID, f"{name} was billed, and is listed as not billed")
        usage = asked.bill.usage if asked.bill is not None and fate.has_usage else None
        if (None if row["usage_json"] is None else orjson.loads(row["usage_json"])) != usage:
            raise Broken(TOKENS, f"{name} has usage {row['usage_json']}, served was {usage}")

    def _session_at(self, at_us: int) -> Session:
        return next(one for one in self.evidence.sessions if one.begins_us <= at_us <= one.ends_us)

    def check_bills(self) -> None:
        """Token counts add up to what was served, and their costs to what it cost."""
        for key in self.costs_of:
            asked = self.request_of.get(key)
            if asked is None or asked.bill is None or not asked.fate.has_usage:
                raise Broken(TOKENS, f"{key} costs something, but no usage was served")
        for key, asked in self.request_of.items():
            bill = asked.bill
            if bill is None or not asked.fate.has_usage or key not in self.evidence.records.attempts:
                continue
            if self.evidence.records.attempts[key][_ERROR_CLASS] == "Lost":
                continue
            rows = self.costs_of.get(key, [])
            tokens = Counter[str]()
            for row in rows:
                tokens[row["direction"]] += row["tokens"]
                tokens[row["kind"]] += row["tokens"]
                self._check_cost_row(key, row)
            told = tokens["input"], tokens["output"], tokens["cached"]
            if told != (bill.prompt_tokens, bill.completion_tokens, bill.cached_tokens):
                raise Broken(TOKENS, f"{key}: {told} tokens are counted, served were {bill.usage}")
            if bill.is_exact and bill.trillionths is not None:
                cost = sum((row["cost"] for row in rows), Decimal(0))
                if cost != Decimal(bill.trillionths).scaleb(-12):
                    raise Broken(TOKENS, f"{key} costs {cost}, the bill says {bill.trillionths}e-12")

    def _check_cost_row(self, key: object, row: dict[str, Any]) -> None:
        micros = MICROS.get((row["modality"], row["direction"], row["kind"]))
        cost = None
        if row["model"] != UNPRICED and micros is not None:
            cost = Decimal(row["tokens"] * micros).scaleb(-12)
        if row["cost"] != cost or row["tokens"] <= 0:
            raise Broken(TOKENS, f"{key}: {row['tokens']} tokens cost {row['cost']}, not {cost}")

    def check_results(self) -> None:
        """Each result is its item's: answer, attempts, cost."""
        by_row = {(row["run_id"], row["row"]): row for row in self.results}
        for session in _runs(self.evidence).values():
            for row in session.rows:
                result = by_row.get((session.run_id, row.number))
                if result is None:
                    continue
                if result["item_id"] != row.id or result["status"] not in ("ok", "failed"):
                    raise Broken(ROWS, f"row {row.number} is filed as {result['item_id']}")
                if row.kind == "bad":
                    if result["error_class"] != "RowError" or result["attempts"]:
                        raise Broken(ROWS, f"bad row {row.number} ended {result['error_class']}")
                elif row.kind == "duplicate":
                    self._check_duplicate(result, by_row.get((session.run_id, row.first)))
                else:
                    self._check_result(result)

    def _check_result(self, result: dict[str, Any]) -> None:
        run_id, item_id = result["run_id"], result["item_id"]
        name = f"{item_id} in {run_id}"
        attempts = self.attempts_of[run_id, item_id]
        if not attempts or result["attempts"] != len(attempts):
            raise Broken(NUMBERS, f"{name} tells {result['attempts']} of {len(attempts)}")
        last = self.request_of.get((run_id, item_id, len(attempts)))
        if last is None or (result["status"] == "ok") != (last.fate.verdict == "ok"):
            raise Broken(ROWS, f"{name} is {result['status']}, its last request {last}")
        if result["status"] == "ok" and (result["text"], result["reply_id"]) != (last.text, last.reply_id):
            raise Broken(ROWS, f"{name} has the answer {result['text']!r}, not {last.text!r}")
        if (result["endpoint"], result["model_requested"]) != (last.endpoint, last.model):
            raise Broken(PLACES, f"{name} ended at {result['endpoint']}, its last request {last}")
        if result["error_class"] != last.fate.error_class:
            raise Broken(ROWS, f"{name} failed as {result['error_class']}, not {last.fate.name}")
        keys = [(run_id, item_id, row["attempt"]) for row in attempts]
        costs = [row["cost"] for key in keys for row in self.costs_of.get(key, []) if row["cost"] is not None]
        cost = sum(costs, Decimal(0)) if costs else None
        if result["cost"] != cost:
            raise Broken(TOKENS, f"{name} costs {result['cost']}, its cost rows {cost}")
        bills = [self.request_of[key].bill for key in keys if self.costs_of.get(key)]
        truth = sum(bill.trillionths for bill in bills if bill and bill.trillionths is not None)
        if cost is not None:
            low, high = result["cost_low"], result["cost_high"]
            if not low <= Decimal(truth).scaleb(-12) <= high:
                raise Broken(TOKENS, f"{name} cost {truth}e-12, outside of {low} to {high}")

    def _check_duplicate(self, result: dict[str, Any], first: dict[str, Any] | None) -> None:
        name = f"row {result['row']} in {result['run_id']}"
        if first is None or result["duplicate_of"] != first["item_id"]:
            raise Broken(ROWS, f"{name} is a duplicate of {result['duplicate_of']}")
        if (result["status"], result["text"]) != (first["status"], first["text"]):
            raise Broken(ROWS, f"{name} shares another outcome than {first['status']}")
        if result["attempts"] or result["cost"]:
            raise Broken(TOKENS, f"{name} is a duplicate, and was paid again")

    def check_manifests(self) -> None:
        """Every manifest row stands once in results or rest of each run that is at rest."""
        answered = {(row["run_id"], row["row"]) for row in self.results if row["status"] == "ok"}
        found: defaultdict[str, list[int]] = defaultdict(list)
        for row in (*self.results, *self.rest):
            found[row["run_id"]].append(row["row"])
        for run_id, session in _runs(self.evidence).items():
            if not (self.evidence.out / "runs" / run_id / "run.json").exists():
                if found[run_id]:
                    raise Broken(ROWS, f"{run_id} has rows, and no run.json")
                continue
            rows = list(range(1, len(session.rows) + 1))
            if sorted(found[run_id]) != rows:
                counts = Counter(found[run_id])
                missing = [row for row in rows if not counts[row]]
                twice = [row for row, count in counts.items() if count > 1]
                raise Broken(ROWS, f"{run_id}: rows missing {missing[:9]}, twice {twice[:9]}")
        for row in self.rest:
            session = _runs(self.evidence)[row["run_id"]]
            told = session.rows[row["row"] - 1]
            if told.id != row["item_id"] or row["status"] not in ("skipped", "not_attempted"):
                raise Broken(ROWS, f"rest row {row} is {told.id}")
            if row["status"] == "skipped" and (row["answered_by_run_id"], told.first) not in answered:
                raise Broken(ROWS, f"{row} was skipped, but nobody had it answered")

    def check_totals(self) -> None:
        """run.json, and the last summary, say what the store holds."""
        for run_id in _runs(self.evidence):
            path = self.evidence.out / "runs" / run_id / "run.json"
            if not path.exists():
                continue
            facts = orjson.loads(path.read_bytes())
            last = [session for session in self.evidence.sessions if session.run_id == run_id][-1]
            if last.faults_at_finish and "settled_at" not in facts:
                continue  # it could not say
            results = [row for row in self.results if row["run_id"] == run_id]
            rest = Counter(row["status"] for row in self.rest if row["run_id"] == run_id)
            attempts = [row for row in self.attempts if row["run_id"] == run_id]
            costs = [row["cost"] or Decimal(0) for row in self.costs if row["run_id"] == run_id]
            holds = {
                "ok": sum(row["status"] == "ok" for row in results),
                "failed": sum(row["status"] == "failed" for row in results),
                "skipped": rest["skipped"],
                "not_attempted": rest["not_attempted"],
                "attempts": len(attempts),
                "possibly_billed": sum(row["state"] == "possibly_billed" for row in attempts),
                "cost": sum(costs, Decimal(0)),
            }
            told = {name: facts["totals"][name] for name in holds}
            told["cost"] = Decimal(told["cost"].get("USD", "0"))
            if told != holds:
                differs = {name: (told[name], holds[name]) for name in holds if told[name] != holds[name]}
                raise Broken(ROWS, f"run.json of {run_id} (told, in the store): {differs}")


def _runs(evidence: Evidence) -> dict[str, Session]:
    """The runs of a night, each with one of its sessions."""
    return {session.run_id: session for session in evidence.sessions}


def _check_same(dataset: str, committed: dict[Any, list[Any]], stored: dict[Any, dict[str, Any]]) -> None:
    if committed.keys() != stored.keys():
        missing, added = committed.keys() - stored.keys(), stored.keys() - committed.keys()
        raise Broken(
            PAID,
            f"{dataset}: {len(missing)} committed rows are in no part ({sorted(missing)[:3]}), "
            f"{len(added)} in parts were never committed ({sorted(added)[:3]})",
        )
    names = SCHEMAS[dataset].names()
    compared = [(place, name) for place, name in enumerate(names) if name in _COMPARED]
    for key, row in committed.items():
        there = stored[key]
        for place, name in compared:
            value = there[name]
            if (f"{value:f}" if isinstance(value, Decimal) else value) != _scaled(row[place], value):
                raise Broken(PAID, f"{dataset} {key}: {name} is {value}, not {row[place]}")


def _scaled(text: Any, like: Any) -> Any:
    return f"{Decimal(text).quantize(like):f}" if isinstance(like, Decimal) and text is not None else text


_COMPARED = frozenset(
    {
        "state",
        "error_class",
        "http_status",
        "usage_json",
        "request_id",
        "remote_id",
        "sent_at",
        "possible_cost",
        "status",
        "text",
        "cost",
    }
)
