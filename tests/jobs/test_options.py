"""Where a setting's value comes from, and what a name may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import pytest
from click.testing import CliRunner, Result

from jobs.options import (
    Fault,
    checked_name,
    checked_timezone,
    config_option,
    job_option,
    json_option,
    option,
    out_option,
    plainly,
)
from pipeline.errors import ManifestError, StoreUnwritable


@click.group()
def tool() -> None:
    """A program of two commands."""


@tool.command()
@config_option
@out_option
@job_option
@option("--max-tokens", type=int, default=1)
@option("--header", "headers", multiple=True)
@option("--timezone", default="UTC", callback=checked_timezone)
@json_option
def ask(**options: Any) -> None:
    click.echo(repr(options))


@tool.command()
@config_option
@option("--depth", type=int, default=0)
def dig(depth: int) -> None:
    click.echo(depth)


def invoke(*words: str, config: str | None = None, folder: Path | None = None, **env: str) -> Result:
    arguments = [*words]
    if config is not None:
        assert folder is not None
        (folder / "night.toml").write_text(config, "utf-8")
        arguments += ["--config", str(folder / "night.toml")]
    return CliRunner().invoke(
        tool, arguments, env={f"MEDIABATCH_{name}": value for name, value in env.items()}
    )


def told(result: Result) -> str:
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.mark.parametrize(
    ("words", "env", "config", "tokens"),
    [
        ([], {}, None, 1),
        ([], {}, "max-tokens = 2", 2),
        ([], {}, "max_tokens = 2", 2),
        ([], {"MAX_TOKENS": "3"}, "max-tokens = 2", 3),
        (["--max-tokens", "4"], {"MAX_TOKENS": "3"}, "max-tokens = 2", 4),
        (["--max-tokens", "1"], {"MAX_TOKENS": "3"}, "max-tokens = 2", 1),
    ],
)
def test_command_line_before_environment_before_config_before_default(tmp_path, words, env, config, tokens):
    result = invoke("ask", *words, config=config, folder=tmp_path, **env)
    assert f"'max_tokens': {tokens}," in result.output


def test_a_config_file_is_named_by_the_environment_too(tmp_path: Path):
    (tmp_path / "night.toml").write_text("max-tokens = 5")
    assert "'max_tokens': 5" in invoke("ask", CONFIG=str(tmp_path / "night.toml")).output


def test_settings_are_named_like_the_options_not_like_our_variables(tmp_path: Path):
    result = invoke("ask", config='json = true\nheader = ["A=1", "B=2"]\njob = "夜"', folder=tmp_path)
    assert "'as_json': True" in result.output
    assert "'headers': ('A=1', 'B=2')" in result.output
    assert "'job': '夜'" in result.output
    assert "no such setting 'as-json'" in told(invoke("ask", config="as-json = true", folder=tmp_path))


def test_one_file_serves_all_commands(tmp_path: Path):
    config = "max-tokens = 2\ndepth = 7"
    assert invoke("dig", config=config, folder=tmp_path).output == "7\n"
    assert "'max_tokens': 2" in invoke("ask", config=config, folder=tmp_path).output


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("modle = 'x'", "no such setting 'modle'; `ask` takes header, job, json, max-tokens, out, timezone"),
        ("config = 'other.toml'", "no such setting 'config'"),
        ("model = ", "is not TOML"),
        ("max-tokens = 'many'", "Invalid value for '--max-tokens'"),
        ("job = '../x'", "--job '../x'"),
    ],
)
def test_a_bad_config_is_told_in_a_sentence(tmp_path: Path, config: str, sentence: str):
    assert sentence in told(invoke("ask", config=config, folder=tmp_path))


def test_a_missing_config_is_told_in_a_sentence(tmp_path: Path):
    missing = str(tmp_path / "none.toml")
    assert f"--config {missing}: cannot be read (No such file or directory)" in told(
        invoke("ask", "--config", missing)
    )


@pytest.mark.parametrize("name", ["default", "captions-2026.03", "夜班", "a", "_x", "x" * 100])
def test_names_that_fit_into_paths(name: str):
    assert checked_name("--job", name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a b", "a\nb", "-x", "a=b", "x" * 101, "a\n"]
)
def test_names_that_do_not(name: str):
    with pytest.raises(Fault) as caught:
        checked_name("--job", name)
    assert caught.value.exit_code == 2


def test_a_timezone_is_known_or_a_mistake():
    assert repr(ZoneInfo("Asia/Shanghai")) in invoke("ask", "--timezone", "Asia/Shanghai").output
    for wrong in ("Mars/Olympus", "", "../etc/passwd", "/etc/passwd"):
        assert "no such zone" in told(invoke("ask", "--timezone", wrong))


@pytest.mark.parametrize(
    ("error", "code"),
    [(ManifestError("m.csv", "is empty"), 2), (StoreUnwritable("out", "disk full"), 3)],
)
def test_what_went_wrong_is_one_sentence_on_stderr(error: Exception, code: int):
    @click.command()
    @plainly
    def fails() -> None:
        raise error

    result = CliRunner().invoke(fails)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"error: {error}\n")


def test_a_bug_surfaces_as_itself():
    @click.command()
    @plainly
    def fails() -> None:
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(fails).exception, ZeroDivisionError)
