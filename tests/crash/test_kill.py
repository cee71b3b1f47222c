"""The slice of `python -m tests.crash` that runs with every change: ten kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.__main__ import crash


@pytest.mark.slow
@pytest.mark.parametrize("by_settling", [False, True], ids=["resumed by name", "settled by the next run"])
def test_ten_kills_lose_nothing_and_ask_nothing_twice(tmp_path: Path, by_settling: bool) -> None:
    found = crash(tmp_path, kills=10, items=400, seed=1, by_settling=by_settling)
    assert found.broken == []
    assert found.figures["kills"] == 10
