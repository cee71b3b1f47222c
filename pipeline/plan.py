"""The plan of a run: everything that decides what is asked and how, without a secret in it.

It stands in run.json, so that a run can be resumed by its name alone.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pipeline.dialects import DEFAULT_DIALECT
from pipeline.errors import UsageError
from pipeline.gate import DEFAULT_MAX_OUTAGE_S
from pipeline.manifest.fetching import is_address
from pipeline.media.urls import without_signature
from pipeline.records import EMBEDDED, DeliveryKind
from pipeline.retry import RetryRules
from pipeline.store.places import InBucket, Place, place_of, state_folder
from pipeline.transport import Timeouts

DEFAULT_MODEL = "gemini-3.1-flash-lite-preview"
DEFAULT_PROMPT = "Analyse the content of the attached media."
DEFAULT_MAX_TOKENS = 2000


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """One endpoint of a run, without its key. ``base_url`` None means the embedded one; no ``models`` means
    all; ``slots`` None adapts."""

    base_url: str | None
    dialect: str = DEFAULT_DIALECT
    models: tuple[str, ...] = ()
    slots: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    key_variable: str | None = None  # the environment variable with its key, where it is not the usual one
    price_book: str | None = None  # an absolute path; goes before that of the plan

    @property
    def name(self) -> str:
        """The name that stands in the store."""
        return self.base_url or EMBEDDED

    @property
    def asks(self) -> tuple[object, ...]:
        """What decides what is asked, and not how fast."""
        return self.base_url, self.dialect, self.models


@dataclass(frozen=True, slots=True)
class Anew:
    """What a run that reprocesses asks: items of these runs (`Selection`), as they were asked but for what is
    set here."""

    runs: tuple[str, ...]
    model: str | None = None
    prompt: str | None = None
    max_tokens: int | None = None
    system: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)  # besides max_tokens
    image_max_px: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. ``endpoints`` in order of preference; ``fallbacks``: error class → model asked instead."""

    run_id: str
    job: str
    manifest: str  # an absolute path, or glob of one format; or an address, without what signs it
    out: Place
    endpoints: tuple[EndpointPlan, ...]
    model: str
    prompt: str
    parameters: Mapping[str, object]
    started_at: datetime  # UTC
    timezone: ZoneInfo
    system: str | None = None
    schema: Mapping[str, Any] | None = None  # a JSON Schema that answers have to keep to
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    price_book: str | None = None  # an absolute path; goes before the list prices
    budget: Decimal | None = None  # of the whole run, over all its sessions
    budget_per_day: Decimal | None = None  # of all runs in the store, on a day in ``timezone``
    max_outage_s: float = DEFAULT_MAX_OUTAGE_S
    retry: RetryRules = RetryRules()
    timeouts: Timeouts = Timeouts()
    media: DeliveryKind = "url"
    allow_private: bool = False  # media may be fetched from this network
    image_max_px: int | None = None  # images that go inline are made no longer than that
    limit: int | None = None
    stop_if_unseen: float | None = None  # the share of answers that did not see their media
    max_failed: float = 0.0
    ca_file: Path | None = None
    header_names: tuple[str, ...] = ()
    again: bool = False  # ask also what was answered in earlier runs
    state_dir: Path | None = None  # where the ledger is, instead of beside run.json, or of `state_folder`
    anew: Anew | None = (
        None  # set where it reprocesses; ``manifest`` is then that of the newest of those runs
    )

    @classmethod
    def of(
        cls,
        manifest: str | Path,
        *endpoints: EndpointPlan,
        out: str | Place = "out",
        max_tokens: int = DEFAULT_MAX_TOKENS,
        parameters: Mapping[str, object] | None = None,
        **more: Any,
    ) -> Self:
        """A run that begins now: what `mediabatch run` does with the same words.

        ``manifest`` and ``out`` are paths or addresses; ``more`` are fields of a plan, with the command's
        defaults. What signs the manifest's address belongs into `Secrets`.

        Raises:
            UsageError: ``out`` is no place.
        """
        started_at = datetime.now(UTC)
        manifest = str(manifest)
        planned: dict[str, Any] = {
            "run_id": new_run_id(started_at),
            "job": "default",
            "model": DEFAULT_MODEL,
            "prompt": DEFAULT_PROMPT,
            "started_at": started_at,
            "timezone": ZoneInfo("UTC"),
            **more,
        }
        return cls(
            manifest=without_signature(manifest) if is_address(manifest) else os.path.abspath(manifest),
            out=place_of(out) if isinstance(out, str) else out,
            endpoints=endpoints,
            parameters={"max_tokens": max_tokens, **(parameters or {})},
            **planned,
        )

    @property
    def is_rehearsal(self) -> bool:
        """Whether it asks the embedded endpoint, so that none of its answers ever counts."""
        return any(one.base_url is None for one in self.endpoints)

    @property
    def endpoint(self) -> str:
        """Where its requests go, as a person reads it."""
        return ", else ".join(one.name for one in self.endpoints)

    @property
    def ledger_path(self) -> Path:
        if self.state_dir is not None:
            return self.state_dir / f"{self.run_id}.ledger"
        if isinstance(self.out, InBucket):
            return state_folder(self.out) / f"{self.run_id}.ledger"
        return self.out / "runs" / self.run_id / "ledger.sqlite"

    def facts(self) -> dict[str, Any]:
        """As JSON; `plan_of` reads it back."""
        return {
            "manifest": self.manifest,
            "endpoint": self.endpoint,
            "endpoints": [asdict(one) for one in self.endpoints],
            "fallbacks": dict(self.fallbacks),
            "price_book": self.price_book,
            "budget": None if self.budget is None else str(self.budget),
            "budget_per_day": None if self.budget_per_day is None else str(self.budget_per_day),
            "max_outage_s": self.max_outage_s,
            "model": self.model,
            "prompt": self.prompt,
            "system": self.system,
            "parameters": dict(self.parameters),
            "schema": self.schema,
            "max_attempts": self.retry.max_attempts,
            "timeout_s": self.timeouts.total_s,
            "media": self.media,
            "allow_private": self.allow_private,
            "image_max_px": self.image_max_px,
            "limit": self.limit,
            "stop_if_unseen": self.stop_if_unseen,
            "max_failed": self.max_failed,
            "timezone": self.timezone.key,
            "ca_file": None if self.ca_file is None else str(self.ca_file),
            "headers": list(self.header_names),
            "again": self.again,
            "state_dir": None if self.state_dir is None else str(self.state_dir),
            "anew": None if self.anew is None else asdict(self.anew),
        }


