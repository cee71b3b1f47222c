"""Figures on disk, with the machine and the versions they were measured on. The README's table: `readme`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).with_name("results")
_PACKAGES = (
    "mediabatch",
    "aiohttp",
    "anyio",
    "genai-prices",
    "httpx",
    "orjson",
    "polars",
    "pyreqwest",
    "tenacity",
    "uvloop",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one part of a run found. ``load_average`` is that of the minute before: others may be at work."""

    what: str
    settings: dict[str, Any]
    found: dict[str, Any]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    load_average: float = field(default_factory=lambda: os.getloadavg()[0])
    machine: dict[str, Any] = field(default_factory=lambda: machine())


def machine() -> dict[str, Any]:
    """Cores, CPU, kernel and versions."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _cpu_model(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": dict(_versions()),
    }


def keep(figures: Figures, folder: Path = FOLDER) -> Path:
    """Write figures to ``<date>-<what>.json``; of one day, the last run stays."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{figures.at:%Y-%m-%d}-{figures.what}.json"
    path.write_bytes(
        orjson.dumps(
            asdict(figures), option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
        )
    )
    return path


def newest(what: str, folder: Path = FOLDER) -> dict[str, Any] | None:
    """The newest kept figures of a part."""
    paths = sorted(folder.glob(f"*-{what}.json"))
    if not paths:
        return None
    figures: dict[str, Any] = orjson.loads(paths[-1].read_bytes())
    return figures


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
