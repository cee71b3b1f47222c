"""What was asked before: in an earlier run of the job, whose answer holds, or by an earlier row of this
run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pipeline.keytable import KeyTable
from pipeline.plan import Plan
from pipeline.sealing import key_number
from pipeline.store.reader import answered_requests, has_store


class Repeats:
    """Requests told apart by 64 bits of their keys; see `keytable`."""

    def __init__(self, answered: KeyTable, run_ids: Sequence[str], asked: KeyTable) -> None:
        self._answered = answered
        self._run_ids = run_ids
        self._asked = asked

    @classmethod
    def of(cls, plan: Plan, asked: KeyTable) -> Self:
        """What other runs of the plan's job had answered; ``asked``: keys and rows of this run.

        Raises:
            StoreError: a part of a finished run is damaged.
        """
        answered = KeyTable()
        run_ids: list[str] = []
        # A rehearsal asks everything.
        if not plan.again and not plan.is_rehearsal and has_store(plan.out):
            known = answered_requests(plan.out, plan.job, but_run=plan.run_id)
            run_ids = known["run_id"].unique().sort().to_list()
            numbers = {run_id: number for number, run_id in enumerate(run_ids)}
            for key, run_id in known.iter_rows():
                answered.claim(key or 1, numbers[run_id])
        return cls(answered, run_ids, asked)

    def answered_by(self, request_key: str) -> str | None:
        """The earlier run that had this request answered, if any."""
        number = self._answered.get(key_number(request_key))
        return None if number is None else self._run_ids[number]

    def first_row(self, request_key: str, row: int) -> int:
        """The row of this run that asked this first: ``row`` itself, where nobody did."""
        return self._asked.claim(key_number(request_key), row)