def plan_of(run: Mapping[str, Any], out: Place) -> Plan:
    """The plan that a run.json holds."""
    told = run["plan"]
    ca_file, state_dir, anew = told.get("ca_file"), told.get("state_dir"), told.get("anew")
    return Plan(
        run_id=run["run_id"],
        job=run["job"],
        manifest=told["manifest"],
        out=out,
        endpoints=tuple(EndpointPlan(**{**one, "models": tuple(one["models"])}) for one in told["endpoints"]),
        model=told["model"],
        prompt=told["prompt"],
        parameters=told["parameters"],
        system=told.get("system"),
        schema=told.get("schema"),
        fallbacks=told["fallbacks"],
        price_book=told.get("price_book"),
        budget=_money(told.get("budget")),
        budget_per_day=_money(told.get("budget_per_day")),
        max_outage_s=told["max_outage_s"],
        started_at=datetime.fromisoformat(run["started_at"]),
        timezone=ZoneInfo(told["timezone"]),
        retry=RetryRules(max_attempts=told["max_attempts"]),
        timeouts=timeouts_of(told["timeout_s"]),
        media=told.get("media", "url"),
        allow_private=told.get("allow_private", False),
        image_max_px=told.get("image_max_px"),
        limit=told["limit"],
        stop_if_unseen=told.get("stop_if_unseen"),
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
        "model": "the model",
        "fallbacks": "the fallbacks",
        "prompt": "the prompt",
        "system": "the system prompt",
        "parameters": "the parameters",
        "schema": "the schema",
        "image_max_px": "--image-max-px",
        "job": "the job",
    }
    changed = [
        f"{told} ({_short(getattr(stored, name))} → {_short(getattr(asked, name))})"
        for name, told in named.items()
        if getattr(stored, name) != getattr(asked, name)
    ]
    if [one.asks for one in stored.endpoints] != [one.asks for one in asked.endpoints]:
        before, after = stored.endpoint, asked.endpoint
        if before == after:
            before, after = (
                ", ".join(" ".join((one.dialect, *one.models)) for one in plan.endpoints)
                for plan in (stored, asked)
            )
        changed.insert(0, f"the endpoints ({_short(before)} → {_short(after)})")
    if changed:
        raise UsageError(
            f"run {stored.run_id} cannot go on, because this would change {', '.join(changed)}; "
            "start a new run, which skips what was answered"
        )
    return replace(asked, started_at=stored.started_at, timezone=stored.timezone, state_dir=stored.state_dir)


def paced(
    endpoints: tuple[EndpointPlan, ...],
    *,
    slots: int | Literal["auto"] | None,
    rpm: int | None,
    tpm: int | None,
) -> tuple[EndpointPlan, ...]:
    """The same endpoints, each with these limits where they are given."""
    changes: dict[str, int | None] = {}
    if slots is not None:
        changes["slots"] = None if slots == "auto" else slots
    if rpm is not None:
        changes["rpm"] = rpm
    if tpm is not None:
        changes["tpm"] = tpm
    return tuple(replace(one, **changes) for one in endpoints)  # type: ignore[arg-type]


def _money(told: str | None) -> Decimal | None:
    return None if told is None else Decimal(told)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…'"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What only those who send may know: the keys, and headers that may hold one. ``keys``: by the name of
    the variable that an endpoint names; ``manifest``: its address with what signs it."""

    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    manifest: str | None = field(default=None, repr=False)

    def headers_for(self, key_variable: str | None) -> dict[str, str]:
        """The HTTP headers of an endpoint whose key is in this variable, or is the usual one."""
        key = self.api_key if key_variable is None else self.keys[key_variable]
        return {**({"Authorization": f"Bearer {key}"} if key else {}), **self.headers}


def new_run_id(started_at: datetime) -> str:
    """Sorts by time: ``20260305T115737Z-1f0c2a``."""
    return f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
