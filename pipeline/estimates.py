"""Estimates, kept in the store for the runs they are of: one small file each, the newest replaces."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from pipeline.errors import StoreUnwritable
from pipeline.plan import Plan


def keep(plan: Plan, manifest_digest: str, facts: dict[str, Any]) -> None:
    """
    Raises:
        StoreUnwritable: the store takes no file.
    """
    path = _path(plan, manifest_digest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".tmp")
        new.write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
        new.replace(path)
    except OSError as error:
        raise StoreUnwritable(path, error.strerror or str(error)) from None


def kept(plan: Plan, manifest_digest: str) -> dict[str, Any] | None:
    """The estimate of a run that asks this; None where nobody made one, or it can't be read any more."""
    with suppress(OSError, orjson.JSONDecodeError):
        facts: dict[str, Any] = orjson.loads(_path(plan, manifest_digest).read_bytes())
        return facts
    return None


def _path(plan: Plan, manifest_digest: str) -> Path:
    asks = [
        *(plan.job, manifest_digest, plan.model, plan.prompt, sorted(plan.parameters.items()), plan.limit),
        [one.asks for one in plan.endpoints],
    ]
    name = hashlib.blake2b(orjson.dumps(asks), digest_size=8).hexdigest()
    return plan.out / "estimates" / f"{name}.json"
