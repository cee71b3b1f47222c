"""`[[endpoint]]` and `[fallback]` in a config file: what they say, and every slip told in a sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline import errors
from tests.end_to_end.nights import Finished, clean_environment, invoke, write_manifest

A, B = "https://a.example/v1", "https://b.example/v1"
TWO = f"""
[[endpoint]]
base_url = "{A}"
rpm = 600

[[endpoint]]
base_url = "{B}"
dialect = "openai"
models = ["a-model", "b-model"]
concurrency = 7
tpm = 90000
"""


NO_LIST = "--config: endpoint is not a list of tables; begin each with [[endpoint]]"


class Desk:
    """A folder with a manifest, and a config file to write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_manifest(folder / "m.csv", ["a"])

    def run(self, config: str, *words: str, **env: str) -> Finished:
        """As far as it can come without sending anything."""
        (self.folder / "night.toml").write_text(config, "utf-8")
        out = ("--out", self.folder / "out", "--config", self.folder / "night.toml", "--run-id", "r1")
        return invoke("run", self.folder / "m.csv", *out, "--limit", "0", *words, **env)

    def plan(self, config: str, *words: str, **env: str) -> dict[str, Any]:
        """What run.json says of it."""
        done = self.run(config, *words, **env)
        assert done.code == 0, done.stderr
        told = json.loads((self.folder / "out" / "runs" / "r1" / "run.json").read_text("utf-8"))
        plan: dict[str, Any] = told["plan"]
        return plan

    def mistake(self, config: str, *words: str, **env: str) -> str:
        """The sentence; nothing was sent, and nothing is left behind."""
        done = self.run(config, *words, **env)
        assert done.code == 2, done.stdout + done.stderr
        assert not (self.folder / "out").exists()
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        return done.stderr


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    kept = clean_environment()
    for name in os.environ:
        if name not in kept and not name.startswith("PYTHON"):
            monkeypatch.delenv(name)
    return Desk(tmp_path)


def said(base_url: str, **settings: Any) -> dict[str, Any]:
    plain = {
        "dialect": "newapi",
        "models": [],
        "slots": None,
        "rpm": None,
        "tpm": None,
        "key_variable": None,
        "price_book": None,
    }
    return {"base_url": base_url, **plain, **settings}


def test_endpoints_stand_in_the_order_of_the_file_with_what_each_says(desk: Desk):
    plan = desk.plan(TWO)
    assert plan["endpoints"] == [
        said(A, rpm=600),
        said(B, dialect="openai", models=["a-model", "b-model"], slots=7, tpm=90_000),
    ]
    assert plan["endpoint"] == f"{A}, else {B}"


def test_settings_may_be_spelled_like_options(desk: Desk):
    config = f'[[endpoint]]\nbase-url = "{A}/"\nkey-variable = "A_KEY"\nconcurrency = "auto"'
    assert desk.plan(config, A_KEY="sk-a-key-of-endpoint-a")["endpoints"] == [said(A, key_variable="A_KEY")]


def test_what_the_file_says_of_pace_holds_for_endpoints_that_say_nothing(desk: Desk):
    plan = desk.plan(f'rpm = 60\nconcurrency = 3\ndialect = "openai"\n{TWO}')
    first, second = plan["endpoints"]
    assert (first["dialect"], first["slots"], first["rpm"], first["tpm"]) == ("openai", 3, 600, None)
    assert (second["dialect"], second["slots"], second["rpm"], second["tpm"]) == ("openai", 7, 60, 90_000)


@pytest.mark.parametrize(("words", "env"), [(["--rpm", "60"], {}), ([], {"MEDIABATCH_RPM": "60"})])
def test_what_is_typed_of_pace_holds_for_every_endpoint(desk: Desk, words: list[str], env: dict[str, str]):
    first, second = desk.plan(TWO, *words, **env)["endpoints"]
    assert (first["rpm"], second["rpm"]) == (60, 60)
    assert (second["slots"], second["tpm"]) == (7, 90_000)


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["--base-url", "https://typed.example/v1"], {}),
        ([], {"MEDIABATCH_BASE_URL": "https://typed.example/v1"}),
    ],
)
def test_an_endpoint_named_on_the_command_line_or_in_a_variable_goes_before_the_tables(desk, words, env):
    plan = desk.plan(TWO, *words, "--rpm", "60", **env)
    assert plan["endpoints"] == [said("https://typed.example/v1", rpm=60)]


@pytest.mark.parametrize(("words", "env"), [(["--embedded"], {}), ([], {"MEDIABATCH_EMBEDDED": "1"})])
def test_who_means_to_rehearse_asks_none_of_the_tables(desk: Desk, words: list[str], env: dict[str, str]):
    assert [one["base_url"] for one in desk.plan(TWO, *words, **env)["endpoints"]] == [None]


def test_the_tables_go_before_a_base_url_of_the_same_file(desk: Desk):
    plan = desk.plan('base-url = "https://older.example/v1"\n' + TWO)
    assert plan["endpoint"] == f"{A}, else {B}"


def test_fallbacks_are_kept_with_the_plan(desk: Desk):
    config = TWO + '\n[fallback]\nContentBlocked = "b-model"\nEmptyReply = "b-model"'
    assert desk.plan(config)["fallbacks"] == {"ContentBlocked": "b-model", "EmptyReply": "b-model"}


def test_fallbacks_need_no_tables_of_endpoints(desk: Desk):
    plan = desk.plan('[fallback]\nContentBlocked = "b-model"', "--base-url", A)
    assert plan["fallbacks"] == {"ContentBlocked": "b-model"}


