"""A run as a stream of rows, for programs that use the library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from pipeline.errors import ManifestError
from pipeline.following import following
from pipeline.plan import Secrets
from pipeline.records import Ended, Outcome
from tests.end_to_end.nights import Store, plan_for, write_manifest
from tests.serving.answers import completion, gateway_error
from tests.serving.server import Server

ROWS = [{"id": f"r{n}", "prompt": f"say {n}"} for n in range(300)]


def read(plan, enough: int = 10**9, pause_s: float = 0.0) -> list[Ended]:
    async def follow() -> list[Ended]:
        found: list[Ended] = []
        async with following(plan, Secrets(api_key="k")) as rows:
            async for row in rows:
                found.append(row)
                await anyio.sleep(pause_s)
                if len(found) >= enough:
                    break
        return found

    return anyio.run(follow)


def test_every_row_comes_once_whatever_its_end(tmp_path: Path, serve: Callable[..., Server]):
    server = serve(lambda got: gateway_error(400) if got.text == "say 7" else completion())
    rows = [*ROWS, {"id": "bad"}, {"id": "again", "prompt": "say 1"}]
    plan = plan_for(write_manifest(tmp_path / "m.csv", rows), server.base_url, tmp_path / "out", slots=8)
    found = read(plan)
    kinds = Counter(type(row).__name__ for row in found)
    assert kinds == {"Outcome": 300, "BadRow": 1, "Duplicate": 1}
    assert [row.item.id for row in found if isinstance(row, Outcome) and row.error] == ["r7"]
    assert Store(plan.out).run["state"] == "done"


def test_rows_that_came_are_on_record(tmp_path: Path, serve: Callable[..., Server]):
    """A reader that leaves stops the run, and what it has read stands in the store; the rest is resumed."""
    server = serve(lambda got: completion().after(0.01))
    plan = plan_for(write_manifest(tmp_path / "m.csv", ROWS), server.base_url, tmp_path / "out", slots=4)
    found = read(plan, enough=40)
    store = Store(plan.out)
    assert store.run["state"] == "interrupted"
    assert {row.item.id for row in found if isinstance(row, Outcome)} <= set(store.ids("ok"))
    assert store.rows() == list(range(1, 301))
    later = read(plan)
    assert sum(isinstance(row, Outcome) for row in later) == 300 - len(store.ids("ok"))
    assert len(Store(plan.out).ids("ok")) == 300
    assert server.times("say 3") == 1


def test_a_slow_reader_slows_the_run(tmp_path: Path, serve: Callable[..., Server]):
    server = serve(lambda got: completion())
    plan = plan_for(write_manifest(tmp_path / "m.csv", ROWS), server.base_url, tmp_path / "out", slots=4)

    async def follow() -> int:
        async with following(plan, Secrets(api_key="k")) as rows:
            await rows.__anext__()
            await anyio.sleep(1.0)
            return len(server.received)

    assert anyio.run(follow) < 250  # a hundred wait to be read, and some are under way


def test_a_mistake_surfaces_as_itself(tmp_path: Path):
    with pytest.raises(ManifestError):
        read(plan_for(tmp_path / "none.csv", "http://127.0.0.1:9/v1", tmp_path / "out"))
