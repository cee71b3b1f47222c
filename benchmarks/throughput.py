"""Items a second and CPU an item, no latency: the server's ceiling, then rounds of all contenders in turn.

On a shared machine absolute figures wander; so every ratio is of two runs that followed each other, and
the median of these is what counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import nginx, work
from benchmarks.contenders import CONTENDERS, Load
from benchmarks.figures import Figures
from benchmarks.measuring import Asked, Broken, measure_client, port_of, server_stats

CEILING_CONNECTIONS = 64
DEPTHS = (1, 16)
TARGET = 0.25
"""Of the bare loop's items a second, whole process against whole process; part 3 wants 0.40."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a server answers a second to a client that costs nearly nothing.

    ``server_cpu_us`` is what one answer costs the server, where it can tell: on a core of its own it could
    answer 1,000,000 / that.
    """

    server: str
    depth: int
    rate: float
    client_cpu_us: float
    server_cpu_us: float | None


def measure_throughput(
    base_url: str, load_of: Callable[[str], Load], *, rounds: int, ceiling_requests: int
) -> Figures:
    """Ceiling, then the rounds; printed as they come.

    Raises:
        Broken: a contender lost an item.
    """
    ceilings = [_ceiling("Python, uvloop", base_url, ceiling_requests, depth) for depth in DEPTHS]
    try:
        with nginx.serving() as url:
            ceilings += [_ceiling("nginx", url, ceiling_requests, depth) for depth in DEPTHS]
    except nginx.NotHere as reason:
        print(f"no second opinion on the ceiling: {reason}")
    for one in ceilings:
        print(ceiling_line(asdict(one)), flush=True)
    load = load_of(base_url)
    print(f"{load.items:,} items, {load.concurrency} at a time, no latency; rounds: {rounds}", flush=True)
    runs: dict[str, list[Asked]] = {name: [] for name in CONTENDERS}
    for number in range(1, rounds + 1):
        for name, contender in CONTENDERS.items():
            before = server_stats(base_url)["answered"]
            asked = contender(load)
            answered = server_stats(base_url)["answered"] - before
            if answered != load.items:
                raise Broken(f"{name}: the server answered {answered} requests for {load.items} items")
            runs[name].append(asked)
            print(f"  {number}  {_run_line(name, asked)}", flush=True)
    return Figures(
        what="throughput",
        settings={
            "items": load.items,
            "concurrency": load.concurrency,
            "rounds": rounds,
            "reply_bytes": len(work.reply_body()),
            "manifest": load.manifest.suffix.lstrip("."),
        },
        found={
            "ceilings": [asdict(one) for one in ceilings],
            "runs": {name: [asdict(one) for one in of] for name, of in runs.items()},
            "summary": summed_up(runs),
        },
    )


def summed_up(runs: dict[str, list[Asked]]) -> dict[str, dict[str, float]]:
    """Medians of each contender, and the medians of its ratios to the first one, round by round."""
    first = next(iter(runs.values()))
    return {
        name: {
            "rate": median(one.rate for one in of),
            "asking_rate": median(one.asking_rate for one in of),
            "cpu_us_per_item": median(one.cpu_us_per_item for one in of),
            "peak_bytes": median(one.peak_bytes for one in of),
            "rate_ratio": _ratio(of, first, lambda one: one.rate),
            "asking_rate_ratio": _ratio(of, first, lambda one: one.asking_rate),
            "cpu_ratio": _ratio(of, first, lambda one: one.cpu_us_per_item),
        }
        for name, of in runs.items()
    }


def _ratio(runs: Iterable[Asked], first: Iterable[Asked], of: Callable[[Asked], float]) -> float:
    return median(of(one) / of(other) for one, other in zip(runs, first, strict=True))


def _ceiling(server: str, base_url: str, requests: int, depth: int) -> Ceiling:
    arguments = [str(port_of(base_url)), str(requests), "--depth", str(depth)]
    command = [sys.executable, "-m", "benchmarks.ceiling", *arguments]
    command += ["--connections", str(CEILING_CONNECTIONS)]
    tells = server != "nginx"
    before_s = server_stats(base_url)["cpu_s"] if tells else 0.0
    asked = measure_client(command)
    server_cpu_us = (server_stats(base_url)["cpu_s"] - before_s) / requests * 1e6 if tells else None
    return Ceiling(server, depth, asked.asking_rate, asked.cpu_us_per_item, server_cpu_us)


def ceiling_line(one: dict[str, Any]) -> str:
    cost = f", {one['server_cpu_us']:.1f} µs of its CPU each" if one["server_cpu_us"] else ""
    return (
        f"server's ceiling ({one['server']}): {one['rate']:,.0f} answers/s{cost}; raw sockets, "
        f"{CEILING_CONNECTIONS} connections, {one['depth']} in flight on each"
    )


def _run_line(name: str, asked: Asked) -> str:
    return (
        f"{name:<18} {asked.rate:8,.0f} items/s whole process, {asked.asking_rate:8,.0f} while asking, "
        f"{asked.cpu_us_per_item:6,.0f} µs CPU an item, peak {asked.peak_bytes / 1e6:5,.0f} MB"
    )


def verdict(figures: Figures) -> str:
    lines = []
    for name, of in list(figures.found["summary"].items())[1:]:
        lines.append(
            f"{name} / {next(iter(CONTENDERS))}, medians of {figures.settings['rounds']} paired ratios: "
            f"{of['rate_ratio']:.3f} items/s whole process (target {TARGET}), "
            f"{of['asking_rate_ratio']:.3f} while asking, {of['cpu_ratio']:.2f} CPU an item"
        )
    return "\n".join(lines)


def make_load(folder: Path, items: int, concurrency: int) -> Callable[[str], Load]:
    """The load, waiting for its base URL; writes its manifest."""
    manifest = work.write_manifest(folder / f"{items}.parquet", items)
    return lambda base_url: Load(items, concurrency, base_url, manifest, folder)
