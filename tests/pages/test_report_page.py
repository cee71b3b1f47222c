"""`report --html` in Chromium: it opens offline, says what the report says, and everybody can read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.pages.browsing import visit
from tests.pages.stores import BREAKOUTS, hostile, nights, page_of, report

WIDTHS = (360, 800, 1600)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return nights(tmp_path_factory.mktemp("fortnight") / "out", 14, 20)


@pytest.fixture(scope="module")
def page(store: Path) -> Path:
    return page_of(store)


def column(table, name: str) -> list[str]:
    heads = table.locator("thead th").all_inner_texts()
    (place,) = [number for number, head in enumerate(heads, 1) if head.strip(" ↕↑↓") == name]
    return [
        text.strip() for text in table.locator(f"tbody tr:visible td:nth-child({place})").all_inner_texts()
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_read_by_everybody_on_every_screen_and_asks_nobody(browser: Browser, page: Path, width, theme):
    with visit(browser, page, width, color_scheme=theme) as seen:
        assert seen.said == []
        assert [address for address in seen.asked if not address.startswith("data:")] == []
        assert seen.overflow_px == 0
        assert seen.faults() == []


def test_it_says_what_the_report_says(browser: Browser, store: Path, page: Path):
    told = json.loads(report(store, "--json"))
    outcomes = told["outcomes"]
    with visit(browser, page) as seen:
        verdict = seen.page.locator(".verdict").inner_text()
        assert (outcomes["items"], outcomes["ok"], outcomes["failed"]) == (280, 252, 28)
        assert verdict == "252 answered, 90.0% of 280 items; 28 failed."
        table = seen.page.locator("[data-table='Tokens and cost by modality']")
        assert column(table, "tokens") == [f"{line['tokens']:,}" for line in told["by_modality"]]
        total = table.locator("tfoot td").all_inner_texts()
        assert f"{told['tokens']:,}" in total
        assert total[-1].rstrip("0") == told["cost_of_all_tries"]["USD"].rstrip("0")
        failures = seen.page.locator("[data-table='What failed']")
        assert column(failures, "error class") == [one["error_class"] for one in outcomes["failures"]]
        dearest = seen.page.locator("[data-table='Dearest items']")
        costs = [cost.rstrip("0") for cost in column(dearest, "cost")]
        assert costs[:5] == [one["cost"].rstrip("0") for one in told["dearest"]]


def test_pictures_have_titles_and_words(browser: Browser, page: Path):
    with visit(browser, page) as seen:
        titles = seen.page.locator("svg.chart:visible title").evaluate_all(
            "all => all.map(one => one.textContent)"
        )
        assert titles == [
            "Cost by day and modality, USD",
            "Outcomes by day",
            "Throughput over the run",
            "Latency over the run",
            "Cost of an answer by model, USD",
            "Estimate against actual cost, USD",
        ]
        assert all(seen.page.locator("svg.chart desc").all_text_contents())


def test_colours_follow_the_theme(browser: Browser, page: Path):
    fills = []
    for theme in ("light", "dark"):
        with visit(browser, page, color_scheme=theme) as seen:
            bar = seen.page.locator("svg.chart path[fill='var(--c-output)']").first
            fills.append(bar.evaluate("one => getComputedStyle(one).fill"))
    assert fills == ["rgb(39, 69, 126)", "rgb(157, 185, 240)"]


def test_a_table_sorts_by_number_and_by_text(browser: Browser, page: Path):
    with visit(browser, page) as seen:
        table = seen.page.locator("[data-table='Dearest items']")
        head = table.locator("th", has_text="tokens")
        head.get_by_role("button").click()
        tokens = [int(text.replace(",", "")) for text in column(table, "tokens") if text != "—"]
        assert tokens == sorted(tokens, reverse=True)
        assert head.get_attribute("aria-sort") == "descending"
        head.get_by_role("button").click()
        tokens = [int(text.replace(",", "")) for text in column(table, "tokens") if text != "—"]
        assert tokens == sorted(tokens)
        table.locator("th", has_text="item").get_by_role("button").click()
        names = column(table, "item")
        assert names == sorted(names, key=lambda name: [int(part) for part in name[1:].split("-")])
        assert head.get_attribute("aria-sort") is None


def test_a_table_filters_by_words(browser: Browser, page: Path):
    with visit(browser, page) as seen:
        table = seen.page.locator("[data-table='By day and model']")
        table.get_by_role("searchbox").fill("A-MODEL 03-07")
        assert column(table, "day") == ["2026-03-07"]
        assert column(table, "model") == ["a-model"]
        assert table.locator(".count").inner_text() == "1 of 28 rows"


def test_a_table_is_copied_as_it_stands_with_plain_numbers(browser: Browser, store: Path, page: Path):
    told = json.loads(report(store, "--json"))
    with visit(browser, page) as seen:
        table = seen.page.locator("[data-table='Tokens and cost by modality']")
        button = table.get_by_role("button", name="Copy")
        button.click()
        seen.page.get_by_text("Copied to the clipboard").wait_for(state="attached")
        lines = [line.split("\t") for line in seen.clipboard.splitlines()]
    assert lines[0] == ["direction", "modality", "tokens", "cost, USD"]
    expected = [
        [one["direction"], one["modality"], str(one["tokens"]), one["cost"]["USD"]]
        for one in told["by_modality"]
    ]
    assert lines[1:] == expected


def test_a_command_is_copied_whole(browser: Browser, store: Path, page: Path):
    with visit(browser, page) as seen:
        alarm = seen.page.locator(".alarms li.bad")
        alarm.get_by_role("button", name="Copy").click()
        seen.page.get_by_text("Copied to the clipboard").wait_for(state="attached")
        assert seen.clipboard == f"mediabatch reprocess --where seen=no --dry-run --out {store}"


def test_it_reads_without_scripts(browser: Browser, page: Path):
    with visit(browser, page, java_script_enabled=False) as seen:
        assert seen.page.locator("h2", has_text="All runs").is_visible()
        assert seen.page.locator("[data-table='Runs'] tbody tr").count() == 14


def test_it_prints_without_its_tools(browser: Browser, page: Path):
    with visit(browser, page, color_scheme="dark") as seen:
        seen.page.emulate_media(media="print")
        assert not seen.page.locator(".tools").first.is_visible()
        background = seen.page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor")
        assert background == "rgb(255, 255, 255)"
        scroll = seen.page.locator("[data-table='By day and model'] .scroll")
        assert scroll.evaluate("one => getComputedStyle(one).maxHeight") == "none"
        assert seen.page.pdf().startswith(b"%PDF")


def test_what_comes_from_outside_stays_text(browser: Browser, tmp_path: Path):
    file = page_of(hostile(tmp_path / "out"))
    with visit(browser, file) as seen:
        seen.page.wait_for_timeout(200)
        assert seen.said == []
        assert seen.page.evaluate("window.broken") is None
        assert seen.page.locator("script").count() == 1
        assert seen.page.locator("style").count() == 1
        assert seen.page.locator("img, iframe, object, embed, a").count() == 0
        handlers = "all => all.filter(one => [...one.attributes].some(a => a.name.startsWith('on'))).length"
        assert seen.page.locator("*").evaluate_all(handlers) == 0
        body = seen.page.locator("body").text_content()
        assert body
        for text in BREAKOUTS:
            assert " ".join(text.split()) in " ".join(body.split())


@pytest.mark.parametrize("count", [1, 90])
def test_it_reads_well_with_one_run_and_with_ninety_nights(browser: Browser, tmp_path: Path, count: int):
    file = page_of(nights(tmp_path / "out", count, 3))
    for width in (360, 1600):
        with visit(browser, file, width) as seen:
            assert seen.said == []
            assert seen.overflow_px == 0
            assert seen.faults() == []
            labels = seen.page.locator("svg.chart:visible").first.locator("text").all_text_contents()
            days = [label for label in labels if label.endswith(("Mar", "Apr", "May", "Jun"))]
            assert 1 <= len(days) <= 13
            assert len(days) == len(set(days))
