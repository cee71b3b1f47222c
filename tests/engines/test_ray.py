"""The Ray engine on a real cluster of several nodes, against a real server."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import polars as pl
import pytest

from pipeline.engines import ENGINES
from pipeline.launch import launch
from pipeline.plan import Plan
from pipeline.run import Summary
from tests.crash.endpoint import CountingEndpoint
from tests.end_to_end.nights import COMMAND, Store, clean_environment, run_command, write_manifest
from tests.engines.clusters import SmallCluster, small_cluster
from tests.engines.test_spreading import (
    SAME,
    SECRETS,
    check_every_reply_is_on_record,
    ids,
    launched,
    planned,
)
from tests.serving.answers import Answer, completion, gateway_error
from tests.serving.server import Received, Server

pytest.importorskip("ray", reason="the extra is not installed: pip install 'mediabatch[ray]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Ray's own
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallCluster]:
    with small_cluster(2) as cluster:
        yield cluster


async def on_the_cluster(plan: Plan) -> Summary:
    return await launch(plan, SECRETS, engine=ENGINES["ray"](None))


def test_outcomes_costs_and_totals_are_those_of_one_machine(cluster: SmallCluster, tmp_path: Path):
    rows = [*ids(300), "i7", {"id": "empty", "prompt": ""}, {"id": "again", "prompt": "i9"}]
    told = []
    for name in ("local", "ray"):
        endpoint = CountingEndpoint(11, latency_s=(0.001, 0.01))
        with Server(endpoint.script) as server:
            plan = planned(tmp_path / name, server.base_url, rows, slots=10)
            summary = launched(plan) if name == "local" else anyio.run(on_the_cluster, plan)
        store = Store(plan.out)
        told.append((summary.state, summary.tally.totals(), store.results.select(SAME), store.rows()))
        check_every_reply_is_on_record(endpoint, store)
    local, spread = told
    assert local[:2] == spread[:2]
    assert local[2].equals(spread[2])
    assert local[3] == spread[3] == list(range(1, 304))


def test_a_node_that_is_killed_takes_nothing_with_it_but_what_was_under_way(
    cluster: SmallCluster, tmp_path: Path
):
    check_kills(cluster, tmp_path, kills=2, items=1_000)


def check_kills(cluster: SmallCluster, folder: Path, *, kills: int, items: int) -> str:
    """Play a night in which so many nodes die, one after the other, each of them replaced; say what it came
    to."""
    endpoint = CountingEndpoint(4, fails=False, latency_s=(0.02, 0.1))
    manifest = write_manifest(folder / "m.csv", ids(items))
    with Server(endpoint.script) as server:
        command = [
            *(*COMMAND, "run", str(manifest), "--base-url", server.base_url, "--out", str(folder / "out")),
            *("--engine", "ray", "--ray-address", cluster.address, "--concurrency", "12", "--no-progress"),
        ]
        with subprocess.Popen(command, env=clean_environment(), stderr=subprocess.PIPE, text=True) as night:
            for kill in range(kills):
                while len(endpoint.asked) < items * (kill + 1) // (kills + 1):
                    assert night.poll() is None, night.communicate()[1]
                    time.sleep(0.05)
                cluster.kill_node()
                cluster.add_node()
            said = night.communicate(timeout=120)[1]
    assert night.returncode == 0, said
    store = Store(folder / "out")
    assert store.rows() == list(range(1, items + 1))
    check_every_reply_is_on_record(endpoint, store)
    assert set(Counter(store.attempts.filter(state="billed")["item_id"].to_list()).values()) == {1}
    lost = store.attempts.filter(error_class="Lost")
    assert set(lost["state"]) <= {"possibly_billed"}
    times = Counter(asked.item_id for asked in endpoint.asked)
    again = {item_id for item_id, asked in times.items() if asked > 1}
    assert again <= set(lost["item_id"])
    assert lost.height <= 12 * kills
    return f"{kills} nodes killed, {items:,} rows: {lost.height} attempts lost, {len(again)} asked again"


def test_the_command_runs_on_a_cluster_and_says_the_same(cluster: SmallCluster, tmp_path: Path):
    manifest = write_manifest(tmp_path / "m.csv", ids(40))
    with Server(lambda received: completion("yes")) as server:
        done = run_command(
            *("run", manifest, "--base-url", server.base_url, "--out", tmp_path / "out", "--json"),
            *("--engine", "ray", "--ray-address", cluster.address),
            env=clean_environment(),
        )
        assert done.code == 0, done.stderr
        assert len(server.received) == 40
    assert done.json["ok"] == 40
    assert Store(tmp_path / "out").results.filter(pl.col("status") == "ok").height == 40


def test_what_failed_is_asked_again_on_a_cluster(cluster: SmallCluster, tmp_path: Path):
    manifest = write_manifest(tmp_path / "m.csv", ids(20))
    mended: list[bool] = []

    def script(received: Received) -> Answer:
        if received.text in ("i3", "i11") and not mended:
            return gateway_error(400, "invalid_argument", "unreadable")
        return completion("yes")

    with Server(script) as server:
        place = ("--base-url", server.base_url, "--out", tmp_path / "out", "--json")
        assert run_command("run", manifest, *place, env=clean_environment()).code == 5
        mended.append(True)
        done = run_command(
            *("reprocess", "--out", tmp_path / "out", "--json"),
            *("--engine", "ray", "--ray-address", cluster.address),
            env=clean_environment(),
        )
        assert done.code == 0, done.stderr
        assert [one.text for one in server.received[20:]] in (["i3", "i11"], ["i11", "i3"])
    assert done.json["ok"] == 2


def test_a_worker_of_another_version_is_a_sentence(cluster: SmallCluster, tmp_path: Path):
    told = tmp_path / "elsewhere" / "mediabatch-9.9.9.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: mediabatch\nVersion: 9.9.9\n", "utf-8")
    manifest = write_manifest(tmp_path / "m.csv", ids(40))
    cluster.add_node(PYTHONPATH=str(told.parent))
    try:
        with Server(lambda received: completion("yes").after(0.5)) as server:
            done = run_command(
                *("run", manifest, "--base-url", server.base_url, "--out", tmp_path / "out"),
                *("--engine", "ray", "--ray-address", cluster.address, "--concurrency", "3"),
                env=clean_environment(),
            )
    finally:
        cluster.kill_node(-1)
    assert done.code == 3, done.stderr
    assert "has mediabatch 9.9.9, this machine " in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert Store(tmp_path / "out").rows() == list(range(1, 41))


def test_a_cluster_that_is_not_there_is_a_sentence(tmp_path: Path):
    manifest = write_manifest(tmp_path / "m.csv", ids(2))
    done = run_command(
        *("run", manifest, "--base-url", "http://127.0.0.1:9/v1", "--out", tmp_path / "out"),
        *("--engine", "ray", "--ray-address", "127.0.0.1:1"),
        env=clean_environment(),
    )
    assert done.code == 2
    assert "no Ray cluster answers there" in done.stderr
    assert "Traceback" not in done.stderr
