"""Five nights of the fortnight: calm, bad, dearer, out of budget, and resumed; its report agrees with what
was served. ``python -m tests.fortnight`` plays all fourteen."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import anyio
import polars as pl
import pytest

from jobs.wording import money
from pipeline.pruning import prune
from pipeline.report import Scope, by, outcomes_in
from pipeline.store.reader import latest_outcomes, run_facts, scan
from tests.end_to_end.nights import invoke
from tests.fortnight.checking import check, expected_cost
from tests.fortnight.nights import DEARER, Fortnight, play


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Fortnight:
    folder = tmp_path_factory.mktemp("fortnight")
    return anyio.run(lambda: play(folder, nights=(1, 6, 9, 11, 12), rows=20, more=25))


def states(played: Fortnight) -> dict[int, list[str]]:
    return {day.day: [one.state for one in summaries] for day, summaries in played.summaries.items()}


def test_the_reports_totals_are_what_the_gateway_served(played):
    assert check(played) == []


def test_each_night_is_what_the_calendar_says(played):
    assert states(played) == {
        1: ["done"],
        6: ["done", "done"],  # with what failed asked again in the morning
        9: ["done"],
        11: ["budget"],
        12: ["done", "done"],  # the one before resumed
    }
    bad, morning = played.summaries[date(2026, 3, 6)]
    assert bad.tally.failed > 1
    assert morning.tally.ok > 0
    assert played.gateway.counts[date(2026, 3, 6)].statuses[503] > 10


def test_prices_rise_on_their_day(played):
    scope = Scope(played.out, job="default")
    prices = scan(played.out, "costs").filter(pl.col("modality") == "image").collect()
    dear = prices["at"].dt.date() >= DEARER
    assert set(prices.filter(dear)["price_per_mtok"].to_list()) == {Decimal("0.30")}
    assert set(prices.filter(~dear)["price_per_mtok"].to_list()) == {Decimal("0.25")}
    (line,) = by(scope, ())
    assert line.cost == {"USD": expected_cost(played)}


def test_the_bad_night_tells_what_limited_it(played):
    day = date(2026, 3, 6)
    paces = [run_facts(played.out, one.run_id)["pace"] for one in played.summaries[day]]
    assert paces[0]["limited_s"]["outage"] > 1.0
    assert sum(pace["throttled"] for pace in paces) == played.gateway.counts[day].statuses[429]


def test_pruning_forgets_no_answer_and_no_cost(played):
    """What began before the 10th is old: what failed in the bad night, and was answered since, goes."""
    out = played.out
    scope = Scope(out, job="default")
    before = (outcomes_in(scope), by(scope, ("day", "model")), _latest(out))
    cutoff = datetime(2026, 3, 10, tzinfo=UTC)
    foretold = prune(out, "default", cutoff, is_dry=True)
    assert (outcomes_in(scope), by(scope, ("day", "model")), _latest(out)) == before
    pruned = prune(out, "default", cutoff)
    assert (foretold.results, foretold.attempts, foretold.rest) == (
        pruned.results,
        pruned.attempts,
        pruned.rest,
    )
    assert pruned.runs == 4
    assert pruned.results > 0
    assert pruned.freed_bytes > 0
    after = (outcomes_in(scope), by(scope, ("day", "model")), _latest(out))
    assert after[0] == before[0]
    assert [(line.keys, line.tokens, line.cost) for line in after[1]] == [
        (line.keys, line.tokens, line.cost) for line in before[1]
    ]
    assert after[2] == before[2]
    again = prune(out, "default", cutoff)
    assert (again.results, again.attempts, again.rest, again.freed_bytes) == (0, 0, 0, 0)


def _latest(out) -> list[tuple[object, ...]]:
    latest = latest_outcomes(scan(out, "results")).select("item_id", "run_id", "status", "text")
    return latest.collect().sort("item_id").rows()


def test_its_page_says_what_was_served(played, tmp_path):
    file = tmp_path / "report.html"
    invoke("report", "--out", played.out, "--html", file)
    page = file.read_text("utf-8")
    outcomes = outcomes_in(Scope(played.out, job="default"))
    assert f"{outcomes.ok:,} answered" in page
    assert f"exactly {money({'USD': expected_cost(played)})}" in page
    served = sum(counts.tokens for counts in played.gateway.counts.values())
    assert f"{served:,}" in page


def test_the_shipped_example_is_dressed_as_pages_are_today():
    """`python -m docs.make_pages` makes it anew."""
    root = Path(__file__).parents[2]
    example = (root / "docs" / "fortnight.html").read_text("utf-8")
    for name in ("page.css", "page.js"):
        assert (root / "jobs" / "pages" / "templates" / name).read_text("utf-8") in example
