"""A night with a person in front of it: progress, signals, a deadline; then the summary and an exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import click
import orjson

from jobs.notifying import notify
from jobs.options import Fault, json_option, option
from jobs.progress import LogFormat, Progress
from jobs.summary import DONE, exit_code, show_summary
from jobs.summary import as_json as summary_json
from pipeline.engines import ENGINES, Engine, Running
from pipeline.engines.process import prepare_process
from pipeline.errors import RunFinished
from pipeline.launch import launch
from pipeline.plan import Plan, Secrets
from pipeline.run import Summary, only_one
from pipeline.store.reader import run_facts
from pipeline.tally import Tally


@dataclass(frozen=True, slots=True)
class Evening:
    """How a night is watched and ended."""

    grace_s: float
    deadline: str | None  # HH:MM
    as_json: bool
    progress: bool | None
    engine: Engine
    log_format: LogFormat = "text"
    notify_cmd: str | None = None


def evening_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command that spends a night shares; together they make an `Evening`."""
    for decorate in (
        option(
            "--notify-cmd",
            metavar="CMD",
            help="A shell command that gets the summary (as of --json) on stdin when the run has ended.",
        ),
        option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="How stderr is written: for a person, or a JSON object a line.",
        ),
        option(
            "--progress/--no-progress", default=None, help="Default: a view on a terminal, lines in a pipe."
        ),
        json_option,
        option(
            "--deadline",
            metavar="HH:MM",
            callback=_checked_time,
            help="Stop admitting then, in --timezone; exit code 4.",
        ),
        option(
            "--grace",
            "grace_s",
            type=click.FloatRange(0),
            default=30.0,
            show_default=True,
            help="Seconds to wait for what is in flight when stopped.",
        ),
        option(
            "--ray-address",
            metavar="HOST:PORT",
            help="The Ray cluster of --engine ray.  [default: the one of this machine]",
        ),
        option(
            "--engine",
            type=click.Choice(list(ENGINES)),
            default="local",
            show_default=True,
            help="Where items are asked: in this process, or by workers on a Ray cluster.",
        ),
    ):
        command = decorate(command)
    return command


def evening_of(options: dict[str, Any]) -> Evening:
    """Take the options of `evening_options` out of a command's."""
    engine, address = options.pop("engine"), options.pop("ray_address")
    if address is not None and engine != "ray":
        raise Fault("--ray-address is for --engine ray")
    names = ("grace_s", "deadline", "as_json", "progress", "log_format", "notify_cmd")
    return Evening(engine=ENGINES[engine](address), **{name: options.pop(name) for name in names})


def spend(plan: Plan, secrets: Secrets, evening: Evening) -> int:
    """Run the plan, show what it came to, and return the exit code."""
    watcher = Progress(is_wanted=evening.progress, log_format=evening.log_format)
    prepare_process()
    backend = {"use_uvloop": _has_uvloop()}
    try:
        summary = anyio.run(_night, plan, secrets, watcher, evening, backend_options=backend)
    except RunFinished as finished:
        return nothing_to_do(finished, run_facts(plan.out, plan.run_id), evening)
    code = exit_code(summary, plan)
    if evening.as_json:
        click.echo(summary_json(summary, plan, code))
    else:
        show_summary(summary, plan)
    if evening.log_format == "json":
        sentence = f"run {summary.run_id} ended: {summary.state}"
        watcher.say(sentence, event="end", run_id=summary.run_id, state=summary.state, exit_code=code)
    if evening.notify_cmd:
        problem = notify(evening.notify_cmd, summary_json(summary, plan, code), plan)
        if problem:
            watcher.say(f"note: {problem}; the run itself is as it is told")
    return code


def nothing_to_do(finished: RunFinished, facts: dict[str, Any], evening: Evening) -> int:
    """Resuming a finished run changes nothing, and is no mistake."""
    click.echo(str(finished), err=True)
    if evening.as_json:
        # What a summary has, by the same names.
        told = {**facts, **facts.get("totals", {}), "exit_code": DONE}
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    return DONE


async def _night(plan: Plan, secrets: Secrets, watcher: Progress, evening: Evening) -> Summary:
    try:
        async with anyio.create_task_group() as tasks:
            at_once = anyio.CancelScope()

            def on_start(run: Running, tally: Tally, notes: Sequence[str]) -> None:
                for note in notes:
                    watcher.say(f"note: {note}")
                stop = Stop(run, watcher, at_once, evening.grace_s)
                tasks.start_soon(stop.at_signals)
                if evening.deadline is not None:
                    tasks.start_soon(stop.at, evening.deadline, plan.timezone)
                tasks.start_soon(watcher.follow, plan, run, tally)

            summary = await launch(plan, secrets, on_start=on_start, at_once=at_once, engine=evening.engine)
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise only_one(group) from None
    finally:
        watcher.close()  # else a bug would leave the terminal without a cursor
    return summary


@dataclass(frozen=True, slots=True)
class Stop:
    """The ways in which a night is ended from outside."""

    run: Running
    watcher: Progress
    at_once: anyio.CancelScope
    grace_s: float

    async def at_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:
                count = 0
                async for _ in signals:
                    count += 1
                    if count == 1:
                        self._say("stopping")
                        self.run.stop("interrupted")
                        tasks.start_soon(self._after_grace)
                    else:
                        self.at_once.cancel()

    async def at(self, time_of_day: str, timezone: ZoneInfo) -> None:
        await anyio.sleep(seconds_until(time_of_day, datetime.now(timezone)))
        self._say(f"it is {time_of_day}")
        self.run.stop("deadline")
        await self._after_grace()

    def _say(self, why: str) -> None:
        self.watcher.say(
            f"{why}: waiting up to {self.grace_s:g} s for what is in flight; Ctrl-C once more stops at once"
        )

    async def _after_grace(self) -> None:
        await anyio.sleep(self.grace_s)
        self.at_once.cancel()


def seconds_until(time_of_day: str, now: datetime) -> float:
    """Seconds from ``now`` to the next HH:MM on its clock; a whole day where it is that minute just now."""
    hour, _, minute = time_of_day.partition(":")
    then = now.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
    if then <= now:
        then += timedelta(days=1)
    # As instants, because clocks change in the night.
    return then.timestamp() - now.timestamp()


def _checked_time(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            datetime.strptime(value, "%H:%M")
        except ValueError:
            raise Fault(f"--deadline {value!r}: a time of day as HH:MM, for instance 06:00") from None
    return value


def _has_uvloop() -> bool:
    from importlib.util import find_spec

    return find_spec("uvloop") is not None
