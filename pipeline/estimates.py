"""Estimates, kept in the store for the runs they are of: one small file each, the newest replaces."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import orjson

from pipeline.plan import Plan
from pipeline.store.places import Place, write_whole


def keep(plan: Plan, manifest_digest: str, facts: dict[str, Any]) -> None:
    """
    Raises:
        StoreUnwritable: the store takes no file.
    """
    write_whole(_path(plan, manifest_digest), orjson.dumps(facts, option=orjson.OPT_INDENT_2))


def kept(plan: Plan, manifest_digest: str) -> dict[str, Any] | None:
    """The estimate of a run that asks this; None where nobody made one, or it can't be read any more."""
    with suppress(OSError, orjson.JSONDecodeError):
        facts: dict[str, Any] = orjson.loads(_path(plan, manifest_digest).read_bytes())
        return facts
    return None


def _path(plan: Plan, manifest_digest: str) -> Place:
    asks = [
        *(plan.job, manifest_digest, plan.model, plan.prompt, sorted(plan.parameters.items()), plan.limit),
        [one.asks for one in plan.endpoints],
    ]
    name = hashlib.blake2b(orjson.dumps(asks), digest_size=8).hexdigest()
    return plan.out / "estimates" / f"{name}.json"
