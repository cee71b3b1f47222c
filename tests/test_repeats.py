"""What was asked before, in an earlier run or by an earlier row."""

from __future__ import annotations

from pipeline.keytable import KeyTable
from pipeline.repeats import Repeats
from pipeline.sealing import key_number


def key(number: int) -> str:
    return f"1-{number:016x}{'0' * 16}"


def repeats(answered: dict[int, int], run_ids: list[str]) -> Repeats:
    table = KeyTable()
    for number, place in answered.items():
        table.claim(key_number(key(number)), place)
    return Repeats(table, run_ids, KeyTable())


def test_a_request_that_was_answered_names_the_run():
    known = repeats({7: 1, 8: 0}, ["r-monday", "r-tuesday"])
    assert (known.answered_by(key(7)), known.answered_by(key(8))) == ("r-tuesday", "r-monday")
    assert known.answered_by(key(9)) is None


def test_the_first_row_to_ask_keeps_the_request():
    known = repeats({}, [])
    assert [known.first_row(key(7), row) for row in (3, 4, 3)] == [3, 3, 3]
    assert known.first_row(key(8), 4) == 4


def test_asking_is_not_answering():
    known = repeats({}, [])
    known.first_row(key(7), 3)
    assert known.answered_by(key(7)) is None


def test_what_an_earlier_session_asked_is_first():
    asked = KeyTable()
    asked.claim(key_number(key(7)), 12)
    assert Repeats(KeyTable(), [], asked).first_row(key(7), 3) == 12
