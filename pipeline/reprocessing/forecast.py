"""What asking the chosen items may cost, from what replies about such media have cost in this store.

An estimate, in floats; nothing here reaches the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from pipeline.plan import Anew
from pipeline.store.places import Place
from pipeline.store.reader import scan

_KINDS = (
    pl.col("media").list.eval(pl.element().struct.field("modality")).list.unique().list.sort().list.join("+")
)
_LOW, _HIGH = 0.1, 0.9


@dataclass(slots=True)
class Forecast:
    """``cost``: currency → (low, likely, high), where of ten replies one costs less than the low and one more
    than the high. ``unknown``: items like which nothing has been paid for yet."""

    items: int = 0
    replies: int = 0  # from so many it is told
    unknown: int = 0
    cost: dict[str, tuple[float, float, float]] = field(default_factory=dict)


def forecast(out: Place, job: str, chosen: pl.DataFrame, anew: Anew, model: str) -> Forecast:
    """``model``: for rows that could not be asked before.

    An item is told by replies of the model it will go to: about media of the same kinds, else about any.
    """
    replies = (
        scan(out, "results")
        .filter(pl.col("cost").is_not_null(), job=job, status="ok")
        .filter(pl.col("duplicate_of").is_null())
        .select("currency", pl.col("cost").cast(pl.Float64), model="model_requested", kinds=_KINDS)
    )
    alike = _typical(replies, "model", "kinds")
    by_model = _typical(replies, "model")
    groups = (
        chosen.select(
            pl.lit(anew.model) if anew.model is not None else pl.col("model_requested").fill_null(model),
            kinds=pl.when(pl.col("request_json").is_not_null()).then(_KINDS),
        )
        .group_by(pl.nth(0).alias("model"), "kinds")
        .len()
    )
    told = Forecast(items=chosen.height)
    used: set[tuple[str, ...]] = set()
    for name, kinds, items in groups.iter_rows():
        key = (name, kinds) if (name, kinds) in alike else (name,)
        known = alike.get(key) or by_model.get(key)
        if known is None:
            told.unknown += items
            continue
        used.add(key)
        for currency, _, *each in known:
            before = told.cost.get(currency, (0.0, 0.0, 0.0))
            low, likely, high = (was + items * one for was, one in zip(before, each, strict=True))
            told.cost[currency] = (low, likely, high)
    widest = {key for key in used if len(key) == 1 or (key[0],) not in used}
    told.replies = sum(count for key in widest for _, count, *_ in alike.get(key) or by_model[key])
    return told


def _typical(
    replies: pl.LazyFrame, *by: str
) -> dict[tuple[str, ...], list[tuple[str, int, float, float, float]]]:
    """key → [(currency, replies, low, likely, high), …]

    What is likely is the mean, which one dear reply among many cheap ones lifts above nine of ten: the band
    goes as far.
    """
    cost = pl.col("cost")
    frame = (
        replies.group_by(*by, "currency")
        .agg(
            count=pl.len(),
            low=cost.quantile(_LOW, "linear"),
            likely=cost.mean(),
            high=cost.quantile(_HIGH, "linear"),
        )
        .with_columns(low=pl.min_horizontal("low", "likely"), high=pl.max_horizontal("likely", "high"))
        .sort(*by, "currency")
        .collect()
    )
    typical: dict[tuple[str, ...], list[tuple[str, int, float, float, float]]] = {}
    for row in frame.iter_rows():
        typical.setdefault(row[: len(by)], []).append(row[len(by) :])
    return typical
