"""Memory does not grow with the manifest. Measured in processes of their own: peaks never go down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pipeline.manifest.ids import IdTable

PEAK = """
import sys
from pipeline.manifest import Defaults, open_manifest
manifest = open_manifest(sys.argv[1])
assert sum(len(batch) for batch in manifest.read(Defaults("m", "p", {}))) == manifest.rows_total
# Not getrusage's ru_maxrss: a child begins with its parent's.
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak)
"""


def peak(path: Path) -> int:
    """In kB."""
    run = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    return int(run.stdout)


def manifest(folder: Path, rows: int, ending: str) -> Path:
    frame = pl.select(n=pl.int_range(rows)).select(
        id=pl.format("item-{}", "n"),
        image_url=pl.format("https://h.example/{}/picture.jpg?w=800", pl.col("n").hash(1)),
        prompt=pl.format("描述这张图片 {}", pl.col("n").hash(2)),
        note=pl.format("a note of some length, {}", pl.col("n").hash(3)),
    )
    path = folder / f"{rows}{ending}"
    write = {
        ".csv": "write_csv",
        ".ndjson": "write_ndjson",
        ".parquet": "write_parquet",
        ".arrow": "write_ipc",
    }
    getattr(frame, write[ending])(path)
    return path


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells no peak of memory")
@pytest.mark.parametrize("ending", [".csv", ".ndjson", ".parquet", ".arrow"])
def test_ten_times_the_rows_take_no_more_than_a_little_memory(tmp_path: Path, ending: str) -> None:
    """In kB. The largest piece read at once is a record batch of Arrow IPC: 26 MB measured, and 70 on a busy
    machine, where what was let go of is given back later; Parquet: 20."""
    small, large = (peak(manifest(tmp_path, rows, ending)) for rows in (10_000, 100_000))
    assert large - small < (90_000 if ending == ".arrow" else 36_000)


def test_ids_are_told_apart_while_the_table_grows() -> None:
    table = IdTable()
    assert all(table.add(f"id-{n}") for n in range(50_000))
    assert not any(table.add(f"id-{n}") for n in range(50_000))
    assert "id-49999" in table
    assert "id-50000" not in table
    assert [table.next_number("id-7") for _ in range(3)] == [2, 3, 4]
