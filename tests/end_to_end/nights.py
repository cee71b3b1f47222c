"""Runs a night: the real command in a process of its own, or a launch in this one; then reads its store."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import polars as pl
from click.testing import CliRunner

from jobs.__main__ import cli
from jobs.summary import exit_code
from pipeline.launch import launch
from pipeline.plan import DEFAULT_MODEL, EndpointPlan, Plan, Secrets, new_run_id
from pipeline.retry import RetryRules
from pipeline.run import Summary
from pipeline.store.schemas import SCHEMAS

KEY = "sk-night-Zq81LmT0vKx94"
COMMAND = [sys.executable, "-m", "jobs"]
QUICK_RETRIES = RetryRules(first_wait_s=0.001, max_wait_s=0.005)


def write_manifest(path: Path, rows: Sequence[str | Mapping[str, str]]) -> Path:
    """A CSV. A row that is a text has it as id and as prompt, so that a server knows it by its prompt."""
    full = [{"id": row, "prompt": row} if isinstance(row, str) else row for row in rows]
    columns = list(dict.fromkeys(column for row in full for column in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(full)
    return path


@dataclass(frozen=True)
class Store:
    """What a night left on disk, read back without the project's own reader."""

    out: Path

    def frame(self, dataset: str) -> pl.DataFrame:
        parts = sorted((self.out / dataset).glob("date=*/run=*/*.parquet"))
        if not parts:
            return pl.DataFrame(schema=SCHEMAS[dataset])
        return pl.read_parquet(parts, hive_partitioning=False)

    @cached_property
    def results(self) -> pl.DataFrame:
        return self.frame("results").sort("row")

    @cached_property
    def costs(self) -> pl.DataFrame:
        return self.frame("costs")

    @cached_property
    def attempts(self) -> pl.DataFrame:
        return self.frame("attempts").sort("item_id", "attempt")

    @cached_property
    def rest(self) -> pl.DataFrame:
        return self.frame("rest")

    @cached_property
    def run(self) -> dict[str, Any]:
        (path,) = (self.out / "runs").glob("*/run.json")
        return json.loads(path.read_text("utf-8"))

    def result(self, item_id: str) -> dict[str, Any]:
        return self.results.row(by_predicate=pl.col("item_id") == item_id, named=True)

    def attempts_of(self, item_id: str) -> list[dict[str, Any]]:
        return self.attempts.filter(item_id=item_id).to_dicts()

    def ids(self, status: str) -> list[str]:
        """The items that ended so (ok, failed, skipped, not_attempted), by manifest row."""
        dataset = self.results if status in ("ok", "failed") else self.rest
        return dataset.filter(status=status).sort("row")["item_id"].to_list()

    def rows(self) -> list[int]:
        """The manifest rows of results and rest together, sorted: each should stand here once."""
        return sorted([*self.results["row"], *self.rest["row"]])


@dataclass(frozen=True)
class Night:
    """How a run in this process ended."""

    code: int
    summary: Summary
    store: Store


def plan_for(
    manifest: Path,
    base_url: str | None,
    out: Path,
    *,
    slots: int = 1,
    dialect: str = "newapi",
    **changes: Any,
) -> Plan:
    """A plan with quick retries and one slot, so that rows are asked in their order."""
    started_at = datetime.now(UTC)
    plan = Plan(
        run_id=new_run_id(started_at),
        job="default",
        manifest=str(manifest),
        out=out,
        endpoints=(EndpointPlan(base_url, dialect, slots=slots),),
        model=DEFAULT_MODEL,
        prompt="what is this?",
        parameters={"max_tokens": 2000},
        started_at=started_at,
        timezone=ZoneInfo("UTC"),
        retry=QUICK_RETRIES,
    )
    return replace(plan, **changes)


def spend_night(
    folder: Path, base_url: str, rows: Sequence[str | Mapping[str, str]], **changes: Any
) -> Night:
    """A run in this process over a manifest made of ``rows``; ``changes`` to the plan."""
    manifest = write_manifest(folder / "manifest.csv", rows)
    plan = plan_for(manifest, base_url, folder / "out", **changes)
    summary = anyio.run(launch, plan, Secrets(api_key=KEY))
    return Night(exit_code(summary, plan), summary, Store(plan.out))


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what would steer a run: settings, proxies, certificates."""
    steering = ("MEDIABATCH_", "SSL_CERT_", "PYTHON")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(steering) and not name.lower().endswith("_proxy")
    }
    return {**kept, "MEDIABATCH_API_KEY": KEY, **more}


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @cached_property
    def json(self) -> dict[str, Any]:
        return json.loads(self.stdout)


def run_command(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    program: Iterable[str] = COMMAND,
    timeout_s: float = 60.0,
) -> Finished:
    """``mediabatch ARGUMENTS…`` to its end."""
    done = subprocess.run(
        [*program, *map(str, arguments)],
        cwd=cwd,
        env=dict(env) if env is not None else clean_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=timeout_s,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def invoke(*arguments: str | Path, **env: str | None) -> Finished:
    """The same in this process, which is quicker; ``env`` on top of its environment, None takes out."""
    result = CliRunner().invoke(
        cli, [str(argument) for argument in arguments], env={"MEDIABATCH_API_KEY": KEY, **env}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Finished(result.exit_code, result.stdout, result.stderr)
