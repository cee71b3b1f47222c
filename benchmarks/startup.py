"""How long a person waits for `mediabatch --help`."""

from __future__ import annotations

import sys
from statistics import median

from benchmarks.figures import Figures
from benchmarks.measuring import measure
from benchmarks.verdicts import Verdict, tell

TARGET_S = 0.25


def measure_startup(rounds: int) -> Figures:
    """Wall seconds of `--help`, and of Python alone beside it."""
    help_s, python_s = [], []
    for _ in range(rounds):
        python_s.append(measure([sys.executable, "-c", "pass"]).wall_s)
        help_s.append(measure([sys.executable, "-m", "jobs", "--help"]).wall_s)
    found = {"help_s": median(help_s), "python_s": median(python_s)}
    verdict = Verdict(f"--help, median of {rounds}", found["help_s"], "at most", TARGET_S, "s")
    tell([verdict])
    print(f"    Python that does nothing: {found['python_s']:.2f} s", flush=True)
    return Figures(what="startup", settings={"rounds": rounds}, found={**found, "verdicts": [verdict.kept()]})
