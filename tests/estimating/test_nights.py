"""A slice of ``python -m tests.estimate_nights``, which plays 200."""

from __future__ import annotations

import anyio

from tests.estimate_nights import NEAR, held, nights


def test_the_band_holds_the_bill_of_endpoints_that_count_by_rules_of_their_own() -> None:
    """Before any reply, and after a canary of 50; then the likely figure is near, too. What 50 replies whose
    lengths differ by a third leave in doubt is 5% in itself."""
    played = anyio.run(nights, range(8))
    assert [held(one.cold, one.whole) for one in played].count(True) >= 7
    assert [held(one.warm, one.rest) for one in played].count(True) >= 7
    offs = sorted(abs(one.off) for one in played)
    assert offs[4] < NEAR
    assert offs[-1] < 3 * NEAR
