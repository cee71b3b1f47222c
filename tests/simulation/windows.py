"""The promise about limits that a person told: no sixty seconds, wherever they begin, hold more.

What a request takes of its tokens is known when it was answered; until then, by what the gate set aside for
it, and where the answer tells no usage, by that for good. So what was set aside too much, and given back
within the minute, comes on top.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from tests.simulation.broken import RATES, Broken
from tests.simulation.endpoint import Asked, Place

WINDOW_S = 60.0 - 1e-6
SETS_REFUSED, SHARE_REFUSED = 2, 0.15
"""What headers tell comes late: so many times what all slots hold, and a share of all, may be refused."""


def check_windows(place: Place, asked: Sequence[Asked]) -> None:
    """``asked``: of this endpoint, in one session."""
    if place.rpm is None and place.tpm is None:
        return
    admitted = sorted(asked, key=lambda one: one.admitted_s)
    times = [one.admitted_s for one in admitted]
    for newest, now_s in enumerate(times):
        oldest = bisect_right(times, now_s - WINDOW_S)
        if place.rpm is not None and newest - oldest + 1 > place.rpm:
            raise Broken(
                RATES, f"{newest - oldest + 1} requests in a minute to {now_s:.3f} s, told were {place.rpm}"
            )
    if place.tpm is not None:
        _check_tokens(place.tpm, admitted, times)


def check_told_in_headers(place: Place, asked: Sequence[Asked], slots: int) -> None:
    """An endpoint that tells all its limits in headers hardly ever needs to refuse."""
    limits = place.limits
    if limits is None or limits.spelling is None or (limits.spelling == "plain" and limits.tpm):
        return
    refused = sum(one.is_over_limit for one in asked)
    if refused > SETS_REFUSED * slots + SHARE_REFUSED * len(asked):
        raise Broken(
            RATES, f"{refused} of {len(asked)} were refused at {slots} slots, though headers told {limits}"
        )


def _check_tokens(tpm: int, admitted: list[Asked], times: list[float]) -> None:
    answers = sorted((known, at) for at, one in enumerate(admitted) if (known := _known_s(one)) is not None)
    known_s = [time_s for time_s, _ in answers]
    for newest, now_s in enumerate(times):
        oldest = bisect_right(times, now_s - WINDOW_S)
        took = sum(_took(one, now_s) for one in admitted[oldest : newest + 1])
        first, last = bisect_right(known_s, now_s - WINDOW_S), bisect_right(known_s, now_s)
        back = sum(
            max(0.0, one.set_aside - _took(one, now_s))
            for _, at in answers[first:last]
            if at < oldest and (one := admitted[at])
        )
        if took > tpm + back + 1.0:
            raise Broken(
                RATES,
                f"{took:,.0f} tokens in a minute to {now_s:.3f} s, told were {tpm:,}, {back:,.0f} came back",
            )


def _known_s(one: Asked) -> float | None:
    """When it is known what it took."""
    return one.left_s if one.fate.state == "not_billed" or one.fate.has_usage else None


def _took(one: Asked, now_s: float) -> float:
    known_s = _known_s(one)
    if known_s is None or known_s > now_s:
        return one.set_aside
    return one.bill.usage["total_tokens"] if one.bill and one.fate.has_usage else 0.0
