"""Prices of one's own, from the command line to the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.end_to_end.nights import Store, run_command, write_manifest
from tests.end_to_end.test_example_reply import ROW
from tests.serving.answers import EXAMPLE_REPLY, Answer, completion
from tests.serving.server import Received, Server

EXAMPLE_BOOK = Path(__file__).resolve().parents[2] / "data/prices/gateway-example.toml"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(lambda received: EXAMPLE_REPLY) as server:
        yield server


def test_a_gateways_book_prices_the_example_in_yuan_and_says_so_on_every_row(server: Server, tmp_path: Path):
    """9 text and 1,656 image+video x 1.26, 399 audio x 2.52, 230 out x 7.56, in CNY a million."""
    manifest = write_manifest(tmp_path / "manifest.csv", [ROW])
    ran = run_command(
        *("run", manifest, "--base-url", server.base_url, "--json", "--price-book", EXAMPLE_BOOK),
        cwd=tmp_path,
    )
    assert ran.code == 0, ran.stderr
    assert json.loads(ran.stdout)["cost"] == {"CNY": "0.00484218"}
    store = Store(tmp_path / "out")
    assert store.results.select("cost", "currency").rows() == [(Decimal("0.00484218"), "CNY")]
    assert set(store.costs["price_source"]) == {
        "gateway-example, gemini-3.1-flash-lite* (checked 2026-11-23)"
    }
    (run,) = (tmp_path / "out/runs").glob("*/run.json")
    facts = json.loads(run.read_text("utf-8"))
    assert [book["name"] for book in facts["price_books"]] == ["gateway-example", "genai-prices"]
    assert facts["price_book"]["version"] == "checked 2026-11-23"


def test_an_endpoint_may_have_a_book_of_its_own(server: Server, tmp_path: Path):
    manifest = write_manifest(tmp_path / "manifest.csv", [ROW])
    book = tmp_path / "mine.toml"
    book.write_text('currency = "EUR"\n[[price]]\nmodels = ["gemini-*"]\ninput = 1\noutput = 2', "utf-8")
    config = tmp_path / "night.toml"
    config.write_text(f'[[endpoint]]\nbase_url = "{server.base_url}"\nprice_book = "mine.toml"\n', "utf-8")
    ran = run_command(
        "run", manifest, "--config", config, "--json", "--price-book", EXAMPLE_BOOK, cwd=tmp_path
    )
    assert ran.code == 0, ran.stderr
    assert json.loads(ran.stdout)["cost"] == {"EUR": "0.002524"}, "2,064 x 1 + 230 x 2, a million"


def test_a_book_that_is_wrong_is_a_sentence_and_nothing_is_sent(server: Server, tmp_path: Path):
    manifest = write_manifest(tmp_path / "manifest.csv", [ROW])
    book = tmp_path / "mine.toml"
    book.write_text('currency = "EUR"\n[[price]]\nmodels = ["gemini-*"]\ninptu = 1', "utf-8")
    before = len(server.received)
    ran = run_command("run", manifest, "--base-url", server.base_url, "--price-book", book, cwd=tmp_path)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(
        f"error: price book {book}: [[price]] 1: there is no 'inptu' here; there are "
    )
    assert len(server.received) == before
    assert not (tmp_path / "out").exists()


def test_history_is_repriced_without_asking_anything_again(server: Server, tmp_path: Path):
    manifest = write_manifest(tmp_path / "manifest.csv", [ROW])
    assert run_command("run", manifest, "--base-url", server.base_url, cwd=tmp_path).code == 0
    asked = len(server.received)
    told = json.loads(run_command("report", "--json", cwd=tmp_path).stdout)
    assert told["cost_of_all_tries"] == told["cost_of_latest_answers"] == {"USD": "0.00096075"}
    told = json.loads(run_command("report", "--json", "--reprice", EXAMPLE_BOOK, cwd=tmp_path).stdout)
    assert told["cost_of_all_tries"] == told["cost_of_latest_answers"] == {"CNY": "0.00484218"}
    assert len(server.received) == asked


def test_what_the_endpoint_says_it_cost_is_kept_and_compared(tmp_path: Path):
    """By `usage.cost` (OpenRouter) or a header (LiteLLM): 100 in and 10 out at list are 0.00004."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    by_usage = completion("yes", usage={**usage, "cost": 0.00005})
    by_header = completion("yes", usage=usage)
    by_header = replace(by_header, headers={**by_header.headers, "X-LiteLLM-Response-Cost": "3e-05"})

    def play(received: Received) -> Answer:
        return by_usage if b'"first"' in received.body else by_header

    manifest = write_manifest(tmp_path / "manifest.csv", ["first", "second"])
    with Server(play) as server:
        assert run_command("run", manifest, "--base-url", server.base_url, cwd=tmp_path).code == 0
    store = Store(tmp_path / "out")
    assert sorted(store.frame("attempts")["reported_cost"]) == [Decimal("0.00003"), Decimal("0.00005")]
    told = json.loads(run_command("report", "--json", cwd=tmp_path).stdout)["reported_by_endpoint"]
    assert told == {"replies": 2, "reported_cost": "0.00008", "cost": {"USD": "0.00008"}}
    shown = run_command("report", cwd=tmp_path).stdout
    assert (
        "the endpoint itself reports 0.00008 for 2 replies; by the price book they cost USD 0.00008" in shown
    )
