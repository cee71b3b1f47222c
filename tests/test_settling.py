"""Settling: whatever a run left behind, its ledger and its store agree afterwards, and again afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.errors import BadInput, LedgerDamaged, Overloaded, StoreUnwritable
from pipeline.ledger import Group, InFlight, Ledger
from pipeline.records import Outcome
from pipeline.sealing import Batch, seal
from pipeline.settling import Standing, is_settled, settle
from pipeline.store.rows import NO_TRIES, Entry, Tries, Writing
from pipeline.store.writer import RunWriter
from tests.made import ENDPOINT, NOW, attempt, item, outcome

WRITING = Writing("r1", "default", None)
PART_ITEMS = 10


def ledger_path(out: Path) -> Path:
    return out / "runs" / "r1" / "ledger.sqlite"


def answer(row: int) -> Entry:
    """Every fourth fails."""
    error = BadInput("no", http_status=400) if row % 4 == 0 else None
    ended = outcome(item(f"i{row}", row), attempt(1, error=error)).ended
    assert isinstance(ended, Outcome)
    return WRITING.ended(ended, NO_TRIES.and_then([ended.last]), None)


def in_flight(ticket: int, row: int, number: int = 1, model: str = "a-model") -> InFlight:
    return InFlight(ticket, row, f"i{row}", number, 1_772_748_000_000_000, ENDPOINT, model, "newapi")


def left_behind(out: Path) -> None:
    """A run as a kill leaves it: two sealed parts of 10 rows, 13 more rows, three attempts under way, one of
    an item that was tried before."""
    writer = RunWriter(out, "r1", NOW)
    writer.open()
    tried = attempt(1, error=Overloaded("no", http_status=503))
    with Ledger.open(ledger_path(out)) as ledger:
        for first_seq in (1, 11):
            batch = Batch(first_seq)
            for seq in range(first_seq, first_seq + 10):
                batch.add(seq, answer(seq))
                ledger.commit(Group(done=[(seq, answer(seq).encode())]))
            ledger.commit(Group(sealed=[seal(batch, writer)]))
        ledger.commit(Group(done=[(seq, answer(seq).encode()) for seq in range(21, 34)]))
        ledger.commit(
            Group(
                done=[(34, WRITING.tried("i41", [tried], None).encode())],
                tries=[(41, NO_TRIES.and_then([tried]).encode())],
                sent=[in_flight(1, 40), in_flight(2, 41, number=2), in_flight(3, 42, model="b-model")],
            )
        )


def settled(out: Path, make_writer: Callable[..., RunWriter] = RunWriter) -> Standing:
    with Ledger.open(ledger_path(out)) as ledger:
        return settle(ledger, make_writer(out, "r1", NOW), WRITING, PART_ITEMS)


def contents(out: Path) -> dict[str, Any]:
    """Everything the store and the ledger hold."""
    found: dict[str, Any] = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.parent.name != "r1"
    }
    with Ledger.open(ledger_path(out)) as ledger:
        found["in flight"] = ledger.in_flight()
        found["tries"] = ledger.tries()
        found["done"] = list(ledger.done(1, 1 << 40))
        found["sealed"] = ledger.sealed()
    return found


def frame(out: Path, dataset: str) -> pl.DataFrame:
    return pl.read_parquet(RunWriter(out, "r1", NOW).parts(dataset), hive_partitioning=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    left_behind(tmp_path / "out")
    return tmp_path / "out"


def test_everything_the_ledger_holds_is_brought_into_parts(out: Path):
    standing = settled(out)
    assert frame(out, "results")["row"].to_list() == list(range(1, 34))
    assert list(standing.rows) == list(range(1, 34))
    assert (standing.tally.ok, standing.tally.failed) == (25, 8)
    with Ledger.open(ledger_path(out)) as ledger:
        assert [(one.first_seq, one.last_seq) for one in ledger.sealed()] == [
            (1, 10),
            (11, 20),
            (21, 30),
            (31, 37),
        ]
        assert is_settled(ledger, out)


def test_what_was_under_way_is_listed_once_as_possibly_billed_with_what_it_may_have_cost(out: Path):
    """Replies of a-model cost 9 x $0.25/M + 230 x $1.50/M = $0.00034725; of b-model nothing is known."""
    standing = settled(out)
    assert standing.lost == 3
    settled(out)
    lost = frame(out, "attempts").filter(error_class="Lost").sort("item_id")
    columns = ["item_id", "attempt", "state", "possible_cost", "done_at", "http_status", "endpoint", "model"]
    price = Decimal("0.00034725")
    assert lost.select(columns).rows() == [
        ("i40", 1, "possibly_billed", price, None, None, ENDPOINT, "a-model"),
        ("i41", 2, "possibly_billed", price, None, None, ENDPOINT, "a-model"),
        ("i42", 1, "possibly_billed", None, None, None, ENDPOINT, "b-model"),
    ]
    assert lost["sent_at"].to_list() == [datetime.fromtimestamp(1_772_748_000, NOW.tzinfo)] * 3


def test_what_may_have_been_billed_is_no_known_cost(out: Path):
    tally = settled(out).tally
    assert tally.possibly_billed == 4
    assert tally.cost == {"USD": 25 * Decimal("0.00034725")}


def test_a_lost_attempt_counts_among_the_tries_of_its_row(out: Path):
    settled(out)
    with Ledger.open(ledger_path(out)) as ledger:
        tries = {row: Tries.decode(body).attempts for row, body in ledger.tries().items()}
    assert tries == {40: 1, 41: 2, 42: 1}


def test_settling_again_changes_nothing(out: Path):
    first = settled(out)
    before = contents(out)
    again = settled(out)
    assert contents(out) == before
    assert (again.lost, again.rebuilt) == (0, 0)
    assert again.tally.encode() == first.tally.encode()
    assert (list(again.rows), list(again.keys)) == (list(first.rows), list(first.keys))


def test_a_run_that_holds_nothing_settles_to_nothing(tmp_path: Path):
    writer = RunWriter(tmp_path, "r1", NOW)
    writer.open()
    standing = settled(tmp_path)
    assert (len(standing.rows), standing.lost, standing.rebuilt) == (0, 0, 0)
    assert not (tmp_path / "results").exists()
    with Ledger.open(ledger_path(tmp_path)) as ledger:
        assert is_settled(ledger, tmp_path)


def test_a_run_is_settled_only_with_nothing_open_and_nothing_under_way(out: Path):
    with Ledger.open(ledger_path(out)) as ledger:
        assert not is_settled(ledger, out)
        ledger.commit(Group(answered=[(1,), (2,), (3,)]))
        assert not is_settled(ledger, out), "its tail is in no part"
    settled(out)
    with Ledger.open(ledger_path(out)) as ledger:
        ledger.commit(Group(sent=[in_flight(9, 50)]))
        assert not is_settled(ledger, out)


# Damaged parts


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("dataset", ["attempts", "costs", "results"])
@pytest.mark.parametrize("damage", [truncate, garble, empty, Path.unlink])
def test_a_damaged_part_is_noticed_and_made_again_byte_for_byte(
    out: Path, dataset: str, damage: Callable[[Path], None]
):
    settled(out)
    before = contents(out)
    damage(RunWriter(out, "r1", NOW).parts(dataset)[1])
    standing = settled(out)
    assert standing.rebuilt == 1
    assert contents(out) == before


def test_a_store_that_was_deleted_is_made_again(out: Path):
    settled(out)
    before = contents(out)
    for dataset in ("results", "costs", "attempts"):
        shutil.rmtree(out / dataset)
    assert settled(out).rebuilt == 4
    assert contents(out) == before


# Crashes


class Killed(BaseException):
    """The process dies here."""


class Countdown:
    """Dies at the nth step. A step is a file in place, or a commit; each has a before and an after."""

    def __init__(self, steps_to_live: int | None) -> None:
        self.left = steps_to_live
        self.taken = 0

    def step(self) -> None:
        self.taken += 1
        if self.left is not None and self.taken > self.left:
            raise Killed


class MortalWriter(RunWriter):
    def __init__(self, countdown: Countdown, *settings: Any) -> None:
        super().__init__(*settings)
        self._countdown = countdown

    def _write(self, path: Path, content: bytes) -> None:
        self._countdown.step()
        super()._write(path, content)
        self._countdown.step()


class MortalLedger(Ledger):
    countdown: Countdown

    def commit(self, group: Group) -> StoreUnwritable | None:
        self.countdown.step()
        problem = super().commit(group)
        self.countdown.step()
        return problem


def settled_by_a_mortal(out: Path, countdown: Countdown) -> None:
    with MortalLedger.open(ledger_path(out)) as ledger:
        ledger.countdown = countdown
        settle(ledger, partial(MortalWriter, countdown)(out, "r1", NOW), WRITING, PART_ITEMS)


def test_killed_between_any_two_steps_it_settles_to_the_same_store(out: Path, tmp_path: Path):
    """One part is damaged too. Every step: 3 files a part, a commit a part, one for what was lost."""
    truncate(RunWriter(out, "r1", NOW).parts("results")[1])
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(out, undisturbed)
    whole = Countdown(None)
    settled_by_a_mortal(undisturbed, whole)
    expected = contents(undisturbed)
    assert whole.taken == 2 * (3 * 3 + 3 + 1)
    for steps in range(whole.taken):
        here = tmp_path / f"killed-{steps}"
        shutil.copytree(out, here)
        with pytest.raises(Killed):
            settled_by_a_mortal(here, Countdown(steps))
        settled(here)
        assert contents(here) == expected, f"killed after {steps} steps"


def test_killed_again_and_again_it_gets_there(out: Path, tmp_path: Path):
    """Each time a part comes about, which takes 8 steps at most, and then it dies."""
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(out, undisturbed)
    settled(undisturbed)
    deaths = 0
    for _ in range(10):
        try:
            settled_by_a_mortal(out, Countdown(8))
        except Killed:
            deaths += 1
    assert deaths == 2
    assert contents(out) == contents(undisturbed)


def test_a_part_that_was_cut_otherwise_before_the_kill_goes(out: Path):
    """24 to 26 were written as a part; killed before the ledger learned of it."""
    batch = Batch(24)
    for seq in range(24, 27):
        batch.add(seq, answer(seq))
    seal(batch, RunWriter(out, "r1", NOW))
    settled(out)
    assert sorted(frame(out, "results")["row"]) == list(range(1, 34))
    assert [path.stem[-2:] for path in RunWriter(out, "r1", NOW).parts("results")] == ["01", "11", "21", "31"]


def test_a_ledger_that_is_behind_the_store_is_damaged_and_overwrites_nothing(out: Path):
    """An old copy was put back: the store has a part of rows that this ledger never heard of."""
    batch = Batch(35)
    for seq in range(35, 40):
        batch.add(seq, answer(seq))
    seal(batch, RunWriter(out, "r1", NOW))
    with pytest.raises(LedgerDamaged, match="part 35 in the store goes further than it does"):
        settled(out)
    assert len(RunWriter(out, "r1", NOW).parts("results")) == 3


# Trouble


def test_a_store_that_takes_no_parts_loses_nothing(out: Path):
    (out / "results").rename(out / "elsewhere")
    (out / "results").write_text("a file in the way")
    with pytest.raises(StoreUnwritable):
        settled(out)
    (out / "results").unlink()
    (out / "elsewhere").rename(out / "results")
    assert settled(out).tally.ok == 25


def test_what_the_ledger_cannot_tell_any_more_is_damage_not_silence(out: Path):
    """The page that holds what a missing part was made of cannot be read."""
    with Ledger.open(ledger_path(out)) as ledger:
        assert ledger.last_seq() == 34
    content = bytearray(ledger_path(out).read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    ledger_path(out).write_bytes(content)
    with pytest.raises(LedgerDamaged):
        settled(out)
