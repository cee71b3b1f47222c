"""A real terminal: a command in a pty of some width, and what a person would see on it at any moment."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLOURS = {"brown": "yellow", "brightbrown": "bright_yellow", "default": None}
"""pyte's names of what rich calls otherwise."""


class Terminal:
    """The command runs until the block ends. Everything it writes to the terminal is drawn on ``screen``."""

    def __init__(
        self, command: Sequence[str], *, columns: int, cwd: Path, env: Mapping[str, str], lines: int = 24
    ) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.raw = b""
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env={**env, "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""},
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    @property
    def shown(self) -> list[str]:
        """The lines that are not empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def until(self, is_there: Callable[[list[str]], bool], within_s: float = 30.0) -> list[str]:
        """What is shown as soon as it satisfies."""
        deadline_s = time.monotonic() + within_s
        while not is_there(self.shown):
            assert self._read(deadline_s - time.monotonic()), f"not shown: {self.shown}"
        return self.shown

    def to_the_end(self, within_s: float = 60.0) -> int:
        """The exit code."""
        deadline_s = time.monotonic() + within_s
        while self._read(deadline_s - time.monotonic()):
            pass
        return self.process.wait(10)

    def _read(self, for_s: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0.0, for_s))
        if not ready:
            return False
        try:
            written = os.read(self._ours, 65_536)
        except OSError:  # Linux says so when the last one who had it open is gone
            return False
        self.raw += written
        self._stream.feed(written)
        return bool(written)

    def svg(self, title: str, lines: int) -> str:
        """The first lines of the screen as a picture, in their colours."""
        console = Console(record=True, width=self.screen.columns, file=io.StringIO(), force_terminal=True)
        for number in range(lines):
            row = self.screen.buffer[number]
            text = Text(no_wrap=True, end="\n")
            for style, cells in groupby(map(row.__getitem__, range(self.screen.columns)), _style):
                text.append("".join(cell.data for cell in cells), style)
            text.rstrip()
            console.print(text)
        drawn = console.export_svg(title=title, unique_id="mediabatch")
        # Fonts of the reader's own: a picture asks nobody for anything.
        drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
        return drawn.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


def _style(cell: pyte.screens.Char) -> Style:
    colour = COLOURS.get(cell.fg, cell.fg)
    if colour and re.fullmatch("[0-9a-f]{6}", colour):
        colour = f"#{colour}"
    return Style(color=colour, bold=cell.bold, italic=cell.italics)
