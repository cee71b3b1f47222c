"""What a person reads of a night: its sessions, line by line, and its last requests."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tests.simulation.endpoint import Asked, Place, Weather
from tests.simulation.machine import Misfortune

if TYPE_CHECKING:
    from tests.simulation.nights import Evidence, Session


def trace(evidence: Evidence, requests: int | None = 12) -> str:
    """The night in lines; ``requests``: how many of the last ones, None for all."""
    scenario = evidence.scenario
    kinds = [row.kind for row in scenario.rows]
    lines = [
        f"seed {evidence.seed}: {len(kinds)} rows ({kinds.count('bad')} bad, {kinds.count('duplicate')} "
        f"duplicates, {len(scenario.oddities)} odd), {scenario.ending}, "
        f"{scenario.retry.max_attempts} tries, parts of {scenario.part_items}, max. outage "
        f"{scenario.max_outage_s:g} s, fallbacks {scenario.fallbacks or 'none'}"
    ]
    lines += [_session(evidence, session) for session in evidence.sessions]
    asked = evidence.account.asked
    shown = asked if requests is None else asked[-requests:]
    if len(shown) < len(asked):
        lines.append(f"  … {len(asked) - len(shown)} requests before these:")
    lines += [_request(evidence, one) for one in shown]
    return "\n".join(lines)


def digest(evidence: Evidence) -> str:
    """The same for two nights that went the same."""
    told = hashlib.sha256()
    for one in evidence.account.asked:
        told.update(f"{one.key} {one.at_us} {one.fate.name} {one.done_us} {one.bill}".encode())
    for session in evidence.sessions:
        state = session.summary.state if session.summary else None
        told.update(f"{session.run_id} {session.begins_us} {session.ends_us} {state}".encode())
    return told.hexdigest()


def _session(evidence: Evidence, session: Session) -> str:
    asked = len(evidence.asked_in(session))
    took_s = (session.ends_us - session.begins_us) / 1e6
    ended = "died" if session.is_crashed else "never began" if session.refusal else "?"
    if session.summary is not None:
        halts = ", ".join(
            f"{_host(halt.endpoint)}, {halt.model or 'all models'}: {halt.error_class}"
            for halt in session.summary.halts
        )
        ended = session.summary.state + (f" ({halts})" if halts else "")
    stop = session.scenario.stop
    parts = [
        f"{asked} requests in {took_s:,.1f} s",
        *[_place(place) for place in session.scenario.places],
        _misfortune(session.scenario.misfortune),
        f"{stop.why} at {stop.at_s:.1f} s, grace {stop.grace_s:g} s" if stop else "",
        f"{session.ledger_faults} + {session.store_faults} faults"
        if session.ledger_faults + session.store_faults
        else "",
    ]
    return f"  session {session.number} of {session.run_id}: {ended}; {'; '.join(filter(None, parts))}"


def _host(name: str) -> str:
    return name.partition("://")[2].partition("/")[0].removesuffix(".example")


def _place(place: Place) -> str:
    told = f", told {place.rpm} rpm, {place.tpm} tpm" if place.rpm or place.tpm else ""
    limits = f", {place.limits}" if place.limits else ""
    only = f", only {', '.join(place.models)}" if place.models else ""
    slots = place.slots or "adaptive"
    return f"{_host(place.name)}: {slots} slots{only}{told}{limits}, {_weather(place.weather) or 'calm'}"


def _weather(weather: Weather) -> str:
    parts = [f"{share:.3f} {fate}" for fate, share in weather.passing if share]
    parts += [f"{one.fate} from {one.begins_s:.1f} to {one.ends_s:.1f} s" for one in weather.episodes]
    if weather.for_good:
        parts.append(f"{weather.for_good[1]} from {weather.for_good[0]:.1f} s on")
    return ", ".join(parts)


def _misfortune(misfortune: Misfortune) -> str:
    parts = []
    if misfortune.dies_at_s is not None:
        parts.append(f"dies at {misfortune.dies_at_s:.3f} s")
    if misfortune.dies_at_door is not None:
        when = "before" if misfortune.dies_before_write else "after"
        parts.append(f"dies {when} write {misfortune.dies_at_door}")
    parts += [f"ledger full {begin:.1f} to {end:.1f} s" for begin, end in misfortune.full_s]
    parts += [f"store unwritable {begin:.1f} to {end:.1f} s" for begin, end in misfortune.unwritable_s]
    return ", ".join(parts)


def _request(evidence: Evidence, asked: Asked) -> str:
    begins_us = evidence.sessions[asked.session - 1].begins_us
    at_s = (asked.at_us - begins_us) / 1e6
    took = f"{(asked.done_us - asked.at_us) / 1e6:.3f} s" if asked.is_delivered else "not delivered"
    billed = ("billed" if asked.is_billed else "") + ("  excused" if asked.is_excused else "")
    return (
        f"    {asked.number:>5}  session {asked.session}, {at_s:10.3f} s  {asked.key:<12} {asked.model:<14} "
        f"{_host(asked.endpoint)}  {asked.fate.name}  {took}  {billed}"
    )
