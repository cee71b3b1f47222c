"""What a person sees while a run goes on: a view on a terminal, lines or JSON in a pipe; all on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import anyio
import click
import orjson
from rich.console import Console
from rich.live import Live

from jobs.moment import Watch, told_at
from jobs.pilot_view import PilotView
from pipeline.engines import Running
from pipeline.plan import Plan
from pipeline.tally import Tally

REDRAW_S = 0.25
LINE_EVERY_S = 15.0

LogFormat = Literal["text", "json"]


class Progress:
    """Follows a run until it is closed."""

    def __init__(self, *, is_wanted: bool | None, log_format: LogFormat = "text") -> None:
        self._is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._is_wanted = True if is_wanted is None else is_wanted
        self._log_format = log_format
        self._live: Live | None = None

    async def follow(self, plan: Plan, run: Running, tally: Tally) -> None:
        if not self._is_wanted:
            return
        watch = Watch(plan, run.vitals, tally, anyio.current_time)
        if self._is_terminal and self._log_format == "text":
            await self._draw(plan, watch)
        else:
            await self._tell(watch)

    def say(self, sentence: str, *, event: str = "note", **more: Any) -> None:
        """A sentence on stderr, above the view where there is one."""
        if self._log_format == "json":
            self._log(event, {"message": sentence, **more})
        elif self._live is None:
            click.echo(sentence, err=True)
        else:
            self._live.console.print(sentence, highlight=False, markup=False, emoji=False)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    async def _draw(self, plan: Plan, watch: Watch) -> None:
        def view() -> PilotView:
            return PilotView(watch.moment(), now=datetime.now(plan.timezone))

        # Redrawn from here, so that no second thread touches the terminal.
        self._live = Live(
            view(),
            console=Console(stderr=True, highlight=False),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start(refresh=True)
        while True:
            await anyio.sleep(REDRAW_S)
            self._live.update(view(), refresh=True)

    async def _tell(self, watch: Watch) -> None:
        watch.moment()
        while True:
            await anyio.sleep(LINE_EVERY_S)
            moment = watch.moment()
            if self._log_format == "json":
                self._log("progress", moment.facts())
            else:
                click.echo(moment.line(), err=True)

    def _log(self, event: str, facts: Mapping[str, Any]) -> None:
        line = orjson.dumps({"at": told_at(), "event": event, **facts})
        click.echo(line.decode(), err=True)
