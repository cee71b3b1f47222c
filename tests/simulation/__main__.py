"""`python -m tests.simulation`: play whole nights, and say which seeds broke a promise."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.simulating import simulate


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many nights")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--replay", type=int, metavar="SEED", help="play one night again, and tell all of it")
    parser.add_argument("--planted", action="store_true", help="plant each bug, and count the seeds it takes")
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.replay)
    if options.planted:
        return find_planted(options.first, options.seeds)
    return simulate_all(options.first, options.seeds, options.jobs)


def simulate_all(first: int, seeds: int, jobs: int) -> int:
    """Play all, printing every failure as it comes; 1 if there was one."""
    began_s, done, failed = time.monotonic(), 0, 0

    def on_chunk(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        if done * 20 // seeds > before * 20 // seeds:
            took_s = time.monotonic() - began_s
            print(f"{done:,} of {seeds:,} nights in {took_s:,.0f} s, {failed} broken", file=sys.stderr)

    for failure in simulate(first, seeds, jobs, on_chunk):
        failed += 1
        print(failure, end="\n\n", flush=True)
    took_s = time.monotonic() - began_s
    print(
        f"{seeds:,} nights from seed {first} in {took_s:,.0f} s on {jobs} processors "
        f"({took_s * jobs / seeds:.3f} s a night): {failed or 'no'} broken promise{'s' * (failed > 1)}"
    )
    return 1 if failed else 0


def replay(seed: int) -> int:
    """One night, with every request."""
    from tests.simulation.broken import Broken
    from tests.simulation.nights import play
    from tests.simulation.trace import digest, trace

    try:
        evidence = play(seed)
    except Broken as broken:
        print(trace(broken.evidence, requests=None))
        print(f"broken: {broken.promise}: {broken.detail}")
        return 1
    print(trace(evidence, requests=None))
    print(f"every promise was kept; digest {digest(evidence)}")
    return 0


def find_planted(first: int, seeds: int) -> int:
    """The table of the README: each planted bug, the seeds it took, the promise that told."""
    from tests.simulation.planted import BUGS, seeds_needed

    missed = 0
    for bug in BUGS:
        found = seeds_needed(bug, range(first, first + seeds))
        missed += found is None
        count, promise = found or ("—", "not found")
        print(f"| {bug.name} | {count} | {promise} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
