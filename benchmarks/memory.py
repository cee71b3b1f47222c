"""Peak memory of the real command by manifest size: it must not grow with the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import ours, work
from benchmarks.figures import Figures

FORMATS = ("csv", "parquet")
TARGET = 1.25
"""The larger manifest's peak over the smaller one's, at most."""


def measure_memory(base_url: str, folder: Path, sizes: Sequence[int], concurrency: int) -> Figures:
    """Peaks for each format and size; printed as they come.

    Raises:
        Broken: an item was lost.
    """
    peaks: dict[str, dict[str, int]] = {}
    ratios: dict[str, float] = {}
    for ending in FORMATS:
        of = peaks[ending] = {}
        for rows in sizes:
            manifest = work.write_manifest(folder / f"{rows}.{ending}", rows)
            options = ("--concurrency", str(concurrency))
            asked = ours.ask(ours.Order(manifest, rows, base_url, folder / "out", options))
            of[str(rows)] = asked.peak_bytes
            print(f"  {ending:<8} {rows:9,} rows: peak {asked.peak_bytes / 1e6:5,.0f} MB", flush=True)
        ratios[ending] = of[str(sizes[-1])] / of[str(sizes[0])]
        print(f"  {ending:<8} ratio {ratios[ending]:.3f} (target at most {TARGET})", flush=True)
    return Figures(
        what="memory",
        settings={"sizes": list(sizes), "concurrency": concurrency},
        found={"peak_bytes": peaks, "ratios": ratios},
    )
