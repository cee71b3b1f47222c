"""Figures on disk, with the machine and the versions they were measured on; and the README's table."""

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


def keep(figures: Figures) -> Path:
    """Write figures to ``<date>-<what>.json``; of one day, the last run stays."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{figures.at:%Y-%m-%d}-{figures.what}.json"
    path.write_bytes(
        orjson.dumps(
            asdict(figures), option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
        )
    )
    return path


def newest(what: str) -> dict[str, Any] | None:
    """The newest kept figures of a part."""
    paths = sorted(FOLDER.glob(f"*-{what}.json"))
    if not paths:
        return None
    figures: dict[str, Any] = orjson.loads(paths[-1].read_bytes())
    return figures


def table() -> str:
    """Markdown for the README, from the newest figures of each part."""
    return "\n".join(
        line
        for part in (_throughput(), _memory(), _ledger(), _resume(), _startup(), _measured_on())
        for line in part
    )


def _throughput() -> Iterator[str]:
    figures = newest("throughput")
    if figures is None:
        return
    settings, found = figures["settings"], figures["found"]
    first, *others = found["summary"]
    yield (
        f"{settings['items']:,} items, {settings['concurrency']} at a time, no latency; medians of "
        f"{settings['rounds']} interleaved rounds, ratios of neighbours"
    )
    yield ""
    yield "| | items/s | while asking | CPU per item | peak memory |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name in (first, *others):
        of = found["summary"][name]
        yield (
            f"| {name} | {of['rate']:,.0f} | {of['asking_rate']:,.0f} | {of['cpu_us_per_item']:,.0f} µs | "
            f"{of['peak_bytes'] / 1e6:,.0f} MB |"
        )
    for name in others:
        of = found["summary"][name]
        yield (
            f"| {name} ÷ {first} | **{of['rate_ratio']:.2f}** | {of['asking_rate_ratio']:.2f} | "
            f"{of['cpu_ratio']:.2f} | |"
        )
    yield ""
    ceilings = "; ".join(
        f"{one['server']}: {one['rate']:,.0f}/s with {one['depth']} in flight on each"
        for one in found["ceilings"]
    )
    yield f"The server's own ceiling, asked over raw connections: {ceilings}."
    yield ""


def _memory() -> Iterator[str]:
    figures = newest("memory")
    if figures is None:
        return
    sizes = figures["settings"]["sizes"]
    yield f"| peak memory | {' | '.join(f'{rows:,} rows' for rows in sizes)} | ratio |"
    yield f"| --- |{' ---: |' * (len(sizes) + 1)}"
    for ending, peaks in figures["found"]["peak_bytes"].items():
        cells = " | ".join(f"{peaks[str(rows)] / 1e6:,.0f} MB" for rows in sizes)
        yield f"| {ending} | {cells} | {figures['found']['ratios'][ending]:.2f} |"
    yield ""


def _ledger() -> Iterator[str]:
    figures = newest("ledger")
    if figures is None:
        return
    costs = "; ".join(
        f"{us:.0f} µs with {at_once} at a time" for at_once, us in figures["found"]["us_per_item"].items()
    )
    yield f"The ledger's own CPU an item, written ahead and durable: {costs}."
    yield ""


def _resume() -> Iterator[str]:
    figures = newest("resume")
    if figures is None:
        return
    settings, found = figures["settings"], figures["found"]
    yield (
        f"`resume` of a killed run of {settings['rows']:,} rows with {settings['left']:,} to go: first "
        f"request after {found['first_request_s']:.1f} s, peak memory {found['peak_bytes'] / 1e6:,.0f} MB."
    )
    yield ""


def _startup() -> Iterator[str]:
    figures = newest("startup")
    if figures is None:
        return
    found = figures["found"]
    help_s, python_s = found["help_s"], found["python_s"]
    yield f"`mediabatch --help` takes {help_s:.2f} s (Python that does nothing {python_s:.2f} s)."
    yield ""


def _measured_on() -> Iterator[str]:
    figures = newest("throughput")
    if figures is None:
        yield "No figures yet: `make bench` measures them."
        return
    on = figures["machine"]
    packages = ", ".join(f"{name} {of}" for name, of in on["packages"].items())
    yield (
        f"Measured on {figures['at'][:10]}: {on['cores']} cores of {on['cpu']}, shared with the server, "
        f"{on['kernel']}, {on['python']}, {packages}."
    )


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
