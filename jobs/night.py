"""A night with a person in front of it: progress, signals, a deadline; then the summary and an exit code."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
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
from pipeline.errors import RunFinished
from pipeline.launch import launch
from pipeline.plan import Plan, Secrets
from pipeline.run import Run, Summary, only_one
from pipeline.store.reader import run_facts
from pipeline.tally import Tally

MOST_OPEN_FILES = 32_768


@dataclass(frozen=True, slots=True)
class Evening:
    """How a night is watched and ended."""

    grace_s: float
    deadline: str | None  # HH:MM
    as_json: bool
    progress: bool | None
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
    ):
        command = decorate(command)
    return command


def evening_of(options: dict[str, Any]) -> Evening:
    """Take the options of `evening_options` out of a command's."""
    names = ("grace_s", "deadline", "as_json", "progress", "log_format", "notify_cmd")
    return Evening(*(options.pop(name) for name in names))


def spend(plan: Plan, secrets: Secrets, evening: Evening) -> int:
    """Run the plan, show what it came to, and return the exit code."""
    watcher = Progress(is_wanted=evening.progress, log_format=evening.log_format)
    _allow_connections()
    # Items make no cycles to speak of: looking for them as often as Python does by default took 4 to 11% of
    # the CPU, and found nothing (the peak of memory is the same).
    gc.freeze()
    gc.set_threshold(200_000)
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


def _allow_connections() -> None:
    """As many open files as the system lets a process have: often 1,024 until it asks, and each request in
    flight is one."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or soft < hard):
        wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


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

            def on_start(run: Run, tally: Tally, notes: Sequence[str]) -> None:
                for note in notes:
                    watcher.say(f"note: {note}")
                stop = Stop(run, watcher, at_once, evening.grace_s)
                tasks.start_soon(stop.at_signals)
                if evening.deadline is not None:
                    tasks.start_soon(stop.at, evening.deadline, plan.timezone)
                tasks.start_soon(watcher.follow, plan, run, tally)

            summary = await launch(plan, secrets, on_start=on_start, at_once=at_once)
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise only_one(group) from None
    finally:
        watcher.close()  # else a bug would leave the terminal without a cursor
    return summary


@dataclass(frozen=True, slots=True)
class Stop:
    """The ways in which a night is ended from outside."""

    run: Run
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
