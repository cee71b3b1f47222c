"""Bodies of 1 to 5 MB: an image that goes inline, read from a local file and encoded for every request.

What counts is bytes of bodies a second, from the first request to the last answer, beside the bare loop's,
which reads, encodes and sends the same files.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import work
from benchmarks.ceilings import PYTHON, Pressing, measure_ceiling
from benchmarks.contenders import CONTENDERS, LOOP, OURS, Load
from benchmarks.figures import Figures
from benchmarks.images import make_images
from benchmarks.measuring import Asked, python_server
from benchmarks.rounds import in_turn, kept, median_of, ratio
from benchmarks.verdicts import Verdict, tell

TARGET = 0.7
FILES = 40
CONCURRENCY = 32
CEILING_BODY_BYTES = 3_000_000


def measure_bodies(folder: Path, items: int, rounds: int) -> Figures:
    """The server's ceiling, then the rounds; printed as they come.

    Raises:
        Broken: a contender lost an item.
    """
    images = make_images(folder / "images", min(FILES, items))
    manifest = work.write_manifest(folder / "bodies.parquet", items, lambda number: str(images.path(number)))
    body_bytes = images.body_bytes(items)

    def rate(asked: Asked) -> float:
        return body_bytes / asked.asking_s

    def line(asked: Asked) -> str:
        return (
            f"{rate(asked) / 1e6:7,.0f} MB/s, {asked.cpu_s:5.1f} s CPU, peak {asked.peak_bytes / 1e6:,.0f} MB"
        )

    with python_server() as base_url:
        pressing = Pressing(items, CONCURRENCY, body_bytes=CEILING_BODY_BYTES)
        ceiling = measure_ceiling(PYTHON, base_url, pressing)
        print(f"  that is {ceiling.rate * CEILING_BODY_BYTES / 1e6:,.0f} MB/s")
        print(f"{items:,} items with {body_bytes / 1e6:,.0f} MB in all, {CONCURRENCY} at a time", flush=True)
        load = Load(items, CONCURRENCY, base_url, manifest, folder, folder / "images")
        runs = in_turn(CONTENDERS, load, rounds, line)
    verdicts = (Verdict(f"bytes a second / {LOOP}", ratio(runs, OURS, LOOP, rate), "at least", TARGET),)
    tell(verdicts)
    return Figures(
        what="bodies",
        settings={
            "items": items,
            "concurrency": CONCURRENCY,
            "rounds": rounds,
            "bytes": body_bytes,
        },
        found={
            "ceiling": ceiling.kept(),
            "runs": kept(runs),
            "bytes_per_s": {name: median_of(runs, name, rate) for name in runs},
            "verdicts": [one.kept() for one in verdicts],
        },
    )
