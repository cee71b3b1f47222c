"""`probe` against gateways with habits: each is named, and what to write into the config follows."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.nights import run_command
from tests.serving.answers import Answer, completion, gateway_error
from tests.serving.server import Received, Server

TEXT_TOKENS, MEDIUM_TOKENS = 9, 300


class Gateway:
    """Counts what it sees. ``drops``, ``rejects``: modalities; ``strings``: those it takes as such."""

    def __init__(
        self,
        *,
        drops: Collection[str] = (),
        rejects: Collection[str] = (),
        strings: Collection[str] = (),
        has_usage: bool = True,
        obeys_schema: bool = True,
    ) -> None:
        self.drops, self.rejects, self.strings = drops, rejects, strings
        self.has_usage, self.obeys_schema = has_usage, obeys_schema

    def __call__(self, received: Received) -> Answer:
        body = json.loads(received.body)
        tokens = TEXT_TOKENS
        for part in body["messages"][0]["content"]:
            modality = part["type"].removesuffix("_url")
            if modality == "text":
                continue
            if modality in self.rejects:
                return gateway_error(400, "invalid_request", "no such part")
            is_string = isinstance(part[part["type"]], str)
            if modality not in self.drops and is_string == (modality in self.strings):
                tokens += MEDIUM_TOKENS
        usage = {"prompt_tokens": tokens, "completion_tokens": 3, "total_tokens": tokens + 3}
        text = '{"colour": "red"}' if "response_format" in body and self.obeys_schema else "a thing"
        return completion(text, usage=usage if self.has_usage else None)


def probed(gateway: Gateway, here: Path, *words: Any) -> dict[str, Any]:
    with Server(gateway) as server:
        finished = run_command("probe", "--base-url", server.base_url, "--json", *words, cwd=here)
    assert finished.code == 0, finished.stderr
    told: dict[str, Any] = json.loads(finished.stdout)
    told["verdicts"] = {
        (one["modality"], one["sent"], one["dialect"]): one["verdict"] for one in told["trials"]
    }
    return told


def test_a_gateway_that_honours_everything(tmp_path: Path):
    told = probed(Gateway(), tmp_path, "--video-url", "https://media.example/v.mp4")
    assert told["verdicts"] == {
        ("text", None, "newapi"): "honoured",
        ("image", "inline", "newapi"): "honoured",
        ("audio", "inline", "newapi"): "honoured",
        ("video", "inline", "newapi"): "honoured",
        ("video", "url", "newapi"): "honoured",
    }
    assert (told["dialect"], told["json_schema"]) == ("newapi", True)
    assert told["request_id_header"] == "x-oneapi-request-id"
    assert told["config"] == ['dialect = "newapi"']


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_one_that_drops_a_modality_is_named_in_either_spelling(tmp_path: Path, modality: str):
    told = probed(Gateway(drops=[modality]), tmp_path)
    assert told["verdicts"][modality, "inline", "newapi"] == "dropped"
    assert told["verdicts"][modality, "inline", "newapi-strings"] == "dropped"
    assert told["config"] == [
        'dialect = "newapi"',
        f"# {modality}: dropped; send none here",
        "stop-if-unseen = 0.1",
    ]


def test_one_that_takes_strings_only_is_found_out_and_the_dialect_follows(tmp_path: Path):
    told = probed(Gateway(strings=["audio", "video"]), tmp_path)
    assert told["verdicts"]["video", "inline", "newapi"] == "dropped"
    assert told["verdicts"]["video", "inline", "newapi-strings"] == "honoured"
    assert told["dialect"] == "newapi-strings"
    assert told["config"][0] == 'dialect = "newapi-strings"'


def test_what_is_rejected_and_what_usage_does_not_tell(tmp_path: Path):
    told = probed(Gateway(rejects=["audio"], obeys_schema=False), tmp_path)
    assert told["verdicts"]["audio", "inline", "newapi"] == "rejected"
    assert told["json_schema"] is False
    assert "# audio: rejected; send none here" in told["config"]
    told = probed(Gateway(has_usage=False), tmp_path)
    assert told["verdicts"]["image", "inline", "newapi"] == "unknown"


def test_a_person_reads_a_table_and_the_lines_for_the_config(tmp_path: Path):
    with Server(Gateway(drops=["video"])) as server:
        finished = run_command("probe", "--base-url", server.base_url, cwd=tmp_path)
    assert finished.code == 0
    lines = [" ".join(line.split()) for line in finished.stdout.splitlines()]
    assert any(line.startswith("video inline newapi dropped 9 tokens in, as without it") for line in lines)
    assert "# video: dropped; send none here" in lines
    assert "video inline, newapi: dropped" in finished.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--video-url", "v.mp4"], 2, "--video-url 'v.mp4': not an http(s) URL"),
        ([], 3, "Invalid token"),
    ],
)
def test_slips_and_refusals_are_sentences(tmp_path: Path, words: list[str], code: int, sentence: str):
    refusal = gateway_error(401, "", "Invalid token")
    with Server(lambda received: refusal) as server:
        finished = run_command("probe", "--base-url", server.base_url, *words, cwd=tmp_path)
    assert (finished.code, finished.stdout) == (code, "")
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_embedded_endpoint_takes_both_spellings(tmp_path: Path):
    for dialect in ("newapi", "newapi-strings"):
        finished = run_command("probe", "--embedded", "--json", "--dialect", dialect, cwd=tmp_path)
        verdicts = {trial["verdict"] for trial in json.loads(finished.stdout)["trials"]}
        assert verdicts == {"honoured"}, dialect
