"""Imports run one way: from the jobs down to the records; the rules know neither HTTP nor an event loop."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up; a module may import from floors below its own, and from its own room.
FLOORS: list[set[str]] = [
    {"pipeline.records", "pipeline.errors"},
    {"pipeline.media.kinds", "pipeline.media.urls", "pipeline.tokens"},
    {
        "pipeline.buckets",
        "pipeline.keytable",
        "pipeline.ledger",
        "pipeline.off_loop",
        "pipeline.templates",
        "pipeline.wire",
        "pipeline.media.guarding",
    },
    {"pipeline.media.visiting"},
    {
        *("pipeline.keys", "pipeline.dialects", "pipeline.pricing", "pipeline.manifest"),
        *("pipeline.media.probing", "pipeline.media.downloading", "pipeline.media.spool"),
        "pipeline.media.splicing",
    },
    {"pipeline.typed"},
    {
        *("pipeline.transport", "pipeline.gate", "pipeline.halting", "pipeline.store"),
        *(
            "pipeline.media.buckets",
            "pipeline.media.judging",
            "pipeline.media.shrinking",
            "pipeline.media.reach",
        ),
    },
    {"pipeline.media.inlining"},
    {"pipeline.media.delivery", "pipeline.media.fetching"},
    {"pipeline.budget", "pipeline.embedded", "pipeline.retry", "pipeline.tally", "pipeline.report"},
    {"pipeline.sealing", "pipeline.plan", "pipeline.endpoints"},
    {
        "pipeline.asked",
        "pipeline.prices",
        "pipeline.settling",
        "pipeline.repeats",
        "pipeline.estimates",
        "pipeline.recorder",
        "pipeline.reprocessing",
    },
    {
        "pipeline.analyze",
        "pipeline.asking",
        "pipeline.estimating",
        "pipeline.salvage",
        "pipeline.watching",
    },
    {"pipeline.surroundings", "pipeline.run"},
    {"pipeline.session", "pipeline.engines"},
    {"pipeline.launch", "pipeline.batch_file", "pipeline.pruning"},
    {"pipeline.following"},
    {"jobs"},
]
RULES = (
    *("pipeline.records", "pipeline.errors", "pipeline.dialects", "pipeline.pricing", "pipeline.tokens"),
    # What the gate decides by is told the time; only the gate itself waits.
    *("pipeline.gate.slots", "pipeline.gate.rates", "pipeline.gate.needs", "pipeline.gate.told"),
    *(
        "pipeline.gate.breaker",
        "pipeline.gate.leased",
        "pipeline.halting",
        "pipeline.templates",
        "pipeline.typed",
    ),
)
# What stands on the disk, and comes from there: synchronous, so that whoever calls it brings the thread.
STORED = (
    *("pipeline.ledger", "pipeline.store", "pipeline.tally", "pipeline.keytable", "pipeline.repeats"),
    *("pipeline.sealing", "pipeline.settling", "pipeline.salvage", "pipeline.session", "pipeline.report"),
    *("pipeline.reprocessing", "pipeline.prices", "pipeline.buckets"),
    *("pipeline.watching", "pipeline.pruning"),
)
WORLD = {
    "httpx",
    "aiohttp",
    "pyreqwest",
    "anyio",
    "asyncio",
    "trio",
    "socket",
    "ssl",
    "urllib.request",
    "http",
}


def modules() -> dict[str, Path]:
    found = {}
    for package in ("pipeline", "jobs"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, *, typing_too: bool = False) -> set[str]:
    """The modules a file imports; those under TYPE_CHECKING only on demand."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not typing_too:
            skipped.update(ast.walk(node))
    names: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute here"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def floor_of(module: str) -> tuple[int, str] | None:
    for number, rooms in enumerate(FLOORS):
        for room in rooms:
            if module == room or module.startswith(room + "."):
                return number, room
    return None


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_imports_only_from_below(module):
    if module in ("pipeline", "pipeline.media"):
        assert not any(name.startswith("pipeline") for name in imports(modules()[module]))
        return
    here = floor_of(module)
    assert here is not None, f"{module} has no floor; give it one in FLOORS"
    for name in imports(modules()[module]):
        there = floor_of(name)
        if there is not None and there[1] != here[1]:
            ground = (
                here[0] == there[0] == 0
            )  # records name the errors they carry, errors the reply they carry
            assert there[0] < here[0] or ground, (
                f"{module} (floor {here[0]}) imports {name} (floor {there[0]})"
            )


@pytest.mark.parametrize("module", sorted(name for name in modules() if name.startswith(RULES + STORED)))
def test_rules_and_the_store_know_no_http_and_no_event_loop(module):
    roots = {part for name in imports(modules()[module]) for part in (name, name.partition(".")[0])}
    assert not roots & WORLD


@pytest.mark.parametrize("module", sorted(name for name in modules() if name.startswith("pipeline")))
def test_the_library_neither_prints_nor_knows_click(module):
    tree = ast.parse(modules()[module].read_text("utf-8"))
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in calls
    assert not {"click", "rich"} & {name.partition(".")[0] for name in imports(modules()[module])}


def test_the_map_in_the_package_names_every_room():
    map_text = (ROOT / "pipeline" / "__init__.py").read_text("utf-8")
    rooms = {path.name for path in (ROOT / "pipeline").iterdir() if path.suffix == ".py"} - {"__init__.py"}
    rooms |= {f"{path.parent.name}/" for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert not {room for room in rooms if room not in map_text}
