"""Price books: which `Rates` hold for a model at a moment.

Owns `ListPrices`, genai-prices' dated list prices as they come with the installed package: offline, never
updated behind our back. A book of another kind is another class behind `PriceBook`. Next: `arithmetic`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.pricing.rates import Rates, Sheet, Unit, UnitPrice
from pipeline.records import CountModality

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider

_MOST_CACHED = 10_000  # (model, day) pairs; a manifest may name a model of its own in every row


@dataclass(frozen=True, slots=True)
class BookIdentity:
    """Which prices priced a run: for run.json. ``installed_on`` is the day (UTC) the data came here."""

    name: str
    version: str
    sha256: str
    installed_on: date


class PriceBook(Protocol):
    """Where rates come from."""

    def rates(self, model: str, at: datetime) -> Rates | None:
        """The rates for ``model`` at that instant (UTC-aware), or None where the book has no such model."""

    def identity(self) -> BookIdentity:
        """Which prices these are, for run.json."""


@dataclass(frozen=True, slots=True)
class Layered:
    """Several books: of those that know a model on a day, the first prices it."""

    books: tuple[PriceBook, ...]

    def rates(self, model: str, at: datetime) -> Rates | None:
        for book in self.books:
            rates = book.rates(model, at)
            if rates is not None:
                return rates
        return None

    def identity(self) -> BookIdentity:
        """That of the first."""
        return self.books[0].identity()


class ListPrices:
    """genai-prices' list prices, in USD.

    A model is found as it is named, else by what follows a gateway's prefix (``google/gemini-2.5-flash``,
    ``models/…``); nothing fuzzier than genai-prices itself. What the list knows no price for stays out of
    the rates:

    - text, image, video and document input: a unit of its own where there is one, else the input rate;
    - audio input: its own unit only. Billing it as text would be up to 16 times off;
    - cached input: the cache-read unit (of the modality, else in general); where the list has none, the
      fresh rate: no discount listed means none. Cached audio: its own unit only;
    - cache writes: the unit of their lifetime; the general one is the 5-minute price, so it serves 5m only;
    - output text and reasoning: their own unit, else the output rate; output media: their own unit only.
    """

    def __init__(self) -> None:
        self._snapshot: DataSnapshot | None = None
        self._version = ""
        self._by_day: dict[tuple[str, date], Rates | None] = {}
        self._hourly: dict[str, tuple[Provider, ModelInfo]] = {}
        self._by_price: dict[tuple[str, str, int], Rates] = {}

    def __reduce__(self) -> tuple[type[ListPrices], tuple[()]]:
        """Another process has the list itself."""
        return ListPrices, ()

    def rates(self, model: str, at: datetime) -> Rates | None:
        day = (at if at.tzinfo is UTC else at.astimezone(UTC)).date()
        try:
            return self._by_day[model, day]
        except KeyError:
            pass
        found = self._hourly.get(model) or self._find(model)
        rates = None if found is None else self._rates(*found, at)
        if found is not None and _changes_within_a_day(found[1]):
            self._hourly[model] = found  # DeepSeek's off-peak hours: the rates are looked up each time
            return rates
        if len(self._by_day) >= _MOST_CACHED:
            self._by_day.clear()
        self._by_day[model, day] = rates
        return rates

    def identity(self) -> BookIdentity:
        """Which prices these are: the package's version, and a hash of its data."""
        from genai_prices import data

        content = Path(data.__file__).read_bytes()
        day = datetime.fromtimestamp(Path(data.__file__).stat().st_mtime, UTC).date()
        return BookIdentity("genai-prices", version("genai-prices"), sha256(content).hexdigest(), day)

    def _find(self, model: str) -> tuple[Provider, ModelInfo] | None:
        if self._snapshot is None:
            # Here, not above: importing the list takes 0.13 s, which `mediabatch --help` need not wait for.
            from genai_prices.data import providers
            from genai_prices.data_snapshot import DataSnapshot

            self._snapshot = DataSnapshot(providers=providers, from_auto_update=False)
            self._version = version("genai-prices")
        name = model
        while name:
            try:
                return self._snapshot.find_provider_model(name, None, None, None)
            except LookupError:
                name = name.partition("/")[2]
        return None

    def _rates(self, provider: Provider, model: ModelInfo, at: datetime) -> Rates:
        listed = model.get_prices(at)
        # The list's price objects live as long as the snapshot, so their ids name them.
        key = (provider.id, model.id, id(listed))
        rates = self._by_price.get(key)
        if rates is None:
            rates = self._by_price[key] = Rates(
                currency="USD",
                source=f"genai-prices {self._version}, {provider.id}/{model.id}",
                base=_sheet(listed, None),
                tiers=tuple((start, _sheet(listed, start)) for start in _starts(listed)),
            )
        return rates


