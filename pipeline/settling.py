"""Where a run stands: what its ledger holds is brought into parts, and what was under way is listed as lost.

Used when a session ends, when a run is resumed, and when a new run finds one that somebody's machine left
behind. Doing it again changes nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from pipeline.errors import LedgerDamaged, StoreUnwritable
from pipeline.ledger import Group, Ledger, Sealed
from pipeline.sealing import PART_ITEMS, Batch, is_whole, part_length, parts_of, seal
from pipeline.store.places import Place, below
from pipeline.store.rows import NO_TRIES, Entry, Tries, Writing
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally


@dataclass(slots=True)
class Standing:
    """What a run has come to. ``rows`` and ``keys`` are parallel: manifest rows that ended, and the 64-bit
    numbers of their request keys (0: none)."""

    rows: array[int] = field(default_factory=lambda: array("I"))
    keys: array[int] = field(default_factory=lambda: array("Q"))
    tally: Tally = field(default_factory=Tally)
    lost: int = 0  # attempts found under way, now listed as possibly billed
    rebuilt: int = 0  # damaged parts made again

    files: set[str] = field(default_factory=set)  # below the store

    def add(self, sealed: Sealed) -> None:
        self.rows.frombytes(sealed.rows)
        self.keys.frombytes(sealed.keys)
        self.tally.merge(Tally.decode(sealed.tally))
        self.files.update(orjson.loads(sealed.files))


def settle(ledger: Ledger, writer: RunWriter, writing: Writing, part_items: int = PART_ITEMS) -> Standing:
    """Bring everything the ledger holds into verified parts, and say where the run stands.

    Attempts that were under way become ``possibly_billed``, with what such a reply typically cost in this run
    as ``possible_cost``; their items are asked again by whoever resumes.

    Raises:
        StoreUnwritable, LedgerDamaged: nothing is lost; settle again when the cause is gone.
    """
    standing = Standing()
    last_seq = 0
    for sealed in ledger.sealed():
        last_seq = sealed.last_seq
        try:
            if not is_whole(sealed, writer.out):
                sealed = _made_again(sealed, ledger, writer)
                standing.rebuilt += 1
            standing.add(sealed)
        except (ValueError, KeyError, TypeError):
            raise LedgerDamaged(ledger.path, f"what it says of part {sealed.first_seq} is garbled") from None
    _check_it_is_not_behind(ledger, writer, standing)
    standing.lost = _list_lost(ledger, writing, standing.tally, last_seq)
    for batch in _batches(ledger, last_seq + 1, part_items):
        sealed = seal(batch, writer)
        ledger.commit(Group(sealed=[sealed]))
        standing.add(sealed)
    _remove_leftovers(writer, standing)
    return standing


def is_settled(ledger: Ledger, out: Place) -> bool:
    """Whether nothing was under way, and everything stands in whole parts."""
    sealed = ledger.sealed()
    if ledger.in_flight() or ledger.last_seq() != (sealed[-1].last_seq if sealed else 0):
        return False
    return all(is_whole(one, out) for one in sealed)


def _made_again(damaged: Sealed, ledger: Ledger, writer: RunWriter) -> Sealed:
    batch = Batch(damaged.first_seq)
    have = 0
    for seq, entry in _entries(ledger, damaged.first_seq, damaged.last_seq):
        batch.add(seq, entry)
        have += 1
    if have <= damaged.last_seq - damaged.first_seq:
        raise LedgerDamaged(
            ledger.path, f"part {damaged.first_seq} is damaged, and its records are not there"
        )
    sealed = seal(batch, writer)
    ledger.commit(Group(sealed=[sealed]))
    return sealed


def _list_lost(ledger: Ledger, writing: Writing, tally: Tally, last_sealed: int) -> int:
    lost = ledger.in_flight()
    if not lost:
        return 0
    known = Tally()
    known.merge(tally)
    for _, entry in _entries(ledger, last_sealed + 1, ledger.last_seq()):
        known.add(entry)
    tries = {row: Tries.decode(body) for row, body in ledger.tries().items()}
    group = Group()
    for seq, sent in enumerate(lost, ledger.last_seq() + 1):
        entry = writing.lost(sent, known.typical_cost(sent.model))
        so_far = tries[sent.row] = tries.get(sent.row, NO_TRIES).and_lost(sent.sent_at)
        group.done.append((seq, entry.encode()))
        group.answered.append((sent.id,))
        group.tries.append((sent.row, so_far.encode()))
    ledger.commit(group)
    return len(lost)


def _batches(ledger: Ledger, first_seq: int, part_items: int) -> Iterator[Batch]:
    batch = Batch(first_seq)
    for seq, entry in _entries(ledger, first_seq, ledger.last_seq()):
        batch.add(seq, entry)
        if len(batch) >= part_items:
            yield batch
            batch = Batch(seq + 1)
    if len(batch):
        yield batch


def _entries(ledger: Ledger, first_seq: int, last_seq: int) -> Iterator[tuple[int, Entry]]:
    for seq, body in ledger.done(first_seq, last_seq):
        try:
            entry = Entry.decode(body)
        except (ValueError, TypeError):
            raise LedgerDamaged(ledger.path, f"its record {seq} is garbled") from None
        yield seq, entry


def _check_it_is_not_behind(ledger: Ledger, writer: RunWriter, standing: Standing) -> None:
    """A part is made of what the ledger holds. One that holds more tells of a ledger that lost its end (its
    write-ahead file was removed, an old copy was put back): making the part again would lose answers."""
    last_seq = ledger.last_seq()
    for first_seq, files in parts_of(writer).items():
        if any(below(path, writer.out) in standing.files for path in files.values()):
            continue
        length = part_length(files)
        if length is not None and first_seq - 1 + length > last_seq:
            raise LedgerDamaged(ledger.path, f"part {first_seq} in the store goes further than it does")


def _remove_leftovers(writer: RunWriter, standing: Standing) -> None:
    """Parts that were cut otherwise before the process ended: their rows stand in others by now."""
    for files in parts_of(writer).values():
        for path in files.values():
            if below(path, writer.out) not in standing.files:
                try:
                    path.unlink()
                except OSError as error:
                    raise StoreUnwritable(path, error.strerror or str(error)) from None
