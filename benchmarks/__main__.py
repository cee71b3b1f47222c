"""`python -m benchmarks`: throughput, memory, start-up, ledger, resume, in one run; `python -m
benchmarks table`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmarks import figures as kept
from benchmarks.ledgers import measure_ledger, measure_resume
from benchmarks.measuring import Broken, python_server
from benchmarks.memory import measure_memory
from benchmarks.startup import measure_startup
from benchmarks.throughput import make_load, measure_throughput, verdict

PARTS = ("throughput", "memory", "startup", "ledger", "resume")
CONCURRENCY = 256


@click.group(invoke_without_command=True)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Of the contenders.")
@click.option("--items", default=20_000, show_default=True, type=click.IntRange(1), help="In a round.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Leave out the other parts.")
@click.option("--slice", "is_slice", is_flag=True, help="A short one for CI: does everything work?")
@click.option(
    "--keep/--no-keep", default=True, help="Write the figures to benchmarks/results (a slice never)."
)
@click.pass_context
def bench(
    ctx: click.Context, rounds: int, items: int, only: tuple[str, ...], is_slice: bool, keep: bool
) -> None:
    """Measure the main job beside what a user would pick instead. Exits with 1 where something is broken."""
    if ctx.invoked_subcommand is not None:
        return
    sizes: tuple[int, int] = (10_000, 100_000)
    ceiling_requests = 100_000
    great, left = 1_000_000, 10_000
    if is_slice:
        rounds, items, sizes, ceiling_requests, keep = 1, 3_000, (2_000, 10_000), 10_000, False
        great, left = 20_000, 500
    parts = only or PARTS
    found: list[kept.Figures] = []
    try:
        with _bench_folder() as folder, python_server() as base_url:
            if "throughput" in parts:
                _title("throughput")
                load = make_load(folder, items, CONCURRENCY)
                of = measure_throughput(base_url, load, rounds=rounds, ceiling_requests=ceiling_requests)
                print(verdict(of), flush=True)
                found.append(of)
            if "memory" in parts:
                _title("memory")
                found.append(measure_memory(base_url, folder, sizes, CONCURRENCY))
            if "startup" in parts:
                _title("start-up")
                found.append(measure_startup(3 if is_slice else 11))
        if "ledger" in parts:
            _title("ledger")
            found.append(measure_ledger(items, rounds))
        if "resume" in parts:
            _title("resume")
            found.append(measure_resume(great, left))
    except Broken as error:
        print(f"broken: {error}", file=sys.stderr)
        ctx.exit(1)
    if keep:
        for one in found:
            print(f"kept in {kept.keep(one)}")


@bench.command()
def table() -> None:
    """The README's table, from the newest figures."""
    print(kept.table())


@contextmanager
def _bench_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mediabatch-bench-") as folder:
        yield Path(folder)


def _title(part: str) -> None:
    print(f"\n{part}", flush=True)


if __name__ == "__main__":
    bench(prog_name="python -m benchmarks")
