"""A part that is sealed is verified, and damage to it is noticed."""

from __future__ import annotations

from array import array
from pathlib import Path

import orjson
import pytest

from pipeline.errors import BadInput, MediaMissing, RowError, StoreUnwritable
from pipeline.keys import request_key
from pipeline.ledger import Sealed
from pipeline.records import BadRow
from pipeline.sealing import Batch, fingerprint, is_whole, key_number, part_length, parts_of, seal
from pipeline.store.rows import Part, Tries, Writing
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally
from tests.made import NOW, attempt, entries, item, not_attempted, outcome


def batch(first_seq: int = 1) -> Batch:
    """An answer, a failure, an attempt of an item that goes on, and a bad row."""
    made = Batch(first_seq)
    told = [
        outcome(item("one", 10)),
        outcome(item("two", 20), attempt(error=BadInput("no", http_status=400))),
        not_attempted("three", 30, attempt()),
        BadRow("four", 40, RowError(40, "is odd")),
    ]
    for seq, entry in enumerate(entries(*told), first_seq):
        made.add(seq, entry)
    return made


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    opened = RunWriter(tmp_path, "r1", NOW)
    opened.open()
    return opened


def test_a_sealed_part_tells_which_rows_ended_in_it_with_which_requests(writer: RunWriter):
    sealed = seal(batch(7), writer)
    assert (sealed.first_seq, sealed.last_seq) == (7, 10)
    keys = [key_number(request_key(item(name).request)) for name in ("one", "two")]
    assert array("I", sealed.rows).tolist() == [10, 20, 40]
    assert array("Q", sealed.keys).tolist() == [*keys, 0]


def test_a_sealed_part_has_its_counts(writer: RunWriter):
    tally = Tally.decode(seal(batch(), writer).tally)
    assert (tally.ok, tally.failed, tally.attempts) == (1, 2, 3)


def test_a_sealed_part_names_its_files_below_the_store(writer: RunWriter):
    files = orjson.loads(seal(batch(7), writer).files)
    part = "date=2026-03-05/run=r1/part-0000000007.parquet"
    assert set(files) == {f"{name}/{part}" for name in ("attempts", "costs", "results")}
    assert all(fingerprint(writer.out / path) == told for path, told in files.items())


class Unfaithful(RunWriter):
    """A disk that takes everything and gives back something else."""

    def write_part(self, sequence: int, part: Part) -> dict[str, bytes]:
        written = super().write_part(sequence, part)
        path = self.out / next(iter(written))
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        return written


def test_a_part_that_reads_back_as_something_else_is_not_sealed(tmp_path: Path):
    writer = Unfaithful(tmp_path, "r1", NOW)
    with pytest.raises(StoreUnwritable, match="it was written, and reads back as something else"):
        seal(batch(), writer)


def test_an_untouched_part_is_whole(writer: RunWriter):
    assert is_whole(seal(batch(), writer), writer.out)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def garbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("dataset", ["attempts", "costs", "results"])
@pytest.mark.parametrize("damage", [truncated, garbled, Path.unlink, replaced_by_a_folder])
def test_any_damage_to_any_file_is_noticed(writer: RunWriter, dataset: str, damage):
    sealed = seal(batch(), writer)
    damage(writer.parts(dataset)[0])
    assert not is_whole(sealed, writer.out)


def test_a_batch_extended_is_the_batch_of_all(writer: RunWriter):
    whole = batch()
    halves = Batch(1), Batch(3)
    for seq, entry in enumerate(
        entries(
            outcome(item("one", 10)),
            outcome(item("two", 20), attempt(error=BadInput("no", http_status=400))),
            not_attempted("three", 30, attempt()),
        ),
        1,
    ):
        halves[seq > 2].add(seq, entry)
    halves[1].add(4, next(iter(entries(BadRow("four", 40, RowError(40, "is odd"))))))
    halves[0].extend(halves[1])
    assert len(halves[0]) == len(whole) == 4
    assert (halves[0].rows, halves[0].keys) == (whole.rows, whole.keys)
    assert halves[0].tally.encode() == whole.tally.encode()


def test_a_batch_extended_by_an_empty_one_is_as_it_was():
    whole = batch()
    whole.extend(Batch(5))
    assert (len(whole), whole.last_seq) == (4, 4)


def test_a_parts_files_tell_how_many_sequences_it_covers(writer: RunWriter):
    seal(batch(7), writer)
    files = parts_of(writer)[7]
    assert part_length(files) == 4
    assert part_length({"attempts": files["attempts"]}) == 3
    assert part_length({"results": files["results"]}) is None  # two of three had attempts, which are gone
    assert part_length({}) is None


def test_an_end_whose_attempts_stand_in_an_earlier_part_is_a_sequence_of_its_own(writer: RunWriter):
    later = Batch(3)
    bad = Writing("r1", "default", None).bad_row(BadRow("one", 1, MediaMissing(404)), Tries(attempts=2))
    later.add(3, bad)
    for seq, entry in enumerate(entries(outcome(item("two", 2))), 4):
        later.add(seq, entry)
    seal(later, writer)
    assert part_length(parts_of(writer)[3]) == 2


def test_an_empty_batch_has_no_length():
    assert len(Batch(7)) == 0


def test_a_key_number_is_the_first_64_bits_and_0_for_no_key():
    assert key_number("1-00000000000000ff" + "e" * 16) == 255
    assert key_number(None) == 0
    assert key_number("1-" + "f" * 32) == 2**64 - 1


def test_the_same_entries_make_the_same_bytes(tmp_path: Path):
    made = []
    for name in ("a", "b"):
        writer = RunWriter(tmp_path / name, "r1", NOW)
        made.append(orjson.loads(seal(batch(), writer).files))
    at = {path: told for path, told in made[0].items() if not path.startswith("results")}
    assert at == {path: made[1][path] for path in at}


def test_a_sealed_part_is_a_row_of_the_ledger(writer: RunWriter):
    assert [type(value) for value in seal(batch(), writer)] == [int, int, *[bytes] * 4]
    assert len(Sealed._fields) == 6
