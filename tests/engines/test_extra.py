"""Without the extra, nothing of Ray is needed or imported; who asks for it is told what to install."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.end_to_end.nights import run_command, write_manifest

# An interpreter in which Ray is not installed, whatever is.
WITHOUT_RAY = """
import importlib.util, sys
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name == "ray":
            raise ModuleNotFoundError(name)
known = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "ray" else known(name, *more)
sys.meta_path.insert(0, NotInstalled())
from jobs.__main__ import main
sys.argv[0] = "mediabatch"
main()
"""
COMMAND = [sys.executable, "-c", WITHOUT_RAY]


def test_a_missing_extra_is_a_sentence(tmp_path: Path):
    manifest = write_manifest(tmp_path / "m.csv", ["a"])
    done = run_command(
        *("run", manifest, "--base-url", "http://127.0.0.1:9/v1", "--out", tmp_path / "out"),
        *("--engine", "ray"),
        program=COMMAND,
    )
    assert done.code == 2
    assert done.stderr == "error: --engine ray needs an extra: pip install 'mediabatch[ray]'\n"
    assert not (tmp_path / "out").exists()


def test_a_run_on_one_machine_needs_none(tmp_path: Path):
    manifest = write_manifest(tmp_path / "m.csv", ["a"])
    done = run_command("run", manifest, "--embedded", "--out", tmp_path / "out", program=COMMAND)
    assert done.code == 0, done.stderr


def test_an_address_alone_is_a_mistake(tmp_path: Path):
    manifest = write_manifest(tmp_path / "m.csv", ["a"])
    done = run_command(
        "run", manifest, "--embedded", "--out", tmp_path / "out", "--ray-address", "auto", program=COMMAND
    )
    assert done.code == 2
    assert "--ray-address is for --engine ray" in done.stderr


def test_ray_is_imported_by_no_other_engine():
    done = run_command(
        "-c", "import sys, jobs.run, pipeline.launch; print('ray' in sys.modules)", program=[sys.executable]
    )
    assert done.stdout == "False\n"
