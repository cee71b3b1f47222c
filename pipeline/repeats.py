"""What was asked before: in an earlier run of the job, whose answer holds, or by an earlier row of this
run."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.keytable import KeyTable
from pipeline.sealing import key_number


class Repeats:
    """Requests told apart by 64 bits of their keys; see `keytable`."""

    def __init__(self, answered: KeyTable, run_ids: Sequence[str], asked: KeyTable) -> None:
        self._answered = answered
        self._run_ids = run_ids
        self._asked = asked

    def answered_by(self, request_key: str) -> str | None:
        """The earlier run that had this request answered, if any."""
        number = self._answered.get(key_number(request_key))
        return None if number is None else self._run_ids[number]

    def first_row(self, request_key: str, row: int) -> int:
        """The row of this run that asked this first: ``row`` itself, where nobody did."""
        return self._asked.claim(key_number(request_key), row)
