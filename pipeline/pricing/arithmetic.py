"""Counts × rates → charges, exactly.

Owns the sums: a cost is tokens × micros in units of 10⁻¹², in integers, and becomes a `Decimal` of scale 12
at the end, so no ambient decimal context can round it. Refuses to guess: a count without a rate is charged
None, and where tokens were allocated between modalities the bounds say how wrong that can be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Context, Decimal

from pipeline.pricing.rates import Rates, Sheet
from pipeline.records import Charge, CountModality, Kind, TokenCount, record

_EXACT = Context(prec=200)  # for sums of money columns: far past what 38 digits can hold
_TRILLIONTH = Decimal("1E-12")
_FEE = TokenCount("unattributed", "input", "request", 0, "derived")


class NegativeCount(ValueError):
    """A count is below zero: a dialect's mapping is wrong. A bug of ours, not an answer of an endpoint."""


@record
class Priced:
    """One charge a count, in order, then one for a fee where there is one; and what the whole reply is known
    to cost.

    ``cost`` is the sum of the known charges, None where none is known. The bounds equal it where nothing
    was allocated; otherwise they hold whatever the true allocation is, and are None where that needs a
    price nobody knows.
    """

    charges: tuple[Charge, ...]
    cost: Decimal | None
    cost_low: Decimal | None
    cost_high: Decimal | None


def price(counts: Sequence[TokenCount], rates: Rates | None, sent: Collection[str] = ()) -> Priced:
    """Price each count, keeping their order.

    Counts are exclusive: a cached audio token appears once, as cached audio. A count that has no rate is
    charged ``cost=None``; unknown is not free. ``sent``: the modalities the request carried, which is what
    `unattributed` tokens can be besides text. A fee for each reply is one charge more, after those of the
    counts.

    The bounds of a charge run over the rates of what its tokens could be. Cached tokens that were spread
    over several modalities keep the cost of that spread in their charges; how far it can be off shows in
    the bounds of the whole reply, which run over the cheapest and the dearest way to place them.

    Raises:
        NegativeCount: a count is below zero, so the dialect's mapping is wrong.
    """
    input_tokens = 0
    is_spread = False
    for count in counts:
        if count.tokens < 0:
            raise NegativeCount(f"{count.tokens} {count.modality} {count.direction} tokens")
        if count.direction == "input":
            input_tokens += count.tokens
            if count.provenance == "estimated" and count.kind != "fresh":
                is_spread = True
    if rates is None:
        unpriced = tuple([Charge(count, None, None, None, None, None, None) for count in counts])
        return Priced(unpriced, None, None, None)

    sheet = rates.sheet(input_tokens)
    currency, source = rates.currency, rates.source
    charges: list[Charge] = []
    known: int | None = None
    low: int | None = 0
    high: int | None = 0
    for count in counts:
        modality, tokens = count.modality, count.tokens
        unit = sheet.get((modality, count.direction, count.kind))
        if unit is None:
            charges.append(Charge(count, None, None, None, None, None, None))
            continue
        cost = tokens * unit.micros
        known = cost if known is None else known + cost
        amount = money(cost)
        if modality != "unattributed" and modality != "image+video":
            charges.append(Charge(count, unit.per_mtok, amount, amount, amount, currency, source))
            if low is not None:
                low += cost
            if high is not None:
                high += cost
            continue
        least, most = _bounds(sheet, count, sent)
        cost_low = None if least is None else tokens * least
        cost_high = None if most is None else tokens * most
        low = None if low is None or cost_low is None else low + cost_low
        high = None if high is None or cost_high is None else high + cost_high
        amount_low, amount_high = _bound(cost_low, cost, amount), _bound(cost_high, cost, amount)
        charges.append(Charge(count, unit.per_mtok, amount, amount_low, amount_high, currency, source))
    if is_spread and known is not None:
        low, high = _spread_bounds(sheet, counts, sent)
    if rates.fee:
        fee = money(rates.fee)
        charges.append(Charge(_FEE, None, fee, fee, fee, currency, source))
        known = rates.fee + (known or 0)
        low = None if low is None else low + rates.fee
        high = None if high is None else high + rates.fee
    if known is None:
        return Priced(tuple(charges), None, None, None)
    amount = money(known)
    return Priced(tuple(charges), amount, _bound(low, known, amount), _bound(high, known, amount))


