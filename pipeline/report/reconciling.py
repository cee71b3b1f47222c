"""Their log against our store: what a gateway or provider says it billed, and what we have.

Owns the forms in which such logs come and the comparison; refuses to change anything. Rows are matched by the
request id that came with the answer, else by the reply's own id (LiteLLM's logs are kept by that).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import polars as pl

from pipeline.errors import UsageError
from pipeline.report.scope import Scope

FIELDS: Final = ("request_id", "prompt_tokens", "completion_tokens", "cost", "at")
NEWAPI_QUOTA_PER_USD: Final = 500_000
"""What new-api calls quota: 500,000 are a dollar at its list price (its source, common/constants.go)."""

_KNOWN: Final[Mapping[str, Mapping[str, str]]] = {
    # LiteLLM's spend logs (`/spend/logs`, table LiteLLM_SpendLogs).
    "LiteLLM": {
        "request_id": "request_id",
        "prompt_tokens": "prompt_tokens",
        "completion_tokens": "completion_tokens",
        "cost": "spend",
        "at": "startTime",
    },
    # new-api's usage log (`/api/log`), and its CSV export.
    "new-api": {
        "request_id": "request_id",
        "prompt_tokens": "prompt_tokens",
        "completion_tokens": "completion_tokens",
        "cost": "quota",
        "at": "created_at",
    },
}
"""Log of → our name of a column → theirs. The first all of whose columns but the time are there is meant."""
_LISTS: Final = ("data", "items", "logs", "records", "results")

_LOG = pl.Schema(
    {
        "request_id": pl.String(),
        "their_prompt": pl.Int64(),
        "their_completion": pl.Int64(),
        "their_cost": pl.Decimal(38, 12),
        "at": pl.Datetime("us", "UTC"),
    }
)


@dataclass(frozen=True, slots=True)
class Log:
    """Their log, read. ``kind``: whose form it has; ``rows`` in the columns of `_LOG`."""

    kind: str
    rows: pl.DataFrame


@dataclass(slots=True)
class Side:
    """One side's requests, tokens and money."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = Decimal(0)


@dataclass(slots=True)
class Reconciled:
    """``only_theirs``: billed, and we have no answer for it; ``only_ours``: answered, and they did not bill.

    ``differing``: both have it, with other tokens: (request id, their tokens, our tokens). Ids are the first
    few. ``possibly_billed``: attempts of ours that broke off, which may be among theirs.
    """

    theirs: Side = field(default_factory=Side)
    ours: Side = field(default_factory=Side)
    matched: int = 0
    only_theirs: Side = field(default_factory=Side)
    only_theirs_ids: list[str] = field(default_factory=list)
    only_ours: Side = field(default_factory=Side)
    only_ours_ids: list[str] = field(default_factory=list)
    differing: list[tuple[str, int, int]] = field(default_factory=list)
    differing_requests: int = 0
    possibly_billed: int = 0
    currencies: list[str] = field(default_factory=list)


def read_log(path: Path, named: Mapping[str, str]) -> Log:
    """CSV, a JSON array (or an object that holds one), or NDJSON. ``named``: our name → their column, as far
    as a person says.

    Raises:
        UsageError: the file cannot be read, or holds no such columns.
    """
    rows = _rows(path)
    if not rows:
        raise UsageError(f"{path}: holds no rows")
    columns = set().union(*rows)
    for name, column in named.items():
        if column not in columns:
            raise UsageError(
                f"{path}: has no column {column!r} for {name}; it has {', '.join(sorted(columns))}"
            )
    kind, found = _layout(columns, named)
    if "request_id" not in found:
        raise UsageError(
            f"{path}: which column is the request id? say --columns request_id=NAME,cost=NAME; it has "
            f"{', '.join(sorted(columns))}"
        )
    told = [_row(path, number, row, found, kind) for number, row in enumerate(rows, 1)]
    return Log(kind, pl.DataFrame([row for row in told if row], schema=_LOG, orient="row"))


