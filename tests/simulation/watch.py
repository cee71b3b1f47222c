"""Promises about a session while it runs: what may be asked, how many at once, who waits for how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from pipeline.gate import Entry
from pipeline.records import Item
from pipeline.run import LIVE_PER_SLOT, Run
from pipeline.tally import Tally
from tests.simulation.broken import FAIR, KEYS, LIMIT, PAID, ROWS, TWICE, Broken
from tests.simulation.endpoint import Asked, Wire
from tests.simulation.gatewatch import IDLE_S, GateWatch

if TYPE_CHECKING:
    from tests.simulation.nights import Evidence, Session

PASSED_PER_SLOT = 20
"""While an item waits, others of its model may go before it: so many for each slot of the run."""


class Watch:
    """Looks at every request as it arrives, every write as it begins, and at the gates."""

    def __init__(
        self, evidence: Evidence, session: Session, run: Run, tally: Tally, wires: Mapping[str, Wire]
    ) -> None:
        self.current: dict[int, Asked] = {}  # by row: what is under way
        self._session = session
        self._fallbacks = frozenset(evidence.scenario.fallbacks.values())
        self._records = records = evidence.records
        self._keys = evidence.keys
        self.run = run
        self._tally = tally
        self._wires = wires.values()
        answered = self._answered = records.answered_rows(but_run=session.run_id)
        self._rows = {row.prompt: row for row in session.rows if row.kind == "asked"}
        self._to_ask = {
            row.prompt: row.model
            for row in self._rows.values()
            if row.number not in answered and (session.run_id, row.number) not in records.results
        }
        self._left = Counter(self._to_ask.values())  # by model
        self._duplicates = [row for row in session.rows if row.kind == "duplicate"]
        self._gates = [GateWatch(self, one, wires[one.name], session.plan) for one in run.endpoints]
        self._gate_of = {one.place.name: one for one in self._gates}
        self._entries: dict[int, tuple[float, float]] = {}  # by row: when it was admitted, tokens set aside
        self._are_several = len(self._gates) > 1
        self._waits_since: dict[int, tuple[int, str]] = {}  # by row, where there are several endpoints
        self._passed = Counter[int]()
        self._came = 0

    @property
    def most_slots(self) -> dict[str, int]:
        return {one.place.name: one.most_slots for one in self._gates}

    def on_arrival(self, asked: Asked) -> None:
        """A request may come only if all this is true."""
        session, records = self._session, self._records
        row = self._rows.get(asked.prompt)
        if row is None or (asked.model != row.model and asked.model not in self._fallbacks):
            raise Broken(ROWS, f"{asked.prompt} was asked of {asked.model}, which no row asks")
        asked.row = row.number
        asked.run_id = session.run_id
        self.current[row.number] = asked
        asked.admitted_s, asked.set_aside = self._entries[row.number]
        place = (session.run_id, row.number)
        if place in records.results:
            raise Broken(TWICE, f"row {place} is asked again, its end is on record")
        if row.number in self._answered:
            raise Broken(TWICE, f"row {place} is asked, an earlier run had it answered")
        if not records.may_go(place):
            for twin in self._duplicates:
                if twin.first == row.number and records.may_go((session.run_id, twin.number)):
                    raise Broken(ROWS, f"row {twin.number} is asked, as row {row.number} was")
            raise Broken(PAID, f"row {place} is asked without being on record as sent")
        keys, question = self._keys, (*place, asked.model)
        if (
            keys.setdefault(question, asked.key) != asked.key
            or keys.setdefault(asked.key, question) != question
        ):
            raise Broken(KEYS, f"row {place} came with {asked.key!r}")
        self._gate_of[asked.endpoint].arrived()
        self._check_live()
        model = self._to_ask.pop(asked.prompt, None)
        if model is not None:
            self._left[model] -= 1

    def _check_live(self) -> None:
        in_flight = sum(wire.in_flight for wire in self._wires)
        slots = self._seen_slots()
        live = in_flight + self.run.endpoints.asleep
        if in_flight > slots or live > LIVE_PER_SLOT * slots:
            raise Broken(LIMIT, f"{in_flight} in flight, {live} items live, with {slots} slots")

    def _seen_slots(self) -> int:
        """The most there have been at any admission: slots may be cut before the request that follows it."""
        return sum(max(one.most_slots, one.gate.slots.limit) for one in self._gates)

    def waits(self, item: Item) -> None:
        """An item begins to wait at one of the gates, or goes on to wait at another."""
        if self._are_several and item.row not in self._waits_since:
            self._came += 1
            self._waits_since[item.row] = self._came, item.request.model

    def waits_no_more(self, item: Item) -> None:
        self._waits_since.pop(item.row, None)
        self._passed.pop(item.row, None)

    def admitted(self, item: Item, entry: Entry, now_s: float) -> None:
        self._entries[item.row] = now_s, entry.tokens
        self._seen_slots()
        if not self._are_several:
            return
        came, model = self._waits_since.pop(item.row)
        self._passed.pop(item.row, None)
        most = PASSED_PER_SLOT * sum(one.gate.slots.limit for one in self._gates)
        for row, (before, its_model) in self._waits_since.items():
            if before < came and its_model == model:
                self._passed[row] += 1
                if self._passed[row] > most:
                    raise Broken(
                        FAIR, f"row {row} waits, and {self._passed[row]} others of {model} went before it"
                    )

    def before_write(self) -> None:
        """Nothing is counted that is not on record."""
        run_id, records, tally = self._session.run_id, self._records, self._tally
        if tally.attempts > records.attempts_of[run_id]:
            raise Broken(PAID, f"attempt {tally.attempts} is counted before it is written")
        if tally.ok + tally.failed > records.results_of[run_id]:
            raise Broken(PAID, "an outcome is counted before it is written")

    async def follow(self) -> None:
        """While there is work and nothing in its way, no slot may lie idle."""
        endpoints = self.run.endpoints
        while True:
            now_s = trio.current_time()
            # Where slots were cut, those under way beyond them keep workers from other endpoints for a while.
            is_cut = any(one.under_way > one.gate.slots.limit for one in self._gates)
            can_ask = (
                not is_cut
                and self.run.state == "done"
                and endpoints.asleep <= (LIVE_PER_SLOT - 1) * endpoints.slots
            )
            models = [model for model, left in self._left.items() if left] if can_ask else []
            for one in self._gates:
                one.look(now_s, has_work=any(one.endpoint.serves(model) for model in models))
            await trio.sleep(max(IDLE_S / 2, now_s / 50))
