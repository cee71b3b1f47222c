"""A disk that is full or read-only, damaged parts, damaged ledgers: nothing that was paid for is lost.

The real command on real file systems. Those of a few megabytes are mounted for the test, which only root may.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.ledger import BALLAST_BYTES
from tests.crash.checking import Found, check
from tests.crash.endpoint import CountingEndpoint
from tests.crash.killing import Kill, in_parts, on_record
from tests.end_to_end.nights import COMMAND, Finished, clean_environment, run_command, write_manifest
from tests.serving.server import Server

MEGABYTE = 1024 * 1024
ROWS = 300
PADDING = 30_000  # characters in each answer: 300 of them are some 9 MB, past several of SQLite's checkpoints


@dataclass
class Night:
    """A run called ``night`` over rows of its own, against an endpoint that counts."""

    endpoint: CountingEndpoint
    base_url: str
    manifest: Path
    out: Path

    def run(self, *more: str) -> Finished:
        return run_command(*self._run(), *more)

    def resume(self) -> Finished:
        return run_command("resume", "night", "--out", self.out, "--no-progress")

    def ended_early(self, how: signal.Signals, *, after: int, concurrency: int = 8) -> Kill:
        """Run it until so many requests have come, and end it with a signal."""
        command = [*COMMAND, *map(str, self._run(concurrency))]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment()
        ) as process:
            while len(self.endpoint.asked) < after and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(how)
            said, _ = process.communicate(timeout=60)
        assert process.returncode in (130, -signal.SIGKILL), said.decode()
        return self.on_record()

    def on_record(self) -> Kill:
        return on_record(self.out, "stopping", len(self.endpoint.asked))

    def check(self, *kills: Kill) -> Found:
        return check(self.out, self.endpoint, kills, ROWS, is_one_run=True)

    def _run(self, concurrency: int = 8) -> list[str | Path]:
        reach = ["--base-url", self.base_url, "--concurrency", str(concurrency)]
        return ["run", self.manifest, *reach, "--run-id", "night", "--out", self.out, "--no-progress"]


def rows() -> list[dict[str, str]]:
    names = [f"item-{number:05d}" for number in range(1, ROWS + 1)]
    return [{"id": name, "prompt": name, "image_url": f"https://media.example/{name}.png"} for name in names]


@contextlib.contextmanager
def a_night(folder: Path, out: Path, *, padding: int = PADDING) -> Iterator[Night]:
    endpoint = CountingEndpoint(seed=1, fails=False, latency_s=(0.005, 0.03), padding=padding)
    with Server(endpoint.script) as server:
        yield Night(endpoint, server.base_url, write_manifest(folder / "manifest.csv", rows()), out)


# --- a disk that is full, or read-only ---


def mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(
            f"NOT TESTED: a full and a read-only disk, for mounting needs root: {done.stderr.strip()}"
        )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """``disk(size_bytes)``: the folder of a file system of that size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def of_size(size_bytes: int) -> Path:
        mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", folder)
        return folder

    yield of_size
    while os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_on_a_full_disk_a_run_halts_and_what_had_arrived_is_on_record(
    tmp_path: Path, disk: Callable[[int], Path]
) -> None:
    """The disk holds the ballast and some 60 answers; what comes while the run stops takes its room."""
    size = BALLAST_BYTES + 4 * MEGABYTE
    folder = disk(size)
    with a_night(tmp_path, folder / "out") as night:
        halted = night.run()
        assert halted.code == 3, halted.stderr
        assert "halted" in halted.stdout
        assert "cannot write to" in halted.stdout
        assert "Traceback" not in halted.stderr
        then = night.on_record()
        served = {one.reply_id for one in night.endpoint.asked if one.served_at_s}
        assert 10 < len(served) < ROWS
        assert then.replies == served
        assert not then.in_flight

        still_full = night.resume()
        assert (still_full.code, still_full.stdout) == (3, "")
        assert still_full.stderr.startswith("error: cannot write to")
        assert len(night.endpoint.asked) == then.asked
        mount("-o", f"remount,size={size + 64 * MEGABYTE}", folder)
        resumed = night.resume()
        assert resumed.code == 0, resumed.stderr
        assert night.check(then).broken == []


