"""`mediabatch resume`: go on with a run that stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
import orjson

from jobs.endpoint import absolute, reach_options, secrets_of
from jobs.night import evening_of, evening_options, nothing_to_do, spend
from jobs.options import Fault, config_option, job_option, option, out_option, plainly
from jobs.spending import spending_options
from jobs.summary import DONE
from pipeline.errors import RunFinished
from pipeline.plan import paced, plan_of, timeouts_of
from pipeline.store.places import Place
from pipeline.store.reader import run_facts, runs_of


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@config_option
@out_option
@job_option
@reach_options
@spending_options
@option(
    "--max-failed",
    type=click.FloatRange(0, 1),
    help="The share of failed rows with which the run still exits with 0.  [default: as it was]",
)
@evening_options
@click.pass_context
@plainly
def resume(ctx: click.Context, /, run_id: str | None, out: Place, job: str, **options: Any) -> None:
    """Go on with RUN, or with the newest unfinished run of the job.

    What was answered is not asked again; what was under way is, and its first try is listed as possibly
    billed. The key and the headers have to be given again, for they are kept nowhere.
    """
    facts = run_facts(out, run_id) if run_id else _newest_unfinished(out, job)
    evening = evening_of(options)
    if facts is None:
        click.echo(f"every run of job {job!r} is finished; there is nothing to go on with", err=True)
        if evening.as_json:
            told = {"run_id": None, "job": job, "exit_code": DONE}
            click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return
    if facts["state"] == "done":
        ctx.exit(nothing_to_do(RunFinished(facts["run_id"]), facts, evening))
    plan = plan_of(facts, out)
    secrets = secrets_of(options["api_key_file"], options["headers"], plan.endpoints)
    missing = [name for name in plan.header_names if name not in secrets.headers]
    if missing:
        raise Fault(f"run {plan.run_id} sent the header {missing[0]}: give --header {missing[0]}=… again")
    timeout_s, max_failed, outage_s = options["timeout"], options["max_failed"], options["max_outage_s"]
    plan = replace(
        plan,
        endpoints=paced(plan.endpoints, slots=options["concurrency"], rpm=options["rpm"], tpm=options["tpm"]),
        price_book=absolute(options["price_book"]) or plan.price_book,
        stop_if_unseen=options["stop_if_unseen"] or plan.stop_if_unseen,
        budget=options["budget"] or plan.budget,
        budget_per_day=options["budget_per_day"] or plan.budget_per_day,
        max_outage_s=plan.max_outage_s if outage_s is None else outage_s,
        retry=replace(plan.retry, max_attempts=options["max_attempts"] or plan.retry.max_attempts),
        timeouts=plan.timeouts if timeout_s is None else timeouts_of(timeout_s),
        ca_file=options["ca_file"] or plan.ca_file,
        max_failed=plan.max_failed if max_failed is None else max_failed,
        header_names=tuple(secrets.headers),
    )
    ctx.exit(spend(plan, secrets, evening))


def _newest_unfinished(out: Place, job: str) -> dict[str, Any] | None:
    runs = runs_of(out, job)
    if not runs:
        raise Fault(f"--out {out}: no run of job {job!r} here")
    unfinished = (one for one in reversed(runs) if one["state"] != "done" and "pruned_at" not in one)
    return next(unfinished, None)
