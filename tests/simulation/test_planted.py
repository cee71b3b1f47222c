"""The simulation finds what it is there to find: every planted bug, as soon as its README says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.simulation.planted import BUGS, Bug, seeds_needed

README = Path(__file__).with_name("README.md")
MOST_SEEDS = 300


def in_table() -> dict[str, int]:
    """Bug → the seeds it took, as the README tells."""
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| [^|]+ \|$", README.read_text("utf-8"), re.MULTILINE)
    return {name: int(seeds) for name, seeds in rows}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "_"))
def test_the_simulation_finds(bug: Bug):
    """At the seed that found it last; where nights have changed since, at any of the first ones."""
    seed = in_table()[bug.name] - 1
    found = seeds_needed(bug, [seed]) or seeds_needed(bug, range(MOST_SEEDS))
    assert found is not None, "it hides"
    assert found[1] in bug.promises


def test_the_table_in_the_readme_has_every_bug():
    assert list(in_table()) == [bug.name for bug in BUGS]
