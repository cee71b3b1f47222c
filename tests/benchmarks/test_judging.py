"""Ratios, scenarios and the README's table, over figures that are made up."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks import figures, readme
from benchmarks.contenders import LOOP, OURS, Contender, Load
from benchmarks.measuring import Asked, Broken, python_server
from benchmarks.peers.environments import DELUGE, SDK
from benchmarks.rounds import in_turn, ratio
from benchmarks.scale import Seen
from benchmarks.scale import judged as judged_scale
from benchmarks.scenarios import Ended, measure_scenarios
from benchmarks.throughput import judged, summed_up
from benchmarks.verdicts import Verdict


def asked(seconds: float, items: int = 1_000) -> Asked:
    return Asked(items, seconds, seconds / 2, seconds * 2, 100_000_000)


RUNS = {
    LOOP: [asked(1.0), asked(2.0), asked(3.0)],
    OURS: [asked(2.0), asked(5.0), asked(6.0)],
    DELUGE: [asked(4.0), asked(5.0), asked(18.0)],
    SDK: [asked(2.0, 100), asked(5.0, 100), asked(12.0, 100)],
}


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    """1/2, 2/5, 3/6 of the loop's rate: the median is 0.5."""
    assert ratio(RUNS, OURS, LOOP, lambda one: one.rate) == 0.5


def test_a_peer_that_did_fewer_items_is_compared_by_its_rate():
    """1,000 items in 2 s beside 100 in 2 s: ten times as fast."""
    assert ratio(RUNS, OURS, SDK, lambda one: one.rate) == 10.0


def test_only_peers_that_were_measured_are_judged():
    both = {name: RUNS[name] for name in (LOOP, OURS)}
    assert [one.name for one in judged(both)] == [f"items a second / {LOOP}", f"CPU an item / {LOOP}"]
    assert len(judged(RUNS)) == 4


def test_a_contender_that_did_not_ask_for_every_item_breaks_the_bench(tmp_path):
    idle = Contender(lambda load: asked(1.0))
    with python_server() as base_url, pytest.raises(Broken, match="answered 0 requests for 1000 items"):
        in_turn({"idle": idle}, Load(1_000, 1, base_url, tmp_path, tmp_path), 1, str)


def test_a_great_manifest_is_judged_beside_the_small_one():
    small = Seen(10_000, 200_000_000, 2_000.0, 2_000.0, 2_000.0)
    great = Seen(1_000_000, 240_000_000, 2_000.0, 2_000.0, 1_800.0)
    assert [(one.value, one.is_met) for one in judged_scale([small, great])] == [
        (1.2, True),
        (240_000_000, True),
        (0.9, False),
    ]


def test_a_broken_scenario_is_told_after_the_others(capsys):
    def measure(name: str) -> Ended:
        if name == "first":
            raise Broken("an item was lost")
        return Ended(["all ok"], [Verdict("share", 0.5, "at least", 0.9)], {"items": 7})

    with pytest.raises(Broken, match="first: an item was lost"):
        measure_scenarios(["first", "second"], measure)
    assert capsys.readouterr().out.splitlines() == [
        "  first",
        "    broken: an item was lost",
        "  second",
        "    all ok",
        "    share: 0.500 (target ≥ 0.900: missed)",
    ]


def test_the_readmes_table_puts_figures_beside_targets(tmp_path):
    settings = {"items": 1_000, "concurrency": 16, "rounds": 3}
    throughput = {
        "summary": summed_up(RUNS),
        "verdicts": [one.kept() for one in judged(RUNS)],
        "ceilings": [{"server": "Python", "rate": 9_000.0, "depth": 1}],
    }
    figures.keep(figures.Figures("throughput", settings, throughput), tmp_path)
    told = {"verdicts": [Verdict("429s", 0.02, "at most", 0.01, "%").kept()]}
    limits = {"cases": {"rpm-told": told}}
    figures.keep(figures.Figures("limits", {}, limits), tmp_path)
    table = readme.table(partial(figures.newest, folder=tmp_path)).splitlines()
    assert any(line.startswith(f"| {SDK} (100) |") and "**10.00**" in line for line in table)
    assert f"| no latency | items a second / {LOOP} | 0.500 | ≥ 0.400 | met |" in table
    words = "6,000 requests a minute, told with `--rpm`"
    assert f"| {words} | 429s | 2.00% | ≤ 1.00% | **missed** |" in table


def test_figures_from_before_there_were_verdicts_are_left_out(tmp_path):
    figures.keep(figures.Figures("startup", {}, {"help_s": 0.1, "python_s": 0.01}), tmp_path)
    assert readme.table(partial(figures.newest, folder=tmp_path)).startswith("No figures yet")
