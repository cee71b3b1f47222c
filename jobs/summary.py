"""What a run came to: tables for a person, one JSON object for a program, an exit code for a scheduler."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.wording import about, amount, counted, money
from pipeline.errors import StoreUnreachable
from pipeline.plan import Plan
from pipeline.records import RunState
from pipeline.run import Summary
from pipeline.tally import Tally

ENDED: Mapping[RunState, str] = {
    "running": "running for",
    "done": "done in",
    "halted": "halted after",
    "interrupted": "interrupted after",
    "deadline": "stopped at its deadline after",
    "budget": "stopped at its budget after",
}
DONE, HALTED, STOPPED, TOO_MANY_FAILED, INTERRUPTED = 0, 3, 4, 5, 130


def exit_code(summary: Summary, plan: Plan) -> int:
    """DESIGN's codes; where several apply: 130, 3, 4, 5."""
    if summary.state == "interrupted":
        return INTERRUPTED
    if summary.state == "halted":
        return HALTED
    if summary.state in ("deadline", "budget"):
        return STOPPED
    tally = summary.tally
    answered = tally.ok + tally.failed
    return TOO_MANY_FAILED if answered and tally.failed / answered > plan.max_failed else DONE


def as_json(summary: Summary, plan: Plan, code: int) -> str:
    tally = summary.tally
    elapsed_s = (summary.finished_at - summary.began_at).total_seconds()
    return orjson.dumps(
        {
            "run_id": summary.run_id,
            "job": summary.job,
            "state": summary.state,
            "exit_code": code,
            "rows": tally.ended,
            "ok": tally.ok,
            "failed": tally.failed,
            "skipped": tally.skipped,
            "not_attempted": tally.not_attempted,
            "duplicates": tally.duplicates,
            "attempts": tally.attempts,
            "possibly_billed": tally.possibly_billed,
            "errors": dict(tally.errors.most_common()),
            "halts": [
                {"endpoint": h.endpoint, "model": h.model, "error_class": h.error_class, "message": h.message}
                for h in summary.halts
            ],
            "cost": {currency: amount(cost) for currency, cost in sorted(tally.cost.items())},
            "budget": None if plan.budget is None else f"{plan.budget:f}",
            "budget_per_day": None if plan.budget_per_day is None else f"{plan.budget_per_day:f}",
            "usage": [
                {
                    "modality": modality,
                    "direction": direction,
                    "kind": kind,
                    "tokens": line.tokens,
                    "unpriced_tokens": line.unpriced_tokens,
                    "cost": {currency: amount(cost) for currency, cost in sorted(line.cost.items())},
                }
                for (modality, direction, kind), line in sorted(tally.usage.items())
            ],
            "unpriced_models": dict(tally.unpriced),
            "without_usage": tally.without_usage,
            "images_shrunk": summary.saved.images,
            "tokens_saved": summary.saved.tokens,
            "unseen": dict(tally.unseen),
            "unseen_items": list(tally.unseen_items),
            "estimate": summary.estimate,
            "started_at": summary.started_at,
            "finished_at": summary.finished_at,
            "elapsed_s": elapsed_s,
            "out": str(plan.out),
            "paths": paths(summary, plan),
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z,
    ).decode()


def paths(summary: Summary, plan: Plan) -> dict[str, str]:
    """The folders this run wrote, those that exist."""
    day = f"{summary.started_at.astimezone(plan.timezone):%Y-%m-%d}"
    folders = {
        name: plan.out / name / f"date={day}" / f"run={summary.run_id}"
        for name in ("results", "costs", "attempts", "rest")
    }
    found = {}
    with suppress(StoreUnreachable):  # which halted the run, and is told of already
        found = {name: str(folder) for name, folder in folders.items() if folder.is_dir()}
    return {**found, "run": str(plan.out / "runs" / summary.run_id / "run.json")}


def show_summary(summary: Summary, plan: Plan) -> None:
    """Tables on stdout; what is wrong comes first, what to type next comes last."""
    # A pipe has no width to fold to: lines stay whole there. Ids and paths are text, whatever they look like.
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False, emoji=False)
    tally = summary.tally
    elapsed_s = (summary.finished_at - summary.began_at).total_seconds()
    for halt in summary.halts:
        which = f"model {halt.model}" if halt.model else "the run"
        if len(plan.endpoints) > 1:
            which += f" at {halt.endpoint}"
        console.print(
            Text.assemble(("halted ", "bold red"), f"({which}): {halt.error_class}: {halt.message}"),
            soft_wrap=True,
        )
    if summary.state == "budget":
        console.print(Text.assemble(("budget reached ", "bold yellow"), _budget(plan, tally)), soft_wrap=True)
    if tally.unpriced:
        models = ", ".join(f"{model} ({tokens:,} tokens)" for model, tokens in tally.unpriced.most_common())
        console.print(
            Text.assemble(("no price known ", "bold yellow"), f"for {models}: their cost is null, not zero"),
            soft_wrap=True,
        )
    if tally.unseen:
        console.print(Text.assemble(("not seen ", "bold red"), _unseen(tally)), soft_wrap=True)
    if tally.without_usage:
        console.print(
            Text.assemble(
                ("no usage ", "bold yellow"), f"in {tally.without_usage:,} answers: their cost is unknown"
            )
        )
    console.print(_outcomes(tally))
    if tally.usage:
        console.print(_usage(tally))
    if summary.saved.images:
        console.print(_saved(summary, plan))
    if tally.possibly_billed:
        console.print(
            f"{counted(tally.possibly_billed, 'attempt')} broke off once sent and may have been billed: "
            "listed in attempts, and not in these costs"
        )
    if summary.estimate is not None and summary.state == "done":
        console.print(_beside_estimate(summary.estimate, tally), soft_wrap=True)
    console.print(f"run {summary.run_id}, {ENDED[summary.state]} {elapsed_s:,.1f} s, job {summary.job}")
    for name, path in paths(summary, plan).items():
        console.print(f"  {name:<9}{path}", soft_wrap=True)
    if plan.is_rehearsal:
        console.print("rehearsed with the embedded endpoint: no model was asked, and nothing was spent")
    console.print(f"next: {_next_command(summary, plan)}", soft_wrap=True)