def test_one_file_with_tables_serves_the_other_commands_too(desk: Desk):
    desk.plan(TWO)
    done = invoke("report", "--out", desk.folder / "out", "--config", desk.folder / "night.toml")
    assert done.code == 0, done.stderr


# Slips


def table(*lines: str) -> str:
    return "\n".join(["[[endpoint]]", f'base_url = "{A}"', *lines])


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ('endpoint = "https://a.example/v1"', NO_LIST),
        (f'[endpoint]\nbase_url = "{A}"', NO_LIST),
        ("endpoint = []", NO_LIST),
        ('endpoint = ["a"]', NO_LIST),
        ("[[endpoint]]\nrpm = 6", '--config, [[endpoint]] 1: it needs a base_url = "https://…/v1"'),
        ("[[endpoint]]\nbase_url = 7", '--config, [[endpoint]] 1: it needs a base_url = "https://…/v1"'),
        (
            table("rmp = 6"),
            "--config, [[endpoint]] 1: no such setting 'rmp'; an endpoint takes base_url, key_variable, "
            "dialect, models, concurrency, rpm, tpm",
        ),
        (TWO + '[[endpoint]]\nbase_url = "b.example"', "[[endpoint]] 3: base_url: not an http(s) URL"),
        (
            '[[endpoint]]\nbase_url = "https://user:pw@a.example/v1"',
            "[[endpoint]] 1: base_url: leave user and password out of it",
        ),
        (
            f'[[endpoint]]\nbase_url = "{A}/chat/completions"',
            f"[[endpoint]] 1: base_url: only up to {A}; the rest is added here",
        ),
        (table() + "\n" + table(), f"--config: two [[endpoint]] tables have the base_url {A}"),
        (
            table() + f'\n[[endpoint]]\nbase_url = "{A}/"',
            f"--config: two [[endpoint]] tables have the base_url {A}",
        ),
        (table('dialect = "latin"'), "[[endpoint]] 1: no such dialect 'latin'; there are newapi, "),
        (table('dialect = ["openai"]'), "[[endpoint]] 1: no such dialect ['openai']; there are"),
        (table('models = "a-model"'), '] 1: models is a list of names, as in models = ["a-model"]'),
        (table("models = [1]"), "models is a list of names"),
        (table('models = [""]'), "models is a list of names"),
        (
            table('key_variable = "sk-not-a-name-7Qp2"'),
            "[[endpoint]] 1: key_variable is the name of an environment variable, not the key itself",
        ),
        (table("key_variable = 7"), "key_variable is the name of an environment variable"),
        (
            table('key_variable = "A_KEY"'),
            f"endpoint {A}: its key should be in the variable A_KEY, which is not set",
        ),
        (table("concurrency = 0"), "[[endpoint]] 1: concurrency 0: a number from 1 to 10000, or auto"),
        (table('concurrency = "many"'), "concurrency 'many': a number from 1 to 10000, or auto"),
        (table("concurrency = true"), "concurrency 'True': a number from 1 to 10000, or auto"),
        (table("concurrency = 2.5"), "concurrency '2.5': a number from 1 to 10000, or auto"),
        (table("rpm = 0"), "[[endpoint]] 1: rpm is a whole number from 1 up"),
        (table('rpm = "600"'), "rpm is a whole number from 1 up"),
        (table("rpm = true"), "rpm is a whole number from 1 up"),
        (table("tpm = 0.5"), "[[endpoint]] 1: tpm is a whole number from 1 up"),
        (TWO + '\n[[fallback]]\nBadInput = "m"', "fallback is not a table; write [fallback] and under it"),
        (
            TWO + '\n[fallback]\nContentBloked = "m"',
            "there is no error class 'ContentBloked'; `mediabatch report` shows those of your runs",
        ),
        (TWO + '\n[fallback]\nMapping = "m"', "[fallback]: there is no error class 'Mapping'"),
        (TWO + '\n[fallback]\nRowError = "m"', "[fallback]: there is no error class 'RowError'"),
        (
            TWO + '\n[fallback]\nTerminalError = "m"',
            "[fallback]: TerminalError is a whole family of errors; name each class of it",
        ),
        (TWO + "\n[fallback]\nBadInput = 7", "--config, [fallback] BadInput: not the name of a model"),
        (TWO + '\n[fallback]\nBadInput = " "', "--config, [fallback] BadInput: not the name of a model"),
    ],
)  # fmt: skip
def test_a_slip_is_told_in_a_sentence_before_anything_is_sent(desk: Desk, config: str, sentence: str):
    assert sentence in desk.mistake(config)


def test_a_key_where_its_variables_name_belongs_is_not_repeated(desk: Desk):
    assert "7Qp2" not in desk.mistake(table('key_variable = "sk-not-a-name-7Qp2"'))


def test_a_variable_with_a_broken_key_is_a_slip(desk: Desk):
    told = desk.mistake(table('key_variable = "A_KEY"'), A_KEY="sk a key 7Qp2")
    assert "the API key holds characters that no key has" in told
    assert "7Qp2" not in told


def test_with_neither_tables_nor_options_no_endpoint_is_meant(desk: Desk):
    assert "no endpoint: give --base-url https://…/v1" in desk.mistake('model = "a-model"')


@pytest.mark.parametrize(
    "name",
    sorted(
        kind.__name__
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.AttemptError) and not kind.__subclasses__()
    ),
)
def test_every_error_of_an_attempt_may_have_a_fallback(desk: Desk, name: str):
    assert desk.plan(TWO + f'\n[fallback]\n{name} = "b-model"')["fallbacks"] == {name: "b-model"}
