"""``python -m tests.crash --kills 100`` prints what was found; it exits with 1 where a promise was broken."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.checking import Found, check
from tests.crash.endpoint import CountingEndpoint
from tests.crash.killing import Crashing, manifest_of
from tests.serving.server import Server

CONCURRENCY = 32


def crash(folder: Path, *, kills: int, items: int, seed: int, by_settling: bool = False) -> Found:
    """Kill a night of ``items`` rows so many times, let it finish, and check what it left.

    It is gone on with by name; ``by_settling``: a new run is started most of the times, as schedulers do.
    """
    manifest = manifest_of(folder / "manifest.csv", items)
    out = folder / "out"
    endpoint = CountingEndpoint(seed)
    began_s = time.monotonic()
    with Server(endpoint.script) as server:
        run = ["run", manifest, "--base-url", server.base_url, "--concurrency", str(CONCURRENCY)]
        run += ["--max-failed", "1", "--out", out, "--no-progress"]

        def command(session: int) -> list[str | Path]:
            if by_settling:
                goes_on = session % 4 == 3 and any(out.glob("runs/*/run.json"))
                return ["resume", "--out", out, "--no-progress"] if goes_on else run
            if session % 2 and (out / "runs" / "night" / "run.json").exists():
                return ["resume", "night", "--out", out, "--no-progress"]
            return [*run, "--run-id", "night"]

        night = Crashing(endpoint, out, command, items - items // 100, seed)
        night.kill(kills)
        night.finish()
    found = check(out, endpoint, night.kills, items, is_one_run=not by_settling)
    figures = {"sessions": night.sessions, **found.figures, "seconds": round(time.monotonic() - began_s)}
    return Found(figures, found.broken)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument(
        "--settle", action="store_true", help="start a new run each time, instead of going on with it"
    )
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it there")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}: {options.kills} kills, {options.items} items", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = crash(folder, kills=options.kills, items=options.items, seed=seed, by_settling=options.settle)
    for name, figure in found.figures.items():
        print(f"{name:<56}{figure}")
    for one in found.broken:
        print(f"BROKEN (seed {seed}): {one}")
    print("every promise was kept" if not found.broken else f"{len(found.broken)} promises were broken")
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