def _beside_estimate(estimate: Mapping[str, Any], tally: Tally) -> str:
    """What was foretold, and what came: ``estimated USD 0.0066 (0.0062 to 0.0070): it cost 1% less``."""
    came: dict[str, float] = {currency: float(cost) for currency, cost in tally.cost.items()}
    foretold = {name: (band, came.get(name, 0.0)) for name, band in estimate["cost"].items()}
    if not foretold:
        by_direction = {"input": 0, "output": 0}
        for (_, direction, _), line in tally.usage.items():
            by_direction[direction] += line.tokens
        foretold = {
            f"{direction} tokens": (band, float(by_direction[direction]))
            for direction, band in estimate["tokens"].items()
        }
    told = []
    for name, (band, truth) in sorted(foretold.items()):
        low, likely, high = (float(band[end]) for end in ("low", "likely", "high"))
        off = f"{truth / likely - 1:+.0%}" if likely else "—"
        where = "within" if low <= truth <= high else "outside"
        told.append(
            f"{name} {about(likely)} ({about(low)} to {about(high)}); "
            f"it came to {about(truth)}, {off}, {where} the band"
        )
    return "estimated: " + "; ".join(told)


def _budget(plan: Plan, tally: Tally) -> str:
    caps = [(plan.budget, "for the run"), (plan.budget_per_day, "for the day")]
    told = " and ".join(f"{cap:f} {which}" for cap, which in caps if cap is not None)
    spent = f"{money(tally.cost) if tally.cost else 'nothing'} spent in this run"
    return f"({told}): {spent}; no other request was sure to fit; rows left: {tally.not_attempted:,}"