@pytest.mark.parametrize("free_bytes", [0, 16_384, BALLAST_BYTES // 2])
def test_a_disk_that_is_full_from_the_start_sends_nothing(
    tmp_path: Path, disk: Callable[[int], Path], free_bytes: int
) -> None:
    folder = disk(64 * MEGABYTE)
    (folder / "filler").write_bytes(bytes(64 * MEGABYTE - free_bytes))
    with a_night(tmp_path, folder / "out") as night:
        refused = night.run()
        assert (refused.code, refused.stdout) in ((2, ""), (3, ""))
        assert refused.stderr.startswith("error: ")
        assert night.endpoint.asked == []
        (folder / "filler").unlink()
        assert night.run().code == 0
        assert night.check().broken == []


def test_a_read_only_store_is_refused_before_anything_is_sent(
    tmp_path: Path, disk: Callable[[int], Path]
) -> None:
    folder = disk(64 * MEGABYTE)
    mount("-o", "remount,ro", folder)
    with a_night(tmp_path, folder / "out") as night:
        refused = night.run()
        assert refused.code == 2
        assert refused.stderr.startswith(
            f"error: --out {night.out}: cannot write there (Read-only file system)"
        )
        assert night.endpoint.asked == []


def test_a_store_that_is_read_only_when_a_run_is_resumed_is_refused(
    tmp_path: Path, disk: Callable[[int], Path]
) -> None:
    folder = disk(64 * MEGABYTE)
    with a_night(tmp_path, folder / "out") as night:
        then = night.ended_early(signal.SIGKILL, after=100)
        mount("-o", "remount,ro", folder)
        refused = night.resume()
        assert refused.code == 2
        assert "cannot write there (Read-only file system)" in refused.stderr
        assert len(night.endpoint.asked) == then.asked
        mount("-o", "remount,rw", folder)
        assert night.resume().code == 0
        assert night.check(then).broken == []


@pytest.mark.parametrize("dataset", ["attempts", "results"])
def test_a_store_that_turns_read_only_halts_the_run_and_the_ledger_keeps_everything(
    tmp_path: Path, disk: Callable[[int], Path], dataset: str
) -> None:
    """The part of the store where a dataset goes; the ledger's own folder is written to all the time."""
    read_only = disk(MEGABYTE)
    mount("-o", "remount,ro", read_only)
    with a_night(tmp_path, tmp_path / "out") as night:
        folder = night.out / dataset
        folder.mkdir(parents=True)
        mount("--bind", read_only, folder)
        try:
            halted = night.run()
            assert halted.code == 3, halted.stderr
            assert "Read-only file system" in halted.stdout
            assert "Traceback" not in halted.stderr
            then = night.on_record()
            assert len(then.ended) == ROWS
        finally:
            subprocess.run(["umount", folder], check=True)
        assert night.resume().code == 0
        assert len(night.endpoint.asked) == ROWS
        assert night.check(then).broken == []


# --- damaged parts and ledgers ---


@dataclass
class Template:
    """A night that ended early, to be copied and damaged."""

    night: Night
    then: Kill
    asked: int

    def copied_to(self, folder: Path) -> Night:
        shutil.copytree(self.night.out, folder / "out", copy_function=shutil.copyfile)
        return replace(self.night, out=folder / "out")

    def check(self, night: Night, asked_before: int, *kills: Kill) -> Found:
        """Of the requests that belong to this copy: the template's own, and those since."""
        endpoint = night.endpoint
        mine = [*endpoint.asked[: self.asked], *endpoint.asked[asked_before:]]
        return check(night.out, replace(endpoint, asked=mine), kills, ROWS, is_one_run=True)


def _template(folder: Path, how: signal.Signals) -> Iterator[Template]:
    with a_night(folder, folder / "out") as night:
        then = night.ended_early(how, after=200)
        yield Template(night, then, len(night.endpoint.asked))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """All that had come stands in a part; the ledger is closed."""
    yield from _template(tmp_path_factory.mktemp("interrupted"), signal.SIGINT)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """No part yet; the ledger's last pages stand in its write-ahead file."""
    yield from _template(tmp_path_factory.mktemp("killed"), signal.SIGKILL)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3 + 1)


def delete(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def zero_out(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def garble(path: Path, first: int, size: int = 4096) -> None:
    """Overwrite a page with noise."""
    with path.open("r+b") as file:
        file.seek(first)
        file.write(random.Random(first).randbytes(size))


def last_page(path: Path) -> int:
    return (path.stat().st_size - 1) // 4096 * 4096


@pytest.mark.parametrize("damage", [truncate, delete, flip])
@pytest.mark.parametrize("datasets", [["results"], ["attempts", "costs", "results"]])
def test_a_damaged_part_is_made_again_from_the_ledger(
    tmp_path: Path, interrupted: Template, damage: Callable[[Path], None], datasets: Sequence[str]
) -> None:
    night = interrupted.copied_to(tmp_path)
    for dataset in datasets:
        (part,) = night.out.glob(f"{dataset}/date=*/run=*/part-*.parquet")
        damage(part)
    asked_before = len(night.endpoint.asked)
    resumed = night.resume()
    assert resumed.code == 0, resumed.stderr
    assert "1 damaged parts were made again" in resumed.stderr
    assert interrupted.check(night, asked_before, interrupted.then).broken == []


def test_the_next_run_too_makes_a_damaged_part_again(tmp_path: Path, interrupted: Template) -> None:
    night = interrupted.copied_to(tmp_path)
    (part,) = night.out.glob("results/date=*/run=*/part-*.parquet")
    truncate(part)
    asked_before = len(night.endpoint.asked)
    later = run_command(
        *("run", night.manifest, "--base-url", night.base_url, "--out", night.out, "--no-progress")
    )
    assert later.code == 0, later.stderr
    assert len(night.endpoint.asked) - asked_before == ROWS - len(interrupted.then.ended)


@pytest.mark.parametrize("damage", [truncate, zero_out])
def test_a_damaged_part_of_a_finished_run_is_named_before_anything_is_sent(
    tmp_path: Path, interrupted: Template, damage: Callable[[Path], None]
) -> None:
    night = interrupted.copied_to(tmp_path)
    assert night.resume().code == 0
    part = min(night.out.glob("results/date=*/run=*/part-*.parquet"))
    damage(part)
    asked_before = len(night.endpoint.asked)
    refused = run_command(
        *("run", night.manifest, "--base-url", night.base_url, "--out", night.out, "--no-progress")
    )
    assert refused.code == 2
    assert refused.stderr.splitlines()[-1].startswith(f"error: {part} is damaged")
    assert len(night.endpoint.asked) == asked_before


def test_a_damaged_run_json_is_named(tmp_path: Path, interrupted: Template) -> None:
    night = interrupted.copied_to(tmp_path)
    truncate(night.out / "runs" / "night" / "run.json")
    refused = night.resume()
    assert (refused.code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: ")
    assert "run.json is damaged" in refused.stderr


def zero(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    path.write_text("this is no ledger\n" * 1000)


def mid_page(path: Path) -> None:
    os.truncate(path, last_page(path) - 2048)


def garble_last(path: Path) -> None:
    garble(path, last_page(path))


def garble_middle(path: Path) -> None:
    garble(path, last_page(path) // 4096 // 2 * 4096)


def garble_first(path: Path) -> None:
    garble(path, 0)


def garble_tables(path: Path) -> None:
    """The roots of all tables."""
    garble(path, 4096, 5 * 4096)


@pytest.mark.parametrize(
    "damage", [mid_page, garble_last, garble_middle, garble_first, garble_tables, zero, overwrite, delete]
)
def test_a_damaged_ledger_of_a_run_whose_parts_stand_costs_nothing(
    tmp_path: Path, interrupted: Template, damage: Callable[[Path], None]
) -> None:
    night = interrupted.copied_to(tmp_path)
    damage(night.out / "runs" / "night" / "ledger.sqlite")
    asked_before = len(night.endpoint.asked)
    resumed = night.resume()
    assert resumed.code == 0, resumed.stderr
    assert interrupted.check(night, asked_before, interrupted.then).broken == []


@pytest.mark.parametrize("damage", [garble_first, garble_tables, zero, overwrite, delete])
def test_a_ledger_made_anew_is_told(
    tmp_path: Path, interrupted: Template, damage: Callable[[Path], None]
) -> None:
    night = interrupted.copied_to(tmp_path)
    damage(night.out / "runs" / "night" / "ledger.sqlite")
    resumed = night.resume()
    assert "was damaged (" in resumed.stderr
    assert "it was made anew from" in resumed.stderr
    kept = list((night.out / "runs" / "night").glob("ledger.sqlite.damaged-1"))
    assert len(kept) == (damage is not delete)


@pytest.mark.parametrize("damage", [garble_first, overwrite, delete, zero])
def test_the_next_run_saves_a_damaged_ledger_too(
    tmp_path: Path, interrupted: Template, damage: Callable[[Path], None]
) -> None:
    night = interrupted.copied_to(tmp_path)
    damage(night.out / "runs" / "night" / "ledger.sqlite")
    asked_before = len(night.endpoint.asked)
    later = run_command(
        *("run", night.manifest, "--base-url", night.base_url, "--out", night.out, "--no-progress")
    )
    assert later.code == 0, later.stderr
    assert len(night.endpoint.asked) - asked_before == ROWS - len(interrupted.then.ended)


GONE = (
    "served, not recorded",
    "a reply that was on record is gone",
    "requests that no attempt",
    "in flight at",
)
"""What cannot be promised any more where records are gone."""


@pytest.mark.parametrize("damage", [mid_page, garble_last, garble_middle])
def test_a_torn_page_of_a_killed_runs_ledger_costs_what_stood_on_it(
    tmp_path: Path, killed: Template, damage: Callable[[Path], None]
) -> None:
    night = killed.copied_to(tmp_path)
    damage(night.out / "runs" / "night" / "ledger.sqlite")
    asked_before = len(night.endpoint.asked)
    resumed = night.resume()
    assert resumed.code == 0, resumed.stderr
    assert "Traceback" not in resumed.stderr
    again = [one.item_id for one in night.endpoint.asked[asked_before:] if one.item_id in killed.then.ended]
    assert len(again) <= 4
    assert not again or "it was made anew from" in resumed.stderr
    found = killed.check(night, asked_before)
    kept = [one for one in found.broken if not one.startswith((*GONE, "listed as lost"))]
    assert [one for one in kept if "served," not in one] == []


def cut_write_ahead(ledger: Path) -> None:
    wal = ledger.with_name(ledger.name + "-wal")
    os.truncate(wal, 32 + (wal.stat().st_size - 32) // 4120 // 2 * 4120 + 1000)


def garble_write_ahead(ledger: Path) -> None:
    wal = ledger.with_name(ledger.name + "-wal")
    garble(wal, wal.stat().st_size // 2)


def delete_write_ahead(ledger: Path) -> None:
    ledger.with_name(ledger.name + "-wal").unlink()


@pytest.mark.parametrize("damage", [cut_write_ahead, garble_write_ahead, delete_write_ahead])
def test_a_torn_write_ahead_file_costs_what_came_after_the_tear(
    tmp_path: Path, killed: Template, damage: Callable[[Path], None]
) -> None:
    night = killed.copied_to(tmp_path)
    damage(night.out / "runs" / "night" / "ledger.sqlite")
    try:
        then = night.on_record()  # as SQLite reads it now
    except sqlite3.DatabaseError:  # killed within a checkpoint, the file alone is no database
        assert damage is delete_write_ahead
        ended, replies = in_parts(night.out)
        then = replace(killed.then, in_flight=frozenset(), ended=ended, replies=replies)
    asked_before = len(night.endpoint.asked)
    resumed = night.resume()
    assert resumed.code == 0, resumed.stderr
    assert "Traceback" not in resumed.stderr
    again = {one.item_id for one in night.endpoint.asked[asked_before:]}
    assert not again & set(then.ended)
    found = killed.check(night, asked_before, replace(then, asked=killed.asked))
    assert [one for one in found.broken if not one.startswith(GONE) and "served," not in one] == []
    if damage is delete_write_ahead:
        assert "its -wal file is gone" in resumed.stderr


def test_a_ledger_that_fell_behind_its_parts_takes_them_in(tmp_path: Path, killed: Template) -> None:
    """Somebody puts back an old copy: parts in the store go further than it does, and are not overwritten."""
    night = killed.copied_to(tmp_path)
    folder = night.out / "runs" / "night"
    shutil.copytree(folder, tmp_path / "old", copy_function=shutil.copyfile)
    asked_before = len(night.endpoint.asked)
    then = night.ended_early(signal.SIGINT, after=asked_before + 40)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "old", folder, copy_function=shutil.copyfile)
    resumed = night.resume()
    assert resumed.code == 0, resumed.stderr
    assert "goes further than it does" in resumed.stderr
    assert not {one.item_id for one in night.endpoint.asked[then.asked :]} & set(then.ended)
    then = replace(then, asked=then.asked - asked_before + killed.asked, in_flight=killed.then.in_flight)
    assert killed.check(night, asked_before, then).broken == []
