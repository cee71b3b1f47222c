"""`mediabatch`: the table of commands. A command's module is imported when it is called: help is quick."""

from __future__ import annotations

import sys
from importlib import import_module

import click

COMMANDS = {
    "run": ("jobs.run", "Have every row of a manifest analysed."),
    "resume": ("jobs.resume", "Go on with a run that stopped."),
    "reprocess": ("jobs.reprocess", "Ask again what failed, was cut off or not seen."),
    "status": ("jobs.status", "A run in progress, from another terminal; or all runs."),
    "report": ("jobs.report", "Outcomes and costs over all runs."),
    "export": ("jobs.export", "The latest answers joined to the manifest's columns."),
    "estimate": ("jobs.estimate", "What a run would cost, before anything is spent."),
    "probe": ("jobs.probe", "What an endpoint honours, drops and reports."),
    "reconcile": ("jobs.reconcile", "A gateway's own usage log beside what we have."),
    "show": ("jobs.show", "One item: request, attempts, reply, and a curl line."),
    "serve": ("jobs.serve", "The embedded endpoint as a server."),
    "init": ("jobs.init", "Write a commented nightly.toml to start from."),
    "prune": ("jobs.prune", "Let go of what is old and superseded."),
}
"""name → (module with a click command of that name, what the overview says)"""


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, told) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mediabatch", prog_name="mediabatch")
def cli() -> None:
    """Have images, audio and video analysed by a multimodal model, in bulk, with an exact bill.

    \b
    Try it without a key:   mediabatch run data/manifests/example.csv --embedded
    A night's run:          mediabatch run MANIFEST --base-url https://…/v1   (key: MEDIABATCH_API_KEY)
    """


def main() -> None:
    # Manifests, prompts and answers are UTF-8 whatever the locale says.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr] # a TextIOWrapper
    cli(prog_name="mediabatch")


if __name__ == "__main__":
    main()
