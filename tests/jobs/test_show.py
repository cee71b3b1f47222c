"""`show`: one item over all runs, and a line that asks it again."""

from __future__ import annotations

import json
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs.__main__ import cli
from pipeline.dialects import DIALECTS
from pipeline.errors import BadInput, Overloaded, RowError
from pipeline.records import BadRow, Item, Media
from tests.made import ENDPOINT, NOW, attempt, item, not_attempted, outcome, reply, write

PICTURE = 'https://h.example/it\'s a "picture".jpg?w=8&h=6'


def show(out: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["show", *words, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def as_json(out: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(show(out, *words, "--json").stdout)
    return found


def test_an_item_is_shown_with_request_attempts_bill_and_answer(tmp_path: Path):
    asked = item("猫", 7, Media("image", PICTURE), prompt="这是什么？ [bold]:cat:")
    overloaded = Overloaded("no", http_status=503)
    overloaded.said = '{"error": {"message": "no"}}'
    broken = attempt(1, error=overloaded)
    write(tmp_path, outcome(asked, broken, attempt(2, reply("一只猫 " * 60), at=NOW + timedelta(seconds=9))))
    text = show(tmp_path, "猫").stdout
    assert "\x1b" not in text
    assert "run r1, row 7: ok, stop  2026-03-05 22:00:10 UTC" in text
    assert f"asked a-model (max_tokens 9) at {ENDPOINT}" in text
    assert "  prompt  这是什么？ [bold]:cat:\n" in text
    assert f"  image   {PICTURE}  (seen: yes)" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "1 22:00:00 1.50 s 503 possibly billed Overloaded r-1" in lines
    assert "2 22:00:09 1.50 s 200 billed r-2" in lines
    assert "2 input text fresh 9 0.25 USD 0.00000225 reported" in lines
    assert "2 output text fresh 230 1.50 USD 0.000345 reported" in lines
    assert ("一只猫 " * 60).strip() in text, "an answer keeps its lines"
    assert 'reply to attempt 1: {"error": {"message": "no"}}\n' in text
    told = '{"id":"c-1","model":"a-model-0305","finish_reason":"stop","usage":{"prompt_tokens":9}}'
    assert f"reply {told}\n" in text


def test_the_newest_of_several_runs_comes_first(tmp_path: Path):
    failed = attempt(error=BadInput("the endpoint refuses this request", http_status=400))
    write(tmp_path, outcome(item("one"), failed), run_id="r1")
    later = attempt(at=NOW + timedelta(days=1))
    write(tmp_path, outcome(item("one"), later), run_id="r2", started_at=NOW + timedelta(days=1))
    text = show(tmp_path, "one").stdout
    assert text.index("run r2, row 1: ok") < text.index("run r1, row 1: failed")
    assert "BadInput: the endpoint refuses this request" in text
    assert [one["run_id"] for one in as_json(tmp_path, "one")["outcomes"]] == ["r1", "r2"]


def test_an_item_that_only_rests_is_found_with_what_was_tried(tmp_path: Path):
    write(tmp_path, not_attempted("one", 3, attempt(1, error=Overloaded("no", http_status=503))))
    text = show(tmp_path, "one").stdout
    assert "run r1: not attempted (row 3)" in text
    assert "possibly billed" in text
    found = as_json(tmp_path, "one")
    assert (found["outcomes"], len(found["attempts"]), len(found["rest"])) == ([], 1, 1)


def test_a_bad_row_is_shown_with_its_sentence(tmp_path: Path):
    write(tmp_path, BadRow("row-3", 3, RowError(3, "holds neither media nor a prompt")))
    text = show(tmp_path, "row-3").stdout
    assert "RowError: row 3: holds neither media nor a prompt" in text
    assert "curl" not in text
    (found,) = as_json(tmp_path, "row-3")["outcomes"]
    assert (found["request"], found["curl"], found["attempts"]) == (None, None, 0)


def test_an_id_that_is_not_there_gets_suggestions(tmp_path: Path):
    write(tmp_path, *(outcome(item(name)) for name in ("sunset-1", "sunset-2", "chart")))
    told = show(tmp_path, "sunset", code=2).stderr
    assert told == (
        f"error: --out {tmp_path}: job 'default' has no item 'sunset'; did you mean sunset-1, sunset-2?\n"
    )
    assert "did you mean" not in show(tmp_path, "moon", code=2).stderr


def test_items_of_another_job_are_not_found(tmp_path: Path):
    write(tmp_path, outcome(item("one")), job="captions")
    show(tmp_path, "one", code=2)
    assert "run r1" in show(tmp_path, "one", "--job", "captions").stdout


def test_without_a_store_a_sentence_says_so(tmp_path: Path):
    told = show(tmp_path / "nowhere", "one", code=2).stderr
    assert "there is no store here; `mediabatch run` makes one" in told


def test_json_tells_money_exactly_and_instants_in_utc(tmp_path: Path):
    """9 x $0.25/M = $0.00000225, and never 2.25E-6."""
    write(tmp_path, outcome())
    found = as_json(tmp_path, "one")
    assert [cost["cost"] for cost in found["costs"]] == ["0.000002250000", "0.000345000000"]
    assert found["costs"][0]["price_per_mtok"] == "0.250000"
    assert found["outcomes"][0]["finished_at"] == "2026-03-05T22:00:01.500000Z"
    assert found["outcomes"][0]["request"]["prompt"] == "What is it?"


def curl(out: Path, asked: Item, endpoint: str = ENDPOINT) -> list[str]:
    write(out, outcome(asked, attempt(endpoint=endpoint)), endpoint=endpoint)
    (found,) = as_json(out, asked.id)["outcomes"]
    assert f"again {found['curl']}\n" in show(out, asked.id).stdout
    return shlex.split(found["curl"])


@pytest.mark.parametrize("prompt", ["What is it?", 'it\'s "$HOME" `id` \\ ! ; | &\n换行', "@file"])
def test_the_curl_line_is_valid_shell_and_asks_what_was_asked(tmp_path: Path, prompt: str):
    asked = item("one", 1, Media("image", PICTURE), Media("audio", "https://h.example/b.wav"), prompt=prompt)
    words = curl(tmp_path, asked)
    assert words[:2] == ["curl", f"{ENDPOINT}/chat/completions"]
    assert "Authorization: Bearer $MEDIABATCH_API_KEY" in words
    assert "Content-Type: application/json" in words
    assert words[-2] == "--data-raw", "with --data, a prompt that begins with @ would name a file"
    urls = [media.url for media in asked.request.media]
    assert words[-1].encode() == DIALECTS["newapi"].render(asked.request, urls)


def test_a_rehearsals_curl_line_asks_a_server_of_ones_own(tmp_path: Path):
    assert curl(tmp_path, item(), "embedded")[1] == "http://127.0.0.1:8000/v1/chat/completions"


def test_what_the_store_does_not_keep_is_named_in_the_curl_line(tmp_path: Path):
    body = json.loads(curl(tmp_path, item("one", 1, Media("image", "/photos/a.png", "a-key")))[-1])
    assert body["messages"][0]["content"][1]["image_url"]["url"] == "</photos/a.png as a data: URL>"
