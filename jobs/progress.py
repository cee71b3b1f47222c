"""What a person sees while a run goes on: a bar on a terminal, lines in a pipe; all on stderr."""

from __future__ import annotations

import sys
import time

import anyio
import click
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from jobs.wording import money
from pipeline.tally import Tally

REDRAW_S = 0.25
LINE_EVERY_S = 15.0


class Progress:
    """Follows a run until it is closed."""

    def __init__(self, *, is_wanted: bool | None) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._is_wanted = True if is_wanted is None else is_wanted
        self._bar: Bar | None = None

    async def follow(self, tally: Tally) -> None:
        if not self._is_wanted:
            return
        if self._is_terminal:
            await self._draw(tally)
        else:
            await self._tell(tally)

    def say(self, sentence: str) -> None:
        """A sentence on stderr, above the bar where there is one."""
        if self._bar is None:
            click.echo(sentence, err=True)
        else:
            self._bar.console.print(sentence, highlight=False, markup=False, emoji=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    async def _draw(self, tally: Tally) -> None:
        self._bar = Bar(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,}/{task.total:,}"),
            TextColumn("[green]{task.fields[ok]:,} ok[/] [red]{task.fields[failed]:,} failed[/]"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("[cyan]{task.fields[spent]}[/]"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,  # redrawn from here, so that no second thread touches the terminal
            transient=True,
        )
        task = self._bar.add_task("", total=tally.rows_total or 0, ok=0, failed=0, rate="", spent="")
        self._bar.start()
        started = time.monotonic()
        while True:
            elapsed_s = max(time.monotonic() - started, 1e-6)
            self._bar.update(
                task,
                completed=tally.ended,
                ok=tally.ok,
                failed=tally.failed,
                rate=f"{tally.ended / elapsed_s:,.1f}/s",
                spent=money(tally.cost),
            )
            self._bar.refresh()
            await anyio.sleep(REDRAW_S)

    async def _tell(self, tally: Tally) -> None:
        started = time.monotonic()
        while True:
            await anyio.sleep(LINE_EVERY_S)
            elapsed_s = time.monotonic() - started
            rate = tally.ended / elapsed_s
            total = tally.rows_total
            of_all = f" of {total:,}" if total is not None else ""
            eta = f", {(total - tally.ended) / rate:,.0f} s left" if total is not None and rate else ""
            click.echo(
                f"{tally.ended:,}{of_all} rows: {tally.ok:,} ok, {tally.failed:,} failed; {rate:,.1f}/s, "
                f"{money(tally.cost)} spent{eta}",
                err=True,
            )
