"""`mediabatch export`: the latest answers joined to the manifest's columns."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from jobs.options import Fault, config_option, job_option, option, out_option, plainly
from jobs.wording import counted
from pipeline.manifest import open_manifest
from pipeline.records import EMBEDDED
from pipeline.store.export import Format, export_answers
from pipeline.store.places import Place
from pipeline.store.reader import latest_outcomes, run_facts, runs_of, scan

FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
}


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), required=False)
@config_option
@out_option
@job_option
@click.option("--run", "run_id", help="The answers of this run alone, rehearsals included.")
@option(
    "--format", "form", type=click.Choice(["csv", "ndjson", "parquet"]), help="Default: by FILE's ending."
)
@plainly
def export(file: Path | None, out: Place, job: str, run_id: str | None, form: Format | None) -> None:
    """Write the latest answer of every manifest row, beside the row's own columns, to FILE (or stdout: -).

    The manifest is that of the job's newest run. Rows without an answer stay, with empty cells. Rehearsals
    with the embedded endpoint count only where --run names one.
    """
    file = None if file == Path("-") else file
    form = form or _form(file)
    run = _run_of(out, job, run_id)
    ca_file = run["plan"].get("ca_file")
    manifest = open_manifest(run["plan"]["manifest"], ca_file=None if ca_file is None else Path(ca_file))
    results = scan(out, "results").filter(job=job)
    answers = latest_outcomes(results) if run_id is None else results.filter(run_id=run_id)
    if file is not None:
        if not file.absolute().parent.is_dir():
            raise Fault(f"{file}: there is no folder {file.parent}")
        rows, ok = export_answers(manifest, answers, file.absolute(), form)
    else:
        with TemporaryDirectory() as folder:
            target = Path(folder) / "answers"
            rows, ok = export_answers(manifest, answers, target, form)
            with target.open("rb") as written:
                shutil.copyfileobj(written, sys.stdout.buffer)
    click.echo(
        f"{counted(rows, 'row')}, {ok:,} of them answered ok" + (f" → {file}" if file else ""), err=True
    )
    if not ok and run_id is None and run["plan"]["endpoint"] == EMBEDDED:
        click.echo(f"the newest run is a rehearsal; to export it: --run {run['run_id']}", err=True)


def _form(file: Path | None) -> Format:
    if file is None:
        return "csv"
    form = FORMATS.get(file.suffix.lower())
    if form is None:
        raise Fault(f"{file}: name it .csv, .ndjson, .jsonl or .parquet, or say --format")
    return form


def _run_of(out: Place, job: str, run_id: str | None) -> dict[str, Any]:
    if run_id is not None:
        facts = run_facts(out, run_id)
        if facts["job"] != job:
            raise Fault(f"run {run_id} belongs to job {facts['job']}: add --job {facts['job']}")
        return facts
    runs = runs_of(out, job)
    if not runs:
        raise Fault(f"--out {out}: no run of job {job!r} here")
    # One that reprocesses asked a part of what stands in the manifest of another.
    return next((facts for facts in reversed(runs) if not facts["plan"].get("anew")), runs[-1])
