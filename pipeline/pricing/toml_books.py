"""A price book of one's own: a TOML file with the prices of a gateway or a contract.

Owns the file's form, every check of it, and which of its entries holds for a model on a day. Refuses to fill
in what the file does not say: a unit without a price stays out of the rates. `data/prices` has a worked
example. Next: `arithmetic`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from pipeline.errors import PriceBookError
from pipeline.pricing.books import BookIdentity
from pipeline.pricing.rates import Rates, Sheet, Unit, UnitPrice
from pipeline.records import CountModality, Kind

INPUTS: Final[tuple[CountModality, ...]] = ("text", "image", "audio", "video", "document")
OUTPUTS: Final[tuple[CountModality, ...]] = ("text", "image", "audio", "video")
OTHER: Final = "other"
"""The price of every input modality that is not named."""

_INPUT_KINDS: Final[Mapping[str, Kind]] = {
    "input": "fresh",
    "cached": "cached",
    "cache_write_5m": "cache_write_5m",
    "cache_write_1h": "cache_write_1h",
}
_CURRENCY: Final = re.compile("[A-Z]{3}")
_UNITS: Final = {*_INPUT_KINDS, "output", "reasoning"}
_OF_A_BOOK: Final = {"name", "currency", "multiplier", "source", "checked", "price"}
_OF_A_PRICE: Final = {
    *_UNITS,
    "models",
    "valid_from",
    "valid_to",
    "per_request",
    "multiplier",
    "source",
    "checked",
    "tier",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """Prices of some models, on days from ``valid_from`` to ``valid_to``, both included (UTC)."""

    models: tuple[str, ...]
    valid_from: date
    valid_to: date
    base: Sheet
    tiers: tuple[tuple[int, Sheet], ...]
    fee: int
    told: str

    def pattern_for(self, model: str, day: date) -> str | None:
        if not self.valid_from <= day <= self.valid_to:
            return None
        return next((pattern for pattern in self.models if fnmatchcase(model, pattern)), None)


class TomlBook:
    """The file, read and checked. Of several entries that hold, the first in the file does."""

    def __init__(self, identity: BookIdentity, currency: str, entries: tuple[_Entry, ...]) -> None:
        self.currency = currency
        self._identity = identity
        self._entries = entries
        self._by_day: dict[tuple[str, date], Rates | None] = {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            PriceBookError: there is no such file, or something in it is not what it should be.
        """
        try:
            content = path.read_bytes()
            told = tomllib.loads(content.decode("utf-8"), parse_float=Decimal)
            changed_on = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
        except OSError as error:
            raise PriceBookError(path, f"cannot be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise PriceBookError(path, f"is not TOML: {error}") from None
        reader = _Reader(path)
        currency, entries = reader.entries(told)
        checked = reader.day(told, "checked", "")
        identity = BookIdentity(
            reader.name(told),
            "" if checked is None else f"checked {checked}",
            sha256(content).hexdigest(),
            changed_on,
        )
        return cls(identity, currency, entries)

    def rates(self, model: str, at: datetime) -> Rates | None:
        day = at.astimezone(UTC).date()
        if (model, day) not in self._by_day:
            self._by_day[model, day] = self._rates(model, day)
        return self._by_day[model, day]

    def identity(self) -> BookIdentity:
        return self._identity

    def _rates(self, model: str, day: date) -> Rates | None:
        for entry in self._entries:
            pattern = entry.pattern_for(model, day)
            if pattern is not None:
                source = f"{self._identity.name}, {pattern}{entry.told}"
                return Rates(self.currency, source, entry.base, entry.tiers, entry.fee)
        return None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Checks a file's parts, and says where in it something is wrong."""

    path: Path

    def name(self, told: Mapping[str, Any]) -> str:
        name = told.get("name", self.path.stem)
        if not isinstance(name, str) or not name.strip():
            raise self._wrong("name", "is not a name")
        return name.strip()

    def entries(self, told: Mapping[str, Any]) -> tuple[str, tuple[_Entry, ...]]:
        """The currency, and the entries in it."""
        self._only(told, _OF_A_BOOK, "")
        currency = told.get("currency")
        if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
            raise self._wrong("currency", 'is three capital letters, as in currency = "CNY"')
        prices = told.get("price")
        if not isinstance(prices, list) or not prices or not all(isinstance(one, dict) for one in prices):
            raise self._wrong("price", "holds no entries; begin each with [[price]]")
        return currency, tuple(self._entry(number, one, told) for number, one in enumerate(prices, 1))

    def _entry(self, number: int, one: Mapping[str, Any], book: Mapping[str, Any]) -> _Entry:
        where = f"[[price]] {number}: "
        self._only(one, _OF_A_PRICE, where)
        models = one.get("models")
        if not isinstance(models, list) or not models or not all(isinstance(m, str) and m for m in models):
            raise self._wrong(
                f"{where}models", 'is a list of names or patterns, as in models = ["gemini-3*"]'
            )
        multiplier = self._price({**book, **one}, "multiplier", where)
        multiplier = Decimal(1) if multiplier is None else multiplier
        base = dict(self._sheet(one, multiplier, where))
        per_request = self._price(one, "per_request", where)
        if not base and per_request is None:
            raise self._wrong(f"{where}input", "is missing: an entry needs a price for something")
        valid_from, valid_to = (self.day(one, name, where) for name in ("valid_from", "valid_to"))
        if valid_from and valid_to and valid_to < valid_from:
            raise self._wrong(f"{where}valid_to", f"lies before valid_from ({valid_from})")
        checked = self.day({**book, **one}, "checked", where)
        return _Entry(
            tuple(models),
            valid_from or date.min,
            valid_to or date.max,
            _completed(base),
            self._tiers(one, base, multiplier, where),
            UnitPrice.of((per_request or Decimal(0)) * multiplier).micros * 1_000_000,
            f" (checked {checked})" if checked else "",
        )

    def _tiers(
        self, one: Mapping[str, Any], base: Mapping[Unit, UnitPrice], multiplier: Decimal, where: str
    ) -> tuple[tuple[int, Sheet], ...]:
        tiers = one.get("tier", [])
        if not isinstance(tiers, list) or not all(isinstance(tier, dict) for tier in tiers):
            raise self._wrong(f"{where}tier", "is not a list of tables; begin each with [[price.tier]]")
        found: list[tuple[int, Sheet]] = []
        for number, tier in enumerate(tiers, 1):
            there = f"{where}[[price.tier]] {number}: "
            self._only(tier, {*_UNITS, "above_input_tokens"}, there)
            above = tier.get("above_input_tokens")
            if not isinstance(above, int) or isinstance(above, bool) or above < 1:
                raise self._wrong(f"{there}above_input_tokens", "is a whole number from 1 up")
            if found and above <= found[-1][0]:
                raise self._wrong(f"{there}above_input_tokens", "is not above that of the tier before")
            found.append((above, _completed({**base, **dict(self._sheet(tier, multiplier, there))})))
        return tuple(found)

    def _sheet(
        self, one: Mapping[str, Any], multiplier: Decimal, where: str
    ) -> Iterator[tuple[Unit, UnitPrice]]:
        for unit, kind in _INPUT_KINDS.items():
            for modality, price in self._of_modalities(one, unit, INPUTS, where).items():
                yield (modality, "input", kind), UnitPrice.of(price * multiplier)
        for modality, price in self._of_modalities(one, "output", OUTPUTS, where).items():
            yield (modality, "output", "fresh"), UnitPrice.of(price * multiplier)
        reasoning = self._price(one, "reasoning", where)
        if reasoning is not None:
            yield ("text", "output", "reasoning"), UnitPrice.of(reasoning * multiplier)

    def _of_modalities(
        self, one: Mapping[str, Any], unit: str, modalities: tuple[CountModality, ...], where: str
    ) -> dict[CountModality, Decimal]:
        """By modality. A plain number is every input modality's, and of output that of text."""
        told = one.get(unit)
        if told is None:
            return {}
        if not isinstance(told, dict):
            price = self._price(one, unit, where)
            assert price is not None
            return dict.fromkeys(modalities if unit in _INPUT_KINDS else ("text",), price)
        allowed: set[str] = {*modalities, OTHER} if unit in _INPUT_KINDS else {*modalities}
        self._only(told, allowed, f"{where}{unit}: ")
        named = {
            modality: self._price(told, modality, f"{where}{unit}.") for modality in (*modalities, OTHER)
        }
        other = named.pop(OTHER)
        priced = ((modality, other if price is None else price) for modality, price in named.items())
        return {modality: price for modality, price in priced if price is not None}  # type: ignore[misc]

    def _price(self, table: Mapping[str, Any], name: str, where: str) -> Decimal | None:
        value = table.get(name)
        if value is None:
            return None
        try:
            price = Decimal(value) if isinstance(value, (str, int, Decimal)) and value is not True else None
        except ArithmeticError:
            price = None
        if price is None or not price.is_finite() or price < 0:
            raise self._wrong(f"{where}{name}", f"is no price: {value!r}; a number such as 0.25")
        return price

    def day(self, table: Mapping[str, Any], name: str, where: str) -> date | None:
        value = table.get(name)
        if isinstance(value, str):
            try:
                value = date.fromisoformat(value)
            except ValueError:
                value = False
        if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
            return value
        raise self._wrong(f"{where}{name}", f"is no day: {table[name]!r}; write 2026-11-23")

    def _only(self, table: Mapping[str, Any], known: set[str], where: str) -> None:
        for name in table:
            if name not in known:
                raise PriceBookError(
                    self.path, f"{where}there is no {name!r} here; there are {', '.join(sorted(known))}"
                )

    def _wrong(self, where: str, what: str) -> PriceBookError:
        return PriceBookError(self.path, f"{where} {what}")


def _completed(named: Mapping[Unit, UnitPrice]) -> Sheet:
    """With what follows from the prices that are named.

    No price for cached tokens means no discount. Tokens that are images or videos, and nobody tells which,
    cost the dearer of the two; those that nobody can attribute, what text costs (the bounds of a charge run
    over what they could be). Reasoning costs what text output does.
    """
    sheet = dict(named)
    for modality in INPUTS:
        fresh = sheet.get((modality, "input", "fresh"))
        if fresh is not None:
            sheet.setdefault((modality, "input", "cached"), fresh)
    for kind in _INPUT_KINDS.values():
        image, video = sheet.get(("image", "input", kind)), sheet.get(("video", "input", kind))
        if image is not None and video is not None:
            sheet["image+video", "input", kind] = image if image.micros > video.micros else video
        text = sheet.get(("text", "input", kind))
        if text is not None:
            sheet["unattributed", "input", kind] = text
    output = sheet.get(("text", "output", "fresh"))
    if output is not None:
        sheet["unattributed", "output", "fresh"] = output
        sheet.setdefault(("text", "output", "reasoning"), output)
    return sheet
