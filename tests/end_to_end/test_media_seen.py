"""A gateway that silently drops media: said in red, with rows and what to type; or the run halts early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.nights import Store, run_command, write_manifest
from tests.serving.answers import Answer, completion
from tests.serving.server import Received, Server

ITEMS = 40


def dropping(modality: str) -> Any:
    """Its usage names what it saw, and never this."""

    def play(received: Received) -> Answer:
        sent = json.loads(received.body)["messages"][0]["content"]
        kinds = {part["type"].removesuffix("_url") for part in sent if part["type"] != "text"} - {modality}
        details: dict[str, int] = {"text_tokens": 10}
        for kind in sorted(kinds):
            details[f"{kind}_tokens"] = 300
        prompt = sum(details.values())
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": 5,
            "total_tokens": prompt + 5,
            "prompt_tokens_details": details,
        }
        return completion("a scene", usage=usage)

    return play


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Every other row has a video."""
    rows = []
    for number in range(ITEMS):
        row = {"id": f"i{number:02}", "prompt": f"look {number}", "video_url": ""}
        row["image_url"] = f"https://media.example/{number}.png"
        if number % 2:
            row["video_url"] = f"https://media.example/{number}.mp4"
        rows.append(row)
    return write_manifest(tmp_path / "m.csv", rows)


def test_the_summary_the_report_and_reprocess_tell_which_items_were_not_seen(manifest: Path):
    here = manifest.parent
    with Server(dropping("video")) as server:
        ran = run_command("run", manifest, "--base-url", server.base_url, cwd=here)
    assert ran.code == 0, ran.stderr
    assert ran.stdout.startswith("not seen video of 20 items: answered, and usage says that the endpoint ")
    assert "ask them elsewhere with mediabatch reprocess --where seen=no" in ran.stdout
    results = Store(here / "out").results
    seen = {
        row["item_id"]: {one["modality"]: one["seen"] for one in row["media"]} for row in results.to_dicts()
    }
    assert seen["i00"] == {"image": "yes"}
    assert seen["i01"] == {"image": "yes", "video": "no"}

    told = json.loads(run_command("report", "--json", cwd=here).stdout)
    assert told["outcomes"]["unseen"] == 20
    assert "not seen media of 20 answered items" in run_command("report", cwd=here).stdout
    chosen = run_command("reprocess", "--where", "seen=no", "--dry-run", "--json", cwd=here)
    assert json.loads(chosen.stdout)["chosen"] == 20


def test_the_run_halts_once_so_large_a_share_was_not_seen(manifest: Path):
    with Server(dropping("video")) as server:
        ran = run_command(
            *("run", manifest, "--base-url", server.base_url, "--concurrency", "2", "--json"),
            *("--stop-if-unseen", "0.25"),
            cwd=manifest.parent,
        )
        assert len(server.received) < ITEMS / 2
    told = json.loads(ran.stdout)
    assert (ran.code, told["state"], told["halts"][0]["error_class"]) == (3, "halted", "MediaUnseen")
    assert "did not see what was sent (video)" in told["halts"][0]["message"]
    assert told["unseen"] == {"video": len(told["unseen_items"])}


@pytest.mark.parametrize("modality", ["none", "audio"])
def test_what_was_seen_or_not_sent_raises_no_alarm(manifest: Path, modality: str):
    with Server(dropping(modality)) as server:
        ran = run_command(
            "run",
            manifest,
            "--base-url",
            server.base_url,
            "--json",
            "--stop-if-unseen",
            "0.01",
            cwd=manifest.parent,
        )
    told = json.loads(ran.stdout)
    assert (ran.code, told["unseen"], told["unseen_items"]) == (0, {}, [])
