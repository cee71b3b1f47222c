"""The plan of a run: everything that decides what is asked and how, without a secret in it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pipeline.retry import RetryRules
from pipeline.transport import Timeouts

DEFAULT_MODEL = "gemini-3.1-flash-lite-preview"
DEFAULT_PROMPT = "Analyse the content of the attached media."
DEFAULT_MAX_TOKENS = 2000
DEFAULT_SLOTS = 64
"""What `--concurrency auto` means until slots adapt."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One launch. ``base_url`` None means the embedded endpoint."""

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


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the transport alone may know: the key, and headers that may hold one."""

    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def new_run_id(started_at: datetime) -> str:
    """Sorts by time: ``20260305T115737Z-1f0c2a``."""
    return f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