def total(costs: Iterable[Decimal | None]) -> Decimal | None:
    """The exact sum of what is known, whatever the ambient decimal context; None where nothing is."""
    result: Decimal | None = None
    for cost in costs:
        if cost is not None:
            result = cost if result is None else _EXACT.add(result, cost)
    return result


def money(trillionths: int) -> Decimal:
    """An amount in units of 10⁻¹² as a decimal of scale 12; `trillionths` is its inverse."""
    return _EXACT.multiply(trillionths, _TRILLIONTH)


def trillionths(amount: Decimal) -> int:
    """An amount in units of 10⁻¹²; what is smaller is cut off."""
    return int(_EXACT.scaleb(amount, 12))


def _bound(trillionths: int | None, known: int, amount: Decimal) -> Decimal | None:
    """A bound as money; ``amount``, the money of ``known``, where it is the same."""
    if trillionths == known:
        return amount
    return None if trillionths is None else money(trillionths)


def _bounds(sheet: Sheet, count: TokenCount, sent: Collection[str]) -> tuple[int | None, int | None]:
    """The lowest and highest rate (micros) of what an allocated count could be; None where one is unknown."""
    rates: list[int] = []
    for modality in _could_be(sheet, count, sent):
        unit = sheet.get((modality, count.direction, count.kind))
        if unit is None:
            return None, None
        rates.append(unit.micros)
    return min(rates), max(rates)


def _could_be(sheet: Sheet, count: TokenCount, sent: Collection[str]) -> list[CountModality]:
    if count.modality == "image+video":
        return ["image", "video"]
    if count.modality != "unattributed":
        return [count.modality]
    able: list[CountModality] = ["text"]
    if count.direction == "output":
        # What a reply can hold besides text is what the book prices as output.
        able.extend(m for m in _MEDIA if (m, "output", "fresh") in sheet)
        return able
    able.extend(m for m in _MEDIA if m in sent)
    if "video" in sent and "audio" not in sent and ("audio", "input", count.kind) in sheet:
        able.append("audio")  # a video's soundtrack is billed as audio by models that have such a rate
    return able


_MEDIA: tuple[CountModality, ...] = ("image", "audio", "video", "document")


def _spread_bounds(
    sheet: Sheet, counts: Sequence[TokenCount], sent: Collection[str]
) -> tuple[int | None, int | None]:
    """The bounds of a reply whose cached tokens were spread over its input modalities.

    Each kind's tokens go to the modality where they save most, then the next (the low bound), or where they
    save least (the high one). With several kinds at once each is placed as if it were alone: a little wider
    than the truth, never narrower. Where a modality is itself allocated, both of its rates bound it.
    """
    size: dict[CountModality, int] = {}
    placed: dict[Kind, int] = {}
    low = high = 0
    for count in counts:
        if count.direction == "output":
            unit = sheet.get((count.modality, "output", count.kind))
            if unit is None:
                continue  # unknown in the known sum, so in the bounds
            least, most = _bounds(sheet, count, sent)
            if least is None or most is None:
                return None, None
            low += count.tokens * least
            high += count.tokens * most
            continue
        size[count.modality] = size.get(count.modality, 0) + count.tokens
        if count.kind != "fresh":
            placed[count.kind] = placed.get(count.kind, 0) + count.tokens

    def ranges(kind: Kind) -> dict[CountModality, tuple[int, int]] | None:
        found: dict[CountModality, tuple[int, int]] = {}
        for modality in size:
            least, most = _bounds(sheet, TokenCount(modality, "input", kind, 0, "estimated"), sent)
            if least is None or most is None:
                return None
            found[modality] = (least, most)
        return found

    fresh = ranges("fresh")
    if fresh is None:
        return None, None
    low += sum(tokens * fresh[modality][0] for modality, tokens in size.items())
    high += sum(tokens * fresh[modality][1] for modality, tokens in size.items())
    for kind, amount in placed.items():
        rates = ranges(kind)
        if rates is None:
            return None, None
        low += _place(amount, [(rates[m][0] - fresh[m][0], tokens) for m, tokens in size.items()])
        high -= _place(amount, [(fresh[m][1] - rates[m][1], tokens) for m, tokens in size.items()])
    return low, high


def _place(amount: int, rooms: list[tuple[int, int]]) -> int:
    """The least that ``amount`` tokens can add, filling the cheapest (difference, room) first."""
    added = 0
    for difference, room in sorted(rooms):
        taken = min(amount, room)
        added += taken * difference
        amount -= taken
    return added
