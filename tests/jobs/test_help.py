"""Every command says what it does, every option what it is for, and help is quick."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from jobs.__main__ import COMMANDS, cli


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def options() -> list[tuple[str, click.Option]]:
    return [
        (name, param)
        for name in COMMANDS
        for param in command(name).params
        if isinstance(param, click.Option)
    ]


@pytest.mark.parametrize(("name", "option"), options(), ids=lambda value: getattr(value, "name", value))
def test_every_option_has_a_help_text_and_is_listed(name: str, option: click.Option):
    assert option.help, "what is it for?"
    assert not option.hidden
    shown = CliRunner().invoke(cli, [name, "--help"], terminal_width=200)
    assert shown.exit_code == 0
    for spelling in (*option.opts, *option.secondary_opts):
        assert spelling in shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str):
    assert (command(name).help or "").strip().endswith(".")
    assert command(name).name == name


def test_the_overview_names_every_command():
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    for name, (_, told) in COMMANDS.items():
        assert name in shown.output
        assert told in shown.output


@pytest.mark.parametrize("name", ["run", "export", "show"])
def test_commands_spell_alike_what_they_share(name: str):
    spelt = {spelling for param in command(name).params for spelling in param.opts}
    assert {"--out", "--job", "--config"} <= spelt


def test_the_key_is_no_option():
    """It would stand in the list of processes and in the shell's history."""
    assert not [option for _, option in options() if {"--api-key", "--key"} & set(option.opts)]


def test_an_unknown_command_is_a_mistake():
    assert CliRunner().invoke(cli, ["rnu"]).exit_code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]):
    heavy = ("polars", "pyreqwest", "genai_prices", "httpx", "anyio", "av", "PIL", "aiohttp", "rich")
    code = (
        "import sys, jobs.__main__ as m\n"
        f"sys.argv = ['mediabatch', *{arguments!r}]\n"
        "try: m.main()\n"
        "except SystemExit as e: assert not e.code\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"
    assert done.stdout
