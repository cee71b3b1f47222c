"""The plan of a run: everything that decides what is asked and how, without a secret in it.

It stands in run.json, so that a run can be resumed by its name alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.errors import UsageError
from pipeline.records import EMBEDDED
from pipeline.retry import RetryRules
from pipeline.transport import Timeouts

DEFAULT_MODEL = "gemini-3.1-flash-lite-preview"
DEFAULT_PROMPT = "Analyse the content of the attached media."
DEFAULT_MAX_TOKENS = 2000
DEFAULT_SLOTS = 64
"""What `--concurrency auto` means until slots adapt."""


@dataclass(frozen=True, slots=True)
class Anew:
    """What a run that reprocesses asks: items of these runs (`Selection`), as they were asked but for what is
    set here."""

    runs: tuple[str, ...]
    model: str | None = None
    prompt: str | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. ``base_url`` None means the embedded endpoint."""

    run_id: str
    job: str
    manifest: str  # an absolute path, or glob of one format
    out: Path
    base_url: str | None
    dialect: str
    model: str
    prompt: str
    parameters: Mapping[str, object]
    slots: int
    started_at: datetime  # UTC
    timezone: ZoneInfo
    retry: RetryRules = RetryRules()
    timeouts: Timeouts = Timeouts()
    limit: int | None = None
    max_failed: float = 0.0
    ca_file: Path | None = None
    header_names: tuple[str, ...] = ()
    again: bool = False  # ask also what was answered in earlier runs
    state_dir: Path | None = None  # where the ledger is, instead of beside run.json
    anew: Anew | None = (
        None  # set where it reprocesses; ``manifest`` is then that of the newest of those runs
    )

    @property
    def endpoint(self) -> str:
        """The name that stands in the store."""
        return self.base_url or EMBEDDED

    @property
    def ledger_path(self) -> Path:
        if self.state_dir is not None:
            return self.state_dir / f"{self.run_id}.ledger"
        return self.out / "runs" / self.run_id / "ledger.sqlite"

    def facts(self) -> dict[str, Any]:
        """As JSON; `plan_of` reads it back."""
        return {
            "manifest": self.manifest,
            "endpoint": self.endpoint,
            "dialect": self.dialect,
            "model": self.model,
            "prompt": self.prompt,
            "parameters": dict(self.parameters),
            "concurrency": self.slots,
            "max_attempts": self.retry.max_attempts,
            "timeout_s": self.timeouts.total_s,
            "limit": self.limit,
            "max_failed": self.max_failed,
            "timezone": self.timezone.key,
            "ca_file": None if self.ca_file is None else str(self.ca_file),
            "headers": list(self.header_names),
            "again": self.again,
            "state_dir": None if self.state_dir is None else str(self.state_dir),
            "anew": None if self.anew is None else asdict(self.anew),
        }


def plan_of(run: Mapping[str, Any], out: Path) -> Plan:
    """The plan that a run.json holds."""
    told = run["plan"]
    ca_file, state_dir, anew = told.get("ca_file"), told.get("state_dir"), told.get("anew")
    return Plan(
        run_id=run["run_id"],
        job=run["job"],
        manifest=told["manifest"],
        out=out,
        base_url=None if told["endpoint"] == EMBEDDED else told["endpoint"],
        dialect=told["dialect"],
        model=told["model"],
        prompt=told["prompt"],
        parameters=told["parameters"],
        slots=told["concurrency"],
        started_at=datetime.fromisoformat(run["started_at"]),
        timezone=ZoneInfo(told["timezone"]),
        retry=RetryRules(max_attempts=told["max_attempts"]),
        timeouts=timeouts_of(told["timeout_s"]),
        limit=told["limit"],
        max_failed=told["max_failed"],
        ca_file=None if ca_file is None else Path(ca_file),
        header_names=tuple(told["headers"]),
        again=told.get("again", False),
        state_dir=None if state_dir is None else Path(state_dir),
        anew=None if anew is None else Anew(**{**anew, "runs": tuple(anew["runs"])}),
    )


def timeouts_of(total_s: float) -> Timeouts:
    """All three from the one a person gives."""
    return Timeouts(connect_s=min(10.0, total_s), read_s=total_s, total_s=total_s)


def resumed(stored: Plan, asked: Plan) -> Plan:
    """The stored run, with what ``asked`` may change about how fast and how patiently it goes on.

    Raises:
        UsageError: ``asked`` would ask something else under the same name.
    """
    named = {
        "manifest": "the manifest",
        "base_url": "the endpoint",
        "dialect": "the dialect",
        "model": "the model",
        "prompt": "the prompt",
        "parameters": "the parameters",
        "job": "the job",
    }
    changed = [
        f"{told} ({_short(getattr(stored, name))} → {_short(getattr(asked, name))})"
        for name, told in named.items()
        if getattr(stored, name) != getattr(asked, name)
    ]
    if changed:
        raise UsageError(
            f"run {stored.run_id} cannot go on, because this would change {', '.join(changed)}; "
            "start a new run, which skips what was answered"
        )
    return replace(asked, started_at=stored.started_at, timezone=stored.timezone, state_dir=stored.state_dir)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…'"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the transport alone may know: the key, and headers that may hold one."""

    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def new_run_id(started_at: datetime) -> str:
    """Sorts by time: ``20260305T115737Z-1f0c2a``."""
    return f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