def compared(log: Log, scope: Scope, most: int = 10) -> Reconciled:
    """
    Raises:
        StoreError: there is no store.
    """
    ours = _ours(scope, log)
    by_request = ours.filter(pl.col("request_id").is_not_null())
    theirs = log.rows.unique("request_id", keep="first", maintain_order=True)
    matched = theirs.join(by_request, on="request_id", how="inner")
    rest = theirs.join(matched, on="request_id", how="anti")
    by_reply = rest.join(ours, left_on="request_id", right_on="remote_id", how="inner", suffix="_ours")
    matched = pl.concat([matched, by_reply.select(matched.drop("remote_id").columns)], how="diagonal")
    only_theirs = theirs.join(matched, on="request_id", how="anti")
    only_ours = ours.join(matched.select("number"), on="number", how="anti")
    differing = matched.filter(
        (pl.col("their_prompt") != pl.col("our_prompt"))
        | (pl.col("their_completion") != pl.col("our_completion"))
    )
    attempts = _in_time(scope.scan("attempts"), log)
    told = Reconciled(
        theirs=_side(theirs, "their"),
        ours=_side(ours, "our"),
        matched=matched.height,
        only_theirs=_side(only_theirs, "their"),
        only_theirs_ids=only_theirs["request_id"].head(most).to_list(),
        only_ours=_side(only_ours, "our"),
        only_ours_ids=only_ours.select(pl.coalesce("request_id", "remote_id", "item_id"))
        .to_series()
        .head(most)
        .to_list(),
        differing_requests=differing.height,
        possibly_billed=attempts.filter(state="possibly_billed").select(pl.len()).collect().item(),
        currencies=ours["currency"].drop_nulls().unique().sort().to_list(),
    )
    told.differing = [
        (
            row["request_id"],
            row["their_prompt"] + row["their_completion"],
            row["our_prompt"] + row["our_completion"],
        )
        for row in differing.head(most).iter_rows(named=True)
    ]
    return told


def _ours(scope: Scope, log: Log) -> pl.DataFrame:
    """Attempts that were billed, with their tokens and cost: ``number`` tells them apart."""
    reply = ["run_id", "job", "item_id", "attempt"]
    is_input = pl.col("direction") == "input"
    counts = (
        scope.costs()
        .group_by(reply)
        .agg(
            our_prompt=pl.col("tokens").filter(is_input).sum(),
            our_completion=pl.col("tokens").filter(~is_input).sum(),
            our_cost=pl.col("cost").sum(),
            currency=pl.col("currency").drop_nulls().first(),
        )
    )
    attempts = _in_time(scope.scan("attempts"), log).select(*reply, "request_id", "remote_id")
    return attempts.join(counts, on=reply, how="inner").with_row_index("number").collect(engine="streaming")


def _in_time(attempts: pl.LazyFrame, log: Log) -> pl.LazyFrame:
    """Of the hours that the log covers, where it tells them: what was asked before is in an older one."""
    first, last = log.rows["at"].min(), log.rows["at"].max()
    if first is None or last is None:
        return attempts
    margin = pl.duration(hours=1)
    ended = pl.coalesce("done_at", "sent_at")
    return attempts.filter((ended >= pl.lit(first) - margin) & (ended <= pl.lit(last) + margin))


def _side(rows: pl.DataFrame, whose: str) -> Side:
    told = rows.select(
        pl.col(f"{whose}_prompt").sum(), pl.col(f"{whose}_completion").sum(), pl.col(f"{whose}_cost").sum()
    ).row(0)
    return Side(rows.height, told[0] or 0, told[1] or 0, told[2] or Decimal(0))


def _layout(columns: set[str], named: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    for kind, known in _KNOWN.items():
        if all(theirs in columns for ours, theirs in known.items() if ours != "at"):
            return kind, {**{ours: one for ours, one in known.items() if one in columns}, **named}
    return "a log", {**{name: name for name in FIELDS if name in columns}, **named}


def _row(
    path: Path, number: int, row: Mapping[str, Any], found: Mapping[str, str], kind: str
) -> tuple[Any, ...] | None:
    request_id = row.get(found["request_id"])
    if request_id in (None, ""):
        return None  # top-ups, log-ins and the like stand in the same logs
    try:
        cost = row.get(found.get("cost", ""))
        amount = Decimal(0) if cost in (None, "") else Decimal(str(cost))
        if kind == "new-api" and found["cost"] == "quota":
            amount /= NEWAPI_QUOTA_PER_USD
        tokens = [
            int(float(row.get(found.get(name, "")) or 0)) for name in ("prompt_tokens", "completion_tokens")
        ]
        return str(request_id), *tokens, round(amount, 12), _instant(row.get(found.get("at", "")))
    except (ValueError, ArithmeticError) as error:
        raise UsageError(f"{path}, row {number}: {error}") from None


def _instant(told: Any) -> datetime | None:
    if told in (None, ""):
        return None
    text = str(told)
    if text.replace(".", "", 1).isdigit():
        seconds = float(text)
        return datetime.fromtimestamp(seconds / 1000 if seconds > 10**11 else seconds, UTC)
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text") from None
    begin = text.lstrip()[:1]
    if begin not in ("[", "{"):
        return list(csv.DictReader(text.splitlines()))
    try:
        told = json.loads(text)
    except ValueError:
        told = _lines(path, text.splitlines())
    for name in _LISTS:
        while isinstance(told, dict) and isinstance(told.get(name), (list, dict)):
            told = told[name]
    rows = [told] if isinstance(told, dict) else told
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: is no list of objects")
    return rows


def _lines(path: Path, lines: Iterable[str]) -> list[Any]:
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise UsageError(f"{path}, line {number}: is not JSON ({error})") from None
    return rows
