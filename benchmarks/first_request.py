"""How soon the first request goes: runs of a great manifest that are killed as soon as one was seen.

From the start of the process until the server saw it, less what `--help` takes: what remains is reading the
manifest's beginning, opening store and ledger, and connecting.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks import ours, work
from benchmarks.measuring import Broken, measure, plain_env, python_server, server_stats

WITHIN_S = 60.0
_LOOK_EVERY_S = 0.02


def first_request_s(manifest: Path, folder: Path, rounds: int) -> float:
    """The median of so many runs.

    Raises:
        Broken: a run ended without a request, or sent none within a minute.
    """
    help_s = median(measure([sys.executable, "-m", "jobs", "--help"]).wall_s for _ in range(rounds))
    return median(_once(manifest, folder / f"killed-{number}") for number in range(rounds)) - help_s


def _once(manifest: Path, out: Path) -> float:
    with python_server() as base_url:
        began_at = time.time()
        with subprocess.Popen(
            ours.command(manifest, base_url, out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**plain_env(), "MEDIABATCH_API_KEY": work.API_KEY},
            cwd=work.ROOT,
        ) as process:
            try:
                return _seen_at(base_url, process) - began_at
            finally:
                process.kill()


def _seen_at(base_url: str, process: subprocess.Popen[bytes]) -> float:
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        first_at: float | None = server_stats(base_url)["first_at"]
        if first_at is not None:
            return first_at
        if process.poll() is not None:
            assert process.stderr is not None
            raise Broken(f"a run ended before it asked: {process.stderr.read().decode()[-500:]}")
        time.sleep(_LOOK_EVERY_S)
    raise Broken(f"no request within {WITHIN_S:g} s")
