"""Promises about how a session behaved, judged when it is over: `watch` looks on while it runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from jobs.summary import exit_code
from tests.simulation.broken import HOLDS, OUTAGES, PLACES, STOPS, TRIES, Broken
from tests.simulation.endpoint import Asked
from tests.simulation.fates import FATES
from tests.simulation.oracle import PATIENCE_S, Oracle
from tests.simulation.windows import check_told_in_headers, check_windows

if TYPE_CHECKING:
    from tests.simulation.nights import Evidence, Session


def check_conduct(evidence: Evidence, session: Session, sent_at_us: dict[int, int]) -> None:
    """Judge a session that is over. ``sent_at_us``: when each request (by number) was admitted.

    Raises:
        Broken: it did what it should not, or left what it should do.
    """
    asked = evidence.asked_in(session)
    _check_holds(asked, sent_at_us)
    for place in session.scenario.places:
        asked_there = [one for one in asked if one.endpoint == place.name]
        check_windows(place, asked_there)
        check_told_in_headers(place, asked_there, session.most_slots.get(place.name, 0))
    oracle = Oracle(evidence, session, asked)
    for one in asked:
        admitted_us = sent_at_us[one.number]
        for (endpoint, model), (halted_us, why) in oracle.halted.items():
            if endpoint in (None, one.endpoint) and model in (None, one.model) and admitted_us > halted_us:
                promise = STOPS if endpoint is None else PLACES
                raise Broken(promise, f"{one.prompt} was admitted at {endpoint} after {model} halted: {why}")
        if session.is_stopped_at_us is not None and admitted_us > session.is_stopped_at_us:
            raise Broken(STOPS, f"{one.prompt} was admitted after the signal")
    is_sure = oracle.is_sure and not (session.ledger_faults or session.store_faults)  # a halt of another kind
    for row in oracle.going_on:
        if is_sure and oracle.ended_here(row):
            raise Broken(TRIES, f"row {row} ended, though another endpoint or model was left to ask")
    _check_hopeless_start(session, asked)
    _check_patience(evidence, session, asked, oracle)
    if session.summary is not None:
        _check_state(session, oracle)


def _check_holds(asked: list[Asked], sent_at_us: dict[int, int]) -> None:
    holds = [
        (one.endpoint, one.done_us, one.done_us + round(one.hold_s * 1e6))
        for one in asked
        if one.hold_s and one.done_us
    ]
    if not holds:
        return
    for one in asked:
        admitted_us = sent_at_us[one.number]
        for endpoint, begins_us, ends_us in holds:
            # Rounded to microseconds, several times.
            if endpoint == one.endpoint and begins_us < admitted_us < ends_us - 10:
                wait_s = (ends_us - admitted_us) / 1e6
                raise Broken(HOLDS, f"{one.prompt} was admitted {wait_s:.3f} s too soon")


def _check_hopeless_start(session: Session, asked: list[Asked]) -> None:
    for place in session.scenario.places:
        for_good = place.weather.for_good
        if for_good is None or for_good[0] > 0 or FATES[for_good[1]].verdict != "halting":
            continue
        counts = Counter(one.model for one in asked if one.endpoint == place.name)
        for model, count in counts.items():
            if count > (place.slots or session.most_slots[place.name]):
                raise Broken(STOPS, f"{count} requests of {model}, though all were refused from the start")


def _check_patience(evidence: Evidence, session: Session, asked: list[Asked], oracle: Oracle) -> None:
    """Nobody fails of an outage: the tries of an item that found nobody to its end were outside of one."""
    by_row: dict[int, list[Asked]] = {}
    for one in asked:
        by_row.setdefault(one.row, []).append(one)
    most = evidence.scenario.retry.max_attempts
    for row, tries in by_row.items():
        last = tries[-1]
        if not last.fate.is_nobody or not oracle.ended_here(row):
            continue
        # Of an item that is a probe again and again, only so many tries are excused: it may be an odd one. A
        # connection that is refused is never its doing.
        refused = sum(one.is_excused for one in tries if one.fate.error_class == "ConnectFailed")
        excused = refused + min(sum(one.is_excused for one in tries) - refused, 4 * most)
        counted = len(tries) - excused
        if counted < most and (last.done_us - tries[0].at_us) / 1e6 < PATIENCE_S:
            raise Broken(
                OUTAGES, f"{last.prompt} failed of {last.fate.name}: {counted} tries outside of outages"
            )


def _check_state(session: Session, oracle: Oracle) -> None:
    summary = session.summary
    assert summary is not None
    told = {(halt.endpoint, halt.model, halt.error_class) for halt in summary.halts}
    disk = {one for one in told if one[2] == "StoreUnwritable"}
    if disk and not (session.ledger_faults or session.store_faults):
        raise Broken(STOPS, "it halted for its disk, which was well")
    first = session.scenario.places[0].name  # a halt of the whole run is told as its
    expected = {(endpoint or first, model, why) for (endpoint, model), (_, why) in oracle.halted.items()}
    if disk:
        expected.discard((first, None, "AllAlike"))  # one reason to halt the whole run is told, the first
    if oracle.is_sure and told - disk != expected:
        raise Broken(STOPS, f"it halted for {told - disk}, the rules say {expected}")
    for row in oracle.caught:
        if oracle.is_sure and oracle.ended_here(row):
            raise Broken(STOPS, f"row {row} was caught in a halt, and yet it failed")
    why = session.scenario.stop.why if session.scenario.stop else None
    state: Any = summary.state
    was_stopped = session.is_stopped_at_us is not None
    if state in ("interrupted", "deadline") and not (was_stopped and state == why):
        raise Broken(STOPS, f"the state is {state}, the stop was {why}")
    if state == "halted" and not told:
        raise Broken(STOPS, "it halted for no reason that it tells")
    is_whole = any(model is None and name != "EndpointDown" for _, model, name in told)
    if state == "done" and (is_whole or summary.tally.not_attempted):
        raise Broken(STOPS, "it is done, with halts or rows not attempted")
    if state == "halted" and not is_whole and not was_stopped:
        _check_rest(session, oracle)
    code = {"interrupted": 130, "halted": 3, "deadline": 4}.get(state)
    if code is None:
        code = 5 if summary.tally.failed else 0
    if exit_code(summary, session.plan) != code:
        raise Broken(STOPS, f"exit code {exit_code(summary, session.plan)}, not {code}")


def _check_rest(session: Session, oracle: Oracle) -> None:
    """Rows that were not attempted are rows that nobody was left for, after a fallback perhaps."""
    assert session.summary is not None
    fell_back = oracle.caught | oracle.going_on
    rows = [row for row in session.rows if row.kind != "bad"]
    most = sum(row.first in fell_back or not oracle.serve(row.model) for row in rows)
    if oracle.is_sure and session.summary.tally.not_attempted > most:
        left = session.summary.tally.not_attempted
        raise Broken(PLACES, f"{left} rows were not attempted, though only for {most} nobody was left")