def _unseen(tally: Tally) -> str:
    counts = ", ".join(
        f"{modality} of {counted(count, 'item')}" for modality, count in tally.unseen.most_common()
    )
    first = ", ".join(list(tally.unseen_items)[:5])
    return (
        f"{counts}: answered, and usage says that the endpoint never saw this, for instance of "
        f"{first}; ask them elsewhere with mediabatch reprocess --where seen=no"
    )


def _saved(summary: Summary, plan: Plan) -> str:
    return (
        f"{counted(summary.saved.images, 'image was', 'images were')} made smaller "
        f"(--image-max-px {plan.image_max_px}): about {summary.saved.tokens:,} tokens saved, by token rules"
    )


def _outcomes(tally: Tally) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="outcomes", title_justify="left", title_style="bold")
    table.add_column("outcome")
    table.add_column("rows", justify="right")
    table.add_column("for instance", overflow="fold")
    table.add_row("ok", f"{tally.ok:,}", "", style="green" if tally.ok else "")
    for error_class, count in tally.errors.most_common():
        item_id, sentence = tally.first_errors[error_class]
        table.add_row(f"failed: {error_class}", f"{count:,}", Text(f"{item_id}: {sentence}"), style="red")
    if tally.skipped:
        table.add_row("skipped", f"{tally.skipped:,}", "answered in an earlier run; --again asks anew")
    if tally.not_attempted:
        table.add_row("not attempted", f"{tally.not_attempted:,}", "", style="yellow")
    table.add_section()
    shared = (
        f", {counted(tally.duplicates, 'row shares', 'rows share')} another's answer"
        if tally.duplicates
        else ""
    )
    table.add_row("all", f"{tally.ended:,}", f"{counted(tally.attempts, 'attempt')}{shared}")
    return table


def _usage(tally: Tally) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="tokens and cost", title_justify="left", title_style="bold")
    table.add_column("direction")
    table.add_column("modality")
    table.add_column("kind")
    table.add_column("tokens", justify="right")
    table.add_column("cost", justify="right")
    for (modality, direction, kind), line in sorted(
        tally.usage.items(), key=lambda entry: (entry[0][1], entry[0][0])
    ):
        cost = money(line.cost) if line.cost else "unknown"
        if line.cost and line.unpriced_tokens:
            cost += f" + {line.unpriced_tokens:,} tokens unpriced"
        table.add_row(direction, modality, kind, f"{line.tokens:,}", cost)
    table.add_section()
    tokens = sum(line.tokens for line in tally.usage.values())
    table.add_row("all", "", "", f"{tokens:,}", money(tally.cost), style="bold")
    return table


def _next_command(summary: Summary, plan: Plan) -> str:
    out = "" if str(plan.out) == "out" else f" --out {shlex.quote(str(plan.out))}"
    job = "" if summary.job == "default" else f" --job {shlex.quote(summary.job)}"
    if summary.state == "budget":
        new = "--budget NEW_TOTAL" if plan.budget is not None else "--budget-per-day AMOUNT"
        return f"mediabatch resume {summary.run_id}{out}{job} {new}"
    if summary.state != "done":
        first = "mend what halted it, then " if summary.state == "halted" else ""
        return f"{first}mediabatch resume {summary.run_id}{out}{job}"
    if plan.anew is not None and not plan.is_rehearsal:
        return f"mediabatch report{out}{job}"
    if not plan.is_rehearsal and set(summary.tally.errors) - {"RowError"}:
        return f"mediabatch reprocess --dry-run{out}{job}"
    if summary.tally.first_errors:
        failed_id, _ = next(iter(summary.tally.first_errors.values()))
        return f"mediabatch show {shlex.quote(failed_id)}{out}{job}"
    run = f" --run {summary.run_id}" if plan.is_rehearsal else ""  # a rehearsal is exported only by name
    return f"mediabatch export answers.csv{out}{job}{run}"
