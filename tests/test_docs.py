"""docs/ is true: the reference is what the code declares, commands take what is shown, links lead on."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from docs.make_reference import DOCS, reference
from jobs.__main__ import cli
from jobs.endpoint_tables import SETTINGS
from jobs.options import TABLES, _settings_of_all
from pipeline.pricing import TomlBook
from pipeline.store.schemas import SCHEMAS
from tests.end_to_end.nights import invoke

ROOT = DOCS.parent
PAGES = sorted(page for page in DOCS.glob("*.md") if not page.name.startswith("reference"))
MEANINGS = tomllib.loads((DOCS / "meanings.toml").read_text("utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every `mediabatch …` line in console blocks, units and crontabs."""
    found = []
    for page in PAGES:
        text = "\n".join(body for language in ("console", "ini", "text") for body in blocks(page, language))
        for line in text.splitlines():
            start = re.search(r"(?:^|ExecStart=/usr/local/bin/|&& )(?=mediabatch )", line)
            if start:
                command = re.sub(r" >> .*", "", line[start.end() :])
                found.append((page.name, shlex.split(command, comments=True)))
    return found


def test_the_reference_is_what_the_code_declares():
    shown = (DOCS / "reference.md").read_text("utf-8")
    assert shown == reference(), "say `make docs`"


def test_every_error_class_and_column_is_in_it():
    from pipeline import errors

    shown = reference()
    families = {"MediabatchError", "AttemptError", "TransientError", "TerminalError", "HaltingError"}
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.MediabatchError) and name not in families:
            assert f"\n| `{name}` | " in shown
    for schema in SCHEMAS.values():
        for column in schema.names():
            assert f"\n| `{column}` | " in shown


def test_run_json_and_the_summary_have_the_keys_of_the_reference(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(ROOT)
    ended = invoke(
        *("run", "data/manifests/example.csv", "--embedded", "--limit", "1", "--out", tmp_path / "out"),
        "--json",
    )
    told = "say what it means in docs/meanings.toml, and then `make docs`"
    assert ended.json.keys() ^ MEANINGS["summary"].keys() == set(), told
    facts = json.loads(Path(ended.json["paths"]["run"]).read_text())
    assert facts.keys() ^ MEANINGS["run_json"].keys() == set(), told


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: " ".join(value[:3]))
def test_every_command_shown_takes_what_is_shown(page: str, words: list[str]):
    context = cli.make_context("mediabatch", words[1:], resilient_parsing=True)
    command = cli.get_command(context, words[1])
    assert command is not None
    options = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if target and not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_readme_leads_to_every_page(page: Path):
    assert f"(docs/{page.name})" in (ROOT / "README.md").read_text("utf-8")


def test_config_files_shown_hold_settings_that_there_are(tmp_path: Path):
    import click

    known = {name.replace("-", "_") for name in _settings_of_all(click.Context(cli))}
    for page in PAGES:
        for body in blocks(page, "toml"):
            settings = tomllib.loads(body)
            if "price" in settings:
                book = tmp_path / "prices.toml"
                book.write_text(body, "utf-8")
                assert TomlBook.read(book).identity().name == settings["name"]
                continue
            assert {name.replace("-", "_") for name in settings} <= known | TABLES
            for endpoint in settings.get("endpoint", []):
                assert endpoint.keys() <= set(SETTINGS)


def test_the_answer_to_a_bad_night_names_classes_that_there_are():
    from pipeline import errors

    table = (DOCS / "when-rows-fail.md").read_text("utf-8").partition("| class |")[2].partition("## Ask")[0]
    for name in re.findall(r"`([A-Z]\w+)`", table):
        assert isinstance(getattr(errors, name), type)


def test_the_story_names_modules_that_there_are():
    for name in re.findall(r"`((?:pipeline|tests)/[\w/.]*)`", (DOCS / "architecture.md").read_text("utf-8")):
        assert (ROOT / name).exists(), name


def test_pictures_ask_nobody_for_anything():
    for picture in (DOCS / "pictures").glob("*.svg"):
        drawn = picture.read_text("utf-8")
        assert "held by" in drawn.replace("&#160;", " ")
        assert not re.search(r"url\(.?http|href=", drawn)


def test_the_units_shown_are_systemds():
    """Sections and keys as systemd knows them, and a time it can read."""
    service, timer = blocks(DOCS / "every-night.md", "ini")
    assert re.findall(r"^\[(\w+)\]$", service, re.M) == ["Unit", "Service"]
    assert re.findall(r"^\[(\w+)\]$", timer, re.M) == ["Unit", "Timer", "Install"]
    assert "SuccessExitStatus=4" in service
    assert "OnCalendar=*-*-* 22:00" in timer
