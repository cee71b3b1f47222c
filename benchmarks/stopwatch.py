"""Runs one command and writes what it took to a file: ``python -I -S stopwatch.py REPORT COMMAND…``.

A process of its own, and a small one, because Linux counts to a child's peak memory what its parent held
when it was made. Imports next to nothing for the same reason.
"""

import os
import resource
import sys
import time

MANY_FILES = 65_536


def main() -> None:
    report, *command = sys.argv[1:]
    # 2,000 connections need more than the 1,024 descriptors that a shell usually gives.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if 0 < most < MANY_FILES else MANY_FILES, most))
    began = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    wall_s = time.perf_counter() - began
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    with open(report, "w") as file:
        print(wall_s, usage.ru_utime + usage.ru_stime, peak_bytes, file=file)
    sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main()
