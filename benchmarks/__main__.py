"""`python -m benchmarks`: every part in one run; `python -m benchmarks table` prints the README's table."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import figures as kept
from benchmarks import latency, limits, outages, readme
from benchmarks.bodies import measure_bodies
from benchmarks.contenders import CONTENDERS
from benchmarks.ledgers import measure_ledger, measure_resume
from benchmarks.measuring import Broken
from benchmarks.peers import environments
from benchmarks.reporting import measure_report
from benchmarks.scale import FORMATS, measure_scale
from benchmarks.startup import measure_startup
from benchmarks.throughput import Size, measure_throughput


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for. ``scenarios``: of the parts that have some; empty: all of them."""

    folder: Path
    rounds: int
    items: int
    is_slice: bool
    scenarios: tuple[str, ...]

    def chosen(self, names: tuple[str, ...], of_slice: tuple[str, ...]) -> tuple[str, ...]:
        """Which of a part's scenarios."""
        return tuple(name for name in names if name in self.scenarios) or (
            of_slice if self.is_slice else names
        )


def _throughput(wanted: Wanted) -> kept.Figures:
    size = Size(wanted.items, wanted.rounds, 10_000 if wanted.is_slice else 100_000)
    peers = environments.contenders(install=not wanted.is_slice)
    return measure_throughput(wanted.folder, {**CONTENDERS, **peers}, size)


def _latency(wanted: Wanted) -> kept.Figures:
    names = wanted.chosen(latency.NAMES, latency.IN_A_SLICE)
    size = latency.SLICE if wanted.is_slice else latency.Size(wanted.items, wanted.rounds)
    return latency.measure_latency(wanted.folder, names, size)


def _bodies(wanted: Wanted) -> kept.Figures:
    return measure_bodies(wanted.folder, 40 if wanted.is_slice else 400, wanted.rounds)


def _limits(wanted: Wanted) -> kept.Figures:
    names = wanted.chosen(limits.NAMES, limits.IN_A_SLICE)
    return limits.measure_limits(wanted.folder, names, limits.SLICE if wanted.is_slice else limits.Span())


def _outage(wanted: Wanted) -> kept.Figures:
    names = wanted.chosen(tuple(outages.KINDS), tuple(outages.KINDS))
    return outages.measure_outages(wanted.folder, names, outages.SLICE if wanted.is_slice else outages.Span())


def _scale(wanted: Wanted) -> kept.Figures:
    if wanted.is_slice:
        return measure_scale(wanted.folder, FORMATS[:1], (1_000, 4_000), rounds=1)
    return measure_scale(wanted.folder, FORMATS, (10_000, 1_000_000), rounds=wanted.rounds)


def _startup(wanted: Wanted) -> kept.Figures:
    return measure_startup(3 if wanted.is_slice else 11)


def _ledger(wanted: Wanted) -> kept.Figures:
    return measure_ledger(wanted.items, wanted.rounds)


def _resume(wanted: Wanted) -> kept.Figures:
    return measure_resume(*((20_000, 500) if wanted.is_slice else (1_000_000, 10_000)))


def _report(wanted: Wanted) -> kept.Figures:
    return measure_report(wanted.folder, 200_000 if wanted.is_slice else 10_000_000, wanted.rounds)


PARTS: dict[str, Callable[[Wanted], kept.Figures]] = {
    "throughput": _throughput,
    "latency": _latency,
    "bodies": _bodies,
    "limits": _limits,
    "outage": _outage,
    "scale": _scale,
    "startup": _startup,
    "ledger": _ledger,
    "resume": _resume,
    "report": _report,
}
SCENARIOS = (*latency.NAMES, *limits.NAMES, *outages.KINDS)


@click.group(invoke_without_command=True)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Of the contenders.")
@click.option("--items", default=20_000, show_default=True, type=click.IntRange(1), help="In a round.")
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="Leave out the other parts.")
@click.option(
    "--scenario", "scenarios", type=click.Choice(SCENARIOS), multiple=True, help="Of a part, these alone."
)
@click.option("--slice", "is_slice", is_flag=True, help="A short one for CI: does everything work?")
@click.option(
    "--keep/--no-keep", default=True, help="Write the figures to benchmarks/results (a slice never)."
)
@click.pass_context
def bench(
    ctx: click.Context,
    rounds: int,
    items: int,
    only: tuple[str, ...],
    scenarios: tuple[str, ...],
    is_slice: bool,
    keep: bool,
) -> None:
    """Measure the main job beside what a user would pick instead. Exits with 1 where something is broken."""
    if ctx.invoked_subcommand is not None:
        return
    if is_slice:
        rounds, items = 1, 1_000
        print("a slice: whether everything works; its figures are no measure", flush=True)
    broken: list[str] = []
    with _bench_folder() as folder:
        wanted = Wanted(folder, rounds, items, is_slice, scenarios)
        for part in only or PARTS:
            print(f"\n{part}", flush=True)
            began = time.monotonic()
            try:
                found = PARTS[part](wanted)
            except Broken as error:  # the other parts are an hour's work
                broken.append(f"{part}: {error}")
                continue
            print(f"{part} took {time.monotonic() - began:,.0f} s", flush=True)
            if keep and not is_slice and not scenarios:  # some of a part's scenarios are not the part
                print(f"kept in {kept.keep(found)}", flush=True)
    for problem in broken:
        print(f"broken: {problem}", file=sys.stderr)
    if broken:
        ctx.exit(1)


@bench.command()
def table() -> None:
    """The README's table, from the newest figures."""
    print(readme.table())


@contextmanager
def _bench_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mediabatch-bench-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    bench(prog_name="python -m benchmarks")
