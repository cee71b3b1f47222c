"""``--notify-cmd``: a command of the user's gets the summary as JSON when a run has ended.

Whatever it does, the run has ended as it has: the exit code stays, and what goes wrong here is a sentence.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress

from pipeline.plan import Plan

PATIENCE_S = 60.0


def notify(command: str, summary_json: str, plan: Plan, *, patience_s: float = PATIENCE_S) -> str | None:
    """Run the command in a shell, with the summary on stdin; return what went wrong, as a sentence.

    What it prints goes to stderr, for stdout carries the result. It is given no key.
    """
    try:
        process = subprocess.Popen(
            command,
            shell=True,  # it is a line of the user's own, as in a crontab: with pipes and quotes
            stdin=subprocess.PIPE,
            stdout=2,
            env=_without_keys(os.environ, plan),
            start_new_session=True,  # so that it ends with all that it started
        )
    except OSError as error:
        return f"--notify-cmd could not be started ({error.strerror})"
    try:
        process.communicate(summary_json.encode(), timeout=patience_s)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"--notify-cmd took longer than {patience_s:g} s and was ended"
    if process.returncode:
        return f"--notify-cmd ended with exit code {process.returncode}"
    return None


def _without_keys(environment: Mapping[str, str], plan: Plan) -> dict[str, str]:
    keys = {"MEDIABATCH_API_KEY", *(one.key_variable for one in plan.endpoints)}
    return {name: value for name, value in environment.items() if name not in keys}
