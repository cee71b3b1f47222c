"""The ledger: groups all or nothing, in order, and still there when it is opened again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import LedgerDamaged, StoreUnwritable
from pipeline.ledger import BALLAST_BYTES, Group, InFlight, Ledger, Sealed


def sent(ticket: int, row: int = 1, number: int = 1) -> InFlight:
    return InFlight(
        ticket, row, f"i{row}", number, 1_772_748_000_000_000, "https://e/v1", "猫-model", "newapi"
    )


def sealed(first_seq: int, last_seq: int) -> Sealed:
    return Sealed(first_seq, last_seq, b"\1\0\0\0", b"\2" + bytes(7), b"{}", b'{"results/a":[1,"x"]}')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path) as opened:
        yield opened


def everything(ledger: Ledger) -> tuple[object, ...]:
    return (
        ledger.in_flight(),
        ledger.tries(),
        list(ledger.done(0, 1 << 40)),
        ledger.sealed(),
        ledger.last_seq(),
    )


A_GROUP = Group(
    sent=[sent(1, row=7), sent(2, row=8, number=3)],
    tries=[(7, b"once"), (8, b"twice")],
    done=[(1, b"one"), (2, b"two"), (3, b"three")],
    sealed=[sealed(1, 2)],
)


def test_a_new_ledger_is_empty(ledger: Ledger):
    assert everything(ledger) == ([], {}, [], [], 0)


def test_what_was_committed_is_there_when_it_is_opened_again(path: Path):
    with Ledger.open(path) as first:
        first.commit(A_GROUP)
    with Ledger.open(path) as again:
        assert everything(again) == (
            [sent(1, row=7), sent(2, row=8, number=3)],
            {7: b"once", 8: b"twice"},
            [(1, b"one"), (2, b"two"), (3, b"three")],
            [sealed(1, 2)],
            3,
        )


def test_what_was_committed_is_there_although_nobody_closed_it(path: Path, tmp_path: Path):
    """As after a kill: the files are copied while the ledger is open."""
    with Ledger.open(path) as first:
        first.commit(A_GROUP)
        for file in tmp_path.glob("ledger.sqlite*"):
            (tmp_path / file.name.replace("ledger", "killed")).write_bytes(file.read_bytes())
        with Ledger.open(tmp_path / "killed.sqlite") as again:
            assert everything(again) == everything(first)


def test_an_attempt_that_was_answered_is_in_flight_no_more(ledger: Ledger):
    ledger.commit(Group(sent=[sent(1), sent(2, row=2)]))
    ledger.commit(Group(answered=[(1,)], done=[(1, b"x")]))
    assert ledger.in_flight() == [sent(2, row=2)]


def test_an_attempt_sent_and_answered_in_one_group_is_not_in_flight(ledger: Ledger):
    ledger.commit(Group(sent=[sent(1)], answered=[(1,)]))
    assert ledger.in_flight() == []


def test_the_newest_tries_of_a_row_hold_until_it_ends(ledger: Ledger):
    ledger.commit(Group(tries=[(1, b"once"), (1, b"twice"), (2, b"once")]))
    ledger.commit(Group(tries=[(1, b"thrice")]))
    assert ledger.tries() == {1: b"thrice", 2: b"once"}
    ledger.commit(Group(tries=[(1, b"four times")], ended=[(1,)]))
    assert ledger.tries() == {2: b"once"}


def test_what_is_done_comes_in_the_order_of_its_sequences(ledger: Ledger):
    ledger.commit(Group(done=[(3, b"c"), (1, b"a")]))
    ledger.commit(Group(done=[(2, b"b"), (4, b"d")]))
    assert list(ledger.done(1, 4)) == [(1, b"a"), (2, b"b"), (3, b"c"), (4, b"d")]
    assert list(ledger.done(2, 3)) == [(2, b"b"), (3, b"c")]
    assert list(ledger.done(5, 9)) == []


def test_a_part_sealed_again_replaces_what_was_said_of_it(ledger: Ledger):
    ledger.commit(Group(sealed=[sealed(3, 4), sealed(1, 2)]))
    ledger.commit(Group(sealed=[sealed(1, 2)._replace(files=b"{}")]))
    assert [(one.first_seq, one.files) for one in ledger.sealed()] == [(1, b"{}"), (3, sealed(3, 4).files)]


def test_the_last_sequence_is_the_newest_done_or_sealed(ledger: Ledger):
    ledger.commit(Group(done=[(5, b"x")], sealed=[sealed(1, 4)]))
    assert ledger.last_seq() == 5
    ledger.commit(Group(sealed=[sealed(6, 9)]))
    assert ledger.last_seq() == 9


@pytest.mark.parametrize(
    "clash",
    [
        Group(sent=[sent(9)], tries=[(9, b"x")], done=[(9, b"x"), (2, b"taken already")]),
        Group(sent=[sent(9), sent(2)], tries=[(9, b"x")], done=[(9, b"x")]),
    ],
    ids=["the same sequence twice", "the same ticket twice"],
)
def test_a_group_is_written_whole_or_not_at_all(ledger: Ledger, clash: Group):
    """A sequence or a ticket given away twice would be a bug of ours, and surfaces as itself."""
    ledger.commit(A_GROUP)
    before = everything(ledger)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.commit(clash)
    assert everything(ledger) == before
    ledger.commit(Group(done=[(4, b"four")]))
    assert ledger.last_seq() == 4


@pytest.mark.parametrize("name", ["sent", "answered", "tries", "ended", "done", "sealed"])
def test_a_group_with_anything_in_it_is_worth_a_commit(name: str):
    assert not Group()
    assert Group(**{name: [object()]})


# Damage


def of_noise(path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to look like one; " * 200)


def of_another_kind(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(range(84)) + bytes(8000))


@pytest.mark.parametrize("damage", [of_noise, of_another_kind])
def test_a_file_that_is_no_ledger_is_damaged(path: Path, damage: Callable[[Path], None]):
    damage(path)
    with pytest.raises(LedgerDamaged, match="is damaged"):
        Ledger.open(path)


def test_a_torn_page_is_damage_when_it_is_read(path: Path):
    with Ledger.open(path) as first:
        first.commit(Group(done=[(seq, b"x" * 3000) for seq in range(1, 100)]))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8192] = b"\xff" * 8192
    path.write_bytes(content)
    with pytest.raises(LedgerDamaged) as caught, Ledger.open(path) as torn:
        list(torn.done(1, 99))
    assert str(path) in str(caught.value)


def test_a_folder_that_is_not_there_takes_no_writes(tmp_path: Path):
    with pytest.raises(StoreUnwritable, match="make room or mend it"):
        Ledger.open(tmp_path / "nowhere" / "ledger.sqlite")


def test_a_ledger_that_another_process_writes_takes_no_writes(path: Path, ledger: Ledger):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger._connection.execute("PRAGMA busy_timeout=10")  # instead of five seconds
    with pytest.raises(StoreUnwritable):
        ledger.commit(Group(done=[(1, b"x")]))
    other.execute("ROLLBACK")
    other.close()
    ledger.commit(Group(done=[(1, b"x")]))
    assert ledger.last_seq() == 1


# A full disk: SQLite's own page limit stands in for it, with the same error


def fill(ledger: Ledger, pages_left: int) -> None:
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count={pages + pages_left}")


def test_a_full_disk_writes_nothing_of_the_group_and_says_so(path: Path, ledger: Ledger):
    ledger.commit(Group(done=[(1, b"x")]))
    fill(ledger, 3)
    with pytest.raises(StoreUnwritable) as caught:
        ledger.commit(Group(sent=[sent(5)], done=[(seq, b"x" * 4000) for seq in range(2, 50)]))
    assert str(caught.value) == (
        f"cannot write to {path}: database or disk is full; make room or mend it, then start again"
    )
    assert (ledger.last_seq(), ledger.in_flight()) == (1, [])


def test_the_ballast_lies_beside_the_ledger_while_it_is_open(path: Path):
    ballast = path.with_suffix(".ballast")
    with Ledger.open(path):
        assert ballast.stat().st_size == BALLAST_BYTES
        assert ballast.stat().st_blocks * 512 >= BALLAST_BYTES, "room that is taken, not promised"
    assert not ballast.exists()


def test_on_a_full_disk_the_ballast_is_given_up(path: Path, ledger: Ledger):
    fill(ledger, 3)
    with pytest.raises(StoreUnwritable):
        ledger.commit(Group(done=[(seq, b"x" * 4000) for seq in range(2, 50)]))
    assert not path.with_suffix(".ballast").exists()


class RoomOfTheBallast(Ledger):
    """A disk with no more room than the ballast takes."""

    def _write(self, group: Group) -> None:
        if self._ballast.exists():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        super()._write(group)


def test_what_is_written_thanks_to_the_ballast_is_written_and_the_trouble_told(path: Path):
    with RoomOfTheBallast.open(path) as ledger:
        problem = ledger.commit(Group(done=[(1, b"x")]))
        assert isinstance(problem, StoreUnwritable)
        assert list(ledger.done(1, 1)) == [(1, b"x")]
        assert ledger.commit(Group(done=[(2, b"y")])) is None


def test_a_finished_runs_ledger_is_removed_without_a_trace(path: Path, tmp_path: Path):
    ledger = Ledger.open(path)
    ledger.commit(A_GROUP)
    ledger.remove()
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_is_harmless(path: Path):
    ledger = Ledger.open(path)
    ledger.commit(A_GROUP)
    ledger.close()
    ledger.close()
    with Ledger.open(path) as again:
        assert again.last_seq() == 3


# Written ahead of the commit


def seen_by_others(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as other:
        return [seq for (seq,) in other.execute("SELECT seq FROM done ORDER BY seq")]


def test_what_was_written_ahead_is_durable_with_its_commit(path: Path, ledger: Ledger):
    group = Group(done=[(1, b"x")])
    ledger.write(group)
    assert seen_by_others(path) == []
    ledger.commit(group)
    assert seen_by_others(path) == [1]


def test_what_was_written_ahead_and_not_committed_is_gone_with_the_next_group(path: Path, ledger: Ledger):
    ledger.write(Group(done=[(1, b"x")]))
    ledger.commit(Group(done=[(2, b"y")]))
    assert seen_by_others(path) == [2]
    ledger.write(Group(done=[(3, b"z")]))
    ledger.close()
    assert seen_by_others(path) == [2]


def test_what_could_not_be_written_ahead_shows_at_its_commit(path: Path, ledger: Ledger):
    ledger.commit(Group(done=[(1, b"x")]))
    fill(ledger, 3)
    group = Group(done=[(seq, b"x" * 4000) for seq in range(2, 50)])
    ledger.write(group)
    with pytest.raises(StoreUnwritable):
        ledger.commit(group)
    assert list(ledger.done(1, 99)) == [(1, b"x")]
