"""`--where` → a filter over latest outcomes.

A clause is ``KEY=VALUE[,VALUE…]`` (any of them), ``KEY!=…`` (none of them), and for numbers and ages also
``<``, ``<=``, ``>``, ``>=``. Clauses are ANDed. What is unknown equals nothing, and so differs from
everything. A comma or a star that is meant itself has a backslash before it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import reduce
from operator import and_, or_
from typing import Final

import polars as pl

from pipeline.errors import MediabatchError, UsageError
from pipeline.records import MEDIA_MODALITIES

_CLAUSE: Final = re.compile(r"\s*([\w-]+)\s*(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_ORDERED: Final[dict[str, Callable[[pl.Expr, object], pl.Expr]]] = {
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}
_VALUE: Final = re.compile(r"(?:\\[,*\\]|[^,])+", re.DOTALL)
_STAR: Final = re.compile(r"(?<!\\)((?:\\\\)*)\*")
_ESCAPED: Final = re.compile(r"\\([,*\\])")
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_FEW: Final = 5  # values that are quicker listed than guessed at
_UNIT: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Match = Callable[[str], pl.Expr]
"""One value → whether an outcome has it."""


def _has_media(field: str, value: str) -> pl.Expr:
    return pl.col("media").list.eval(pl.element().struct.field(field) == value).list.any()


def _is_modality(value: str) -> pl.Expr:
    return pl.col("media").list.len() == 0 if value == "text" else _has_media("modality", value)


def _is_model(value: str) -> pl.Expr:
    return pl.col("model_requested").eq_missing(value) | pl.col("model").eq_missing(value)


def _is_like(values: Sequence[str]) -> pl.Expr:
    """Ids by themselves, all at once, for there may be thousands; those with a star one by one."""
    patterns = [value for value in values if _STAR.search(value)]
    alike = [pl.col("item_id").str.contains(_pattern(value)) for value in patterns]
    whole = [_plain(value) for value in values if value not in patterns]
    return reduce(or_, alike, pl.col("item_id").is_in(whole))


def _pattern(value: str) -> str:
    parts = _STAR.sub(lambda found: found[1] + "\0", value).split("\0")
    return f"(?s)^{'.*'.join(pl.escape_regex(_plain(part)) for part in parts)}$"


def _plain(value: str) -> str:
    return _ESCAPED.sub(r"\1", value)


def _is(column: str) -> Match:
    return lambda value: pl.col(column) == value


def _classes(kind: type[MediabatchError] = MediabatchError) -> Iterable[str]:
    yield kind.__name__
    for child in kind.__subclasses__():
        yield from _classes(child)


_TEXTS: Final[dict[str, tuple[Match, tuple[str, ...]]]] = {
    "error_class": (_is("error_class"), ()),
    "finish_reason": (_is("finish_reason"), ()),
    "modality": (_is_modality, ("text", *MEDIA_MODALITIES)),
    "model": (_is_model, ()),
    "run": (_is("run_id"), ()),
    "status": (_is("status"), ("ok", "failed")),
    "seen": (lambda value: _has_media("seen", value), ("yes", "no", "unknown")),
}
"""key → (how one value matches, the values there are; none given: any text)"""

KEYS: Final = (
    "error_class", "http_status", "finish_reason", "modality", "model", "run", "age", "id", "status", "seen",
)  # fmt: skip
_CHOOSE_OK: Final = {"finish_reason", "seen", "status"}
"""Where one of these is asked for, answered items may be meant too."""


def predicate(clauses: Sequence[str], now: datetime) -> pl.Expr:
    """The filter over rows of results; without clauses all that failed.

    Raises:
        UsageError: a clause says nothing we know.
    """
    keys, chosen = _all_of(clauses, now)
    if _CHOOSE_OK.isdisjoint(keys):
        chosen &= pl.col("status") == "failed"
    return chosen


def matching(clauses: Sequence[str], now: datetime) -> pl.Expr:
    """The same for those who look and do not ask: answered items too, whatever the clauses name.

    Raises:
        UsageError: a clause says nothing we know.
    """
    return _all_of(clauses, now)[1]


def _all_of(clauses: Sequence[str], now: datetime) -> tuple[set[str], pl.Expr]:
    read = [_read(clause, now) for clause in clauses]
    return {key for key, _ in read}, reduce(and_, (filter_ for _, filter_ in read), pl.lit(True))


def _read(clause: str, now: datetime) -> tuple[str, pl.Expr]:
    found = _CLAUSE.fullmatch(clause)
    if found is None:
        raise UsageError(f"--where {clause!r}: say KEY=VALUE, as in error_class=Overloaded; {_the_keys()}")
    key, sign, told = found[1].lower().replace("-", "_"), found[2], found[3].strip()
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=1)
        meant = f" did you mean {near[0]}?" if near else ""
        raise UsageError(f"--where {clause!r}: no such key {key!r};{meant} {_the_keys()}")
    values = [value.strip() for value in _VALUE.findall(told) if value.strip()]
    if not values:
        raise UsageError(f"--where {clause!r}: names no value; say {key}=VALUE")
    if key == "age":
        return key, _age(clause, sign, values, now)
    if key == "http_status":
        return key, _number(clause, key, sign, values)
    if sign not in ("=", "!="):
        raise UsageError(f"--where {clause!r}: {key} takes = and !=; < and > are for http_status and age")
    if key == "id":
        any_of = _is_like(values).fill_null(False)
        return key, any_of if sign == "=" else ~any_of
    match, known = _TEXTS[key]
    values = [_plain(value) for value in values]
    for value in values:
        _check(clause, key, value, known or (tuple(_classes()) if key == "error_class" else ()))
    any_of = reduce(or_, [match(value) for value in values]).fill_null(False)
    return key, any_of if sign == "=" else ~any_of


def _check(clause: str, key: str, value: str, known: Sequence[str]) -> None:
    if not known or value in known:
        return
    by_letters = {name.lower(): name for name in known}
    near = difflib.get_close_matches(value.lower(), by_letters, n=1)
    if near and len(known) > _FEW:
        hint = f"did you mean {by_letters[near[0]]}?"
    else:
        hint = f"there are {', '.join(sorted(known))}"
    raise UsageError(f"--where {clause!r}: no {key} is called {value!r}; {hint}")


def _number(clause: str, key: str, sign: str, values: Sequence[str]) -> pl.Expr:
    try:
        numbers = [int(value) for value in values]
    except ValueError:
        raise UsageError(f"--where {clause!r}: {key} is a whole number, as in {key}=503") from None
    if sign in _ORDERED:
        if len(numbers) > 1:
            raise UsageError(f"--where {clause!r}: {sign} takes one number")
        return _ORDERED[sign](pl.col(key), numbers[0]).fill_null(False)
    any_of = pl.col(key).is_in(numbers).fill_null(False)
    return any_of if sign == "=" else ~any_of


def _age(clause: str, sign: str, values: Sequence[str], now: datetime) -> pl.Expr:
    found = _AGE.fullmatch(values[0])
    if found is None or len(values) > 1 or sign not in _ORDERED:
        raise UsageError(f"--where {clause!r}: an age is told as age<2d or age>12h (s, m, h, d or w)")
    try:
        age = timedelta(**{_UNIT[found[2]]: float(found[1])})
    except OverflowError:
        raise UsageError(f"--where {clause!r}: no run is that old") from None
    return _ORDERED[sign](pl.lit(now) - pl.col("finished_at"), age)


def _the_keys() -> str:
    return f"the keys are {', '.join(KEYS)}"