def _changes_within_a_day(model: ModelInfo) -> bool:
    from genai_prices.types import TimeOfDateConstraint

    return isinstance(model.prices, list) and any(
        isinstance(price.constraint, TimeOfDateConstraint) for price in model.prices
    )


def _starts(listed: ModelPrice) -> list[int]:
    """The input tokens above which any unit of the model changes its price."""
    from genai_prices.types import TieredPrices

    tiered = [value for value in vars(listed).values() if isinstance(value, TieredPrices)]
    return sorted({tier.start for value in tiered for tier in value.tiers})


def _sheet(listed: ModelPrice, start: int | None) -> Sheet:
    """The prices that hold above ``start`` input tokens; None: from the first token on."""
    sheet: dict[Unit, UnitPrice] = {}
    for unit, names in _LISTED_UNITS.items():
        for name in names:
            value = _listed_price(listed, f"{name}_mtok", start)
            if value is not None:
                sheet[unit] = UnitPrice.of(value)
                break
    return sheet


def _listed_price(listed: ModelPrice, name: str, start: int | None) -> Decimal | None:
    from genai_prices.types import TieredPrices

    value: Decimal | TieredPrices | None = getattr(listed, name)
    if not isinstance(value, TieredPrices):
        return value
    price = value.base
    if start is not None:
        for tier in value.tiers:
            if tier.start <= start:
                price = tier.price
    return price


def _listed_units() -> dict[Unit, tuple[str, ...]]:
    """Ours → the list's units that price it, the first one listed counting. The rules of `ListPrices`."""
    units: dict[Unit, tuple[str, ...]] = {
        ("audio", "input", "fresh"): ("input_audio",),
        ("audio", "input", "cached"): ("cache_audio_read",),
        ("audio", "input", "cache_write_5m"): ("cache_audio_write_5m", "cache_audio_write"),
        ("audio", "input", "cache_write_1h"): ("cache_audio_write_1h",),
        ("text", "output", "fresh"): ("output_text", "output"),
        ("text", "output", "reasoning"): (
            "output_text_reasoning",
            "output_reasoning",
            "output_text",
            "output",
        ),
        ("image", "output", "fresh"): ("output_image",),
        ("audio", "output", "fresh"): ("output_audio",),
        ("video", "output", "fresh"): ("output_video",),
        ("unattributed", "output", "fresh"): ("output",),
    }
    owning: tuple[CountModality, ...] = ("text", "image", "video")
    plain: tuple[CountModality, ...] = ("document", "image+video", "unattributed")
    for modality in owning:
        units[modality, "input", "fresh"] = (f"input_{modality}", "input")
        units[modality, "input", "cached"] = (
            f"cache_{modality}_read",
            "cache_read",
            f"input_{modality}",
            "input",
        )
        units[modality, "input", "cache_write_5m"] = (
            f"cache_{modality}_write_5m",
            f"cache_{modality}_write",
            "cache_write_5m",
            "cache_write",
        )
        units[modality, "input", "cache_write_1h"] = (f"cache_{modality}_write_1h", "cache_write_1h")
    for modality in plain:
        units[modality, "input", "fresh"] = ("input",)
        units[modality, "input", "cached"] = ("cache_read", "input")
        units[modality, "input", "cache_write_5m"] = ("cache_write_5m", "cache_write")
        units[modality, "input", "cache_write_1h"] = ("cache_write_1h",)
    return units


_LISTED_UNITS = _listed_units()
