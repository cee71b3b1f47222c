"""A sample of latest outcomes, each with all that was asked and answered, to be looked at one by one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import orjson
import polars as pl

from pipeline.records import MediaModality
from pipeline.report.scope import Scope
from pipeline.store.reader import latest_outcomes, parsed_answers

_SHOWN: Final = (
    *("run_id", "job", "item_id", "row", "status", "text", "finish_reason", "model_requested", "model"),
    *("attempts", "error_class", "error_message", "http_status", "prompt_tokens", "completion_tokens"),
    *("cost", "currency", "media", "finished_at", "latency_s", "request_json"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One item as it ended. ``media``: (modality, URL without signature, seen) each; ``parsed``: the typed
    answer, where the run asked for one."""

    run_id: str
    job: str
    item_id: str
    row: int | None
    status: str
    text: str | None
    finish_reason: str | None
    model_requested: str | None
    model: str | None
    attempts: int | None
    error_class: str | None
    error_message: str | None
    http_status: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: Decimal | None
    currency: str | None
    media: tuple[tuple[MediaModality, str, str | None], ...]
    finished_at: datetime | None
    latency_s: float | None
    prompt: str | None
    parsed: Any = None


def sample(scope: Scope, where: pl.Expr | None, most: int) -> tuple[list[Shown], int]:
    """(at most ``most`` items by run and row, of how many). The same ones every time, as long as the store
    does not change.

    Raises:
        StoreError: there is no store.
    """
    latest = latest_outcomes(scope.scan("results"), rehearsals=scope.rehearsals)
    if where is not None:
        latest = latest.filter(where)
    of_all = latest.select(pl.len()).collect(engine="streaming").item()
    by_lot = pl.col("item_id").hash(seed=6)
    keys = latest.select("run_id", "job", "item_id", by_lot.alias("lot")).bottom_k(most, by="lot").collect()
    # Their texts in a second reading, so that those of all others never lie in memory.
    frame = (
        scope.scan("results")
        .filter(pl.col("item_id").is_in(keys["item_id"].implode()))
        .join(keys.lazy(), on=["run_id", "job", "item_id"], how="semi")
        .select(_SHOWN)
        .sort("run_id", "row", "item_id")
        .collect()
    )
    typed = {
        (run_id, item_id): value
        for run_id in frame["run_id"].unique()
        for item_id, value in parsed_answers(
            scope.out, run_id, frame.filter(run_id=run_id)["item_id"].to_list()
        ).items()
    }
    return [_shown(row, typed.get((row["run_id"], row["item_id"]))) for row in frame.to_dicts()], of_all


def _shown(row: dict[str, Any], parsed: Any) -> Shown:
    media = tuple((one["modality"], one["url"], one["seen"]) for one in row.pop("media") or ())
    request_json = row.pop("request_json")
    prompt = orjson.loads(request_json).get("prompt") if request_json else None
    return Shown(**row, media=media, prompt=prompt, parsed=parsed)
