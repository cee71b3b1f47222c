"""Files of media, bounded in bytes: in the order of asking, made once, kept while there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from pipeline.errors import FetchFailed, MediaMissing, StoreUnwritable
from pipeline.media.spool import Blob, Held, Spool, Wanted
from tests.rehearsing import on_virtual_time


class Maker:
    """Makes files that take a second each, and remembers which."""

    def __init__(self, size_bytes: int = 10, problem: Exception | None = None) -> None:
        self.made: list[str] = []
        self.at_once = self.most_at_once = 0
        self._size_bytes = size_bytes
        self._problem = problem

    def wanted(self, *keys: str, most_bytes: int = 40) -> list[Wanted]:
        return [Wanted(key, most_bytes, self._making(key)) for key in keys]

    def _making(self, key: str) -> Callable[..., object]:
        async def make(path: Path, on_size: Callable[[int], None]) -> Blob:
            self.made.append(key)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            await anyio.sleep(1)
            self.at_once -= 1
            if self._problem is not None:
                raise self._problem
            on_size(self._size_bytes)
            await anyio.Path(path).write_bytes(bytes(self._size_bytes))
            return Blob(path, self._size_bytes, "image/png")

        return make


@pytest.fixture
def spool():
    made = Spool(most_bytes=100)
    yield made
    made.close()


@on_virtual_time
async def test_what_many_want_at_once_is_made_once(spool: Spool):
    maker = Maker()
    held: list[Held] = []

    async def hold() -> None:
        held.append(await spool.hold(maker.wanted("a")))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(hold)
    assert maker.made == ["a"]
    assert len({one.blobs[0].path for one in held}) == 1


@on_virtual_time
async def test_what_nobody_holds_stays_until_its_room_is_needed(spool: Spool):
    maker = Maker(size_bytes=40)
    for key in ("a", "b", "a", "c", "a"):  # a and b fill 80 of 100; c takes the room of b, used longest ago
        (await spool.hold(maker.wanted(key))).let_go()
    assert maker.made == ["a", "b", "c"]
    (await spool.hold(maker.wanted("b"))).let_go()
    assert maker.made == ["a", "b", "c", "b"]


@on_virtual_time
async def test_no_more_is_set_aside_than_there_may_be_and_nobody_overtakes(spool: Spool):
    maker = Maker(size_bytes=40)
    first = await spool.hold(maker.wanted("a"))
    second = await spool.hold(maker.wanted("b"))
    order: list[str] = []

    async def hold(*keys: str) -> None:
        held = await spool.hold(maker.wanted(*keys))
        order.append(keys[0])
        held.let_go()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold, "large", "larger")  # 80
        await anyio.sleep(0.1)
        tasks.start_soon(hold, "small")  # 40: would fit before
        await anyio.sleep(5)
        assert order == []
        first.let_go()
        await anyio.sleep(5)
        assert order == []
        second.let_go()
    assert order == ["large", "small"]


@on_virtual_time
async def test_one_can_wait_until_nobody_waits_for_room(spool: Spool):
    maker = Maker(size_bytes=40)
    began_s = anyio.current_time()

    async def hold(key: str) -> None:
        (await spool.hold(maker.wanted(key))).let_go()

    await spool.no_line()
    assert anyio.current_time() == began_s
    async with anyio.create_task_group() as tasks:
        for key in "abcde":
            tasks.start_soon(hold, key)
        await anyio.sleep(0.5)
        await spool.no_line()
        assert anyio.current_time() - began_s >= 2  # two at a time, and the last has begun


@on_virtual_time
async def test_once_the_size_is_known_the_others_need_not_wait(spool: Spool):
    maker = Maker(size_bytes=10)
    async with anyio.create_task_group() as tasks:
        for key in "abcdef":  # 40 each until they have 10
            tasks.start_soon(spool.hold, maker.wanted(key))
    assert maker.most_at_once == 2
    assert anyio.current_time() == 4  # a and b, c and d, e, f


@on_virtual_time
async def test_what_is_larger_than_all_there_is_goes_alone(spool: Spool):
    maker = Maker()
    first = await spool.hold(maker.wanted("a"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(spool.hold, maker.wanted("x", "y", "z"))  # 120
        await anyio.sleep(3)
        assert maker.made == ["a"]
        first.let_go()
    assert sorted(maker.made) == ["a", "x", "y", "z"]


@on_virtual_time
async def test_what_fails_fails_for_all_who_wait_and_is_tried_anew_by_the_next(spool: Spool):
    maker = Maker(problem=MediaMissing(404))
    failed = 0

    async def hold() -> None:
        nonlocal failed
        with pytest.raises(MediaMissing):
            await spool.hold(maker.wanted("a"))
        failed += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        tasks.start_soon(hold)
    assert (failed, maker.made) == (2, ["a"])
    mended = Maker()
    (await spool.hold(mended.wanted("a"))).let_go()
    assert mended.made == ["a"]


@on_virtual_time
async def test_whoever_waits_for_a_download_that_was_called_off_is_told_to_try_again(spool: Spool):
    maker = Maker()
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as leaves:

            async def wait() -> None:
                await anyio.sleep(0.1)
                with pytest.raises(FetchFailed):
                    await spool.hold(maker.wanted("a"))

            async def leave() -> None:
                await anyio.sleep(0.5)
                leaves.cancel()

            tasks.start_soon(wait)
            tasks.start_soon(leave)
            await spool.hold(maker.wanted("a"))
    (await spool.hold(maker.wanted("a", "b", most_bytes=50))).let_go()  # all of the room is back


@on_virtual_time
async def test_a_disk_that_takes_no_more_is_no_fault_of_the_medium(spool: Spool):
    maker = Maker(problem=OSError(28, "No space left on device"))
    with pytest.raises(StoreUnwritable, match="No space left"):
        await spool.hold(maker.wanted("a"))


@on_virtual_time
async def test_nothing_is_left_behind():
    spool = Spool(most_bytes=100)
    held = await spool.hold(Maker().wanted("a"))
    path = held.blobs[0].path
    assert path.is_file()
    spool.close()
    assert not path.parent.exists()
