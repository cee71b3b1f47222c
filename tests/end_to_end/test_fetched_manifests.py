"""A night over a manifest at a web address: its signature is nobody's to keep."""

from __future__ import annotations

import json
from pathlib import Path

from tests.end_to_end.conftest import Serve
from tests.end_to_end.nights import Store, run_command
from tests.serving.answers import Answer, completion, empty, gateway_error
from tests.serving.server import Play, Received

ROWS = b"id,prompt\none,a\ntwo,b\nthree,c\n"
SIGNATURE = "c0ffee5ec2e7"


def signed(url: str) -> str:
    return f"{url}?X-Amz-Signature={SIGNATURE}&X-Amz-Date=20260305"


def only_signed(received: Received) -> Play:
    return Answer(200, ROWS) if SIGNATURE in received.target else empty(403)


def test_a_signed_address_is_read_and_kept_without_its_signature(serve: Serve, tmp_path: Path):
    endpoint, files = serve(lambda received: completion()), serve(only_signed)
    url = f"http://{files.address}/nights/m.csv"
    where = ["--base-url", endpoint.base_url, "--out", tmp_path / "out", "--no-progress"]
    stopped = run_command("run", signed(url), *where, "--run-id", "night", "--limit", "0")
    assert stopped.code == 0, stopped.stderr
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SIGNATURE.encode() not in everything
    assert SIGNATURE not in stopped.stdout + stopped.stderr
    run = json.loads((tmp_path / "out" / "runs" / "night" / "run.json").read_text())
    assert run["plan"]["manifest"] == url

    refused = run_command("run", url, *where)
    assert refused.code == 2
    assert refused.stderr.startswith(f"error: {url}: access is refused (403); if it was signed")


def test_a_run_goes_on_with_what_it_fetches_again_and_refuses_what_has_changed(serve: Serve, tmp_path: Path):
    answers: list[Play] = [gateway_error(401, "")]
    content = [ROWS]
    endpoint = serve(lambda received: answers[0])
    files = serve(lambda received: Answer(200, content[0]))
    url = f"http://{files.address}/m.csv"
    out = ["--out", tmp_path / "out", "--no-progress"]
    halted = run_command("run", url, "--base-url", endpoint.base_url, "--run-id", "night", *out)
    assert halted.code == 3, halted.stderr
    answers[0] = completion()
    content[0] = ROWS + b"four,d\n"
    changed = run_command("resume", *out)
    assert changed.code == 2
    assert f"the manifest {url} has changed since" in changed.stderr
    content[0] = ROWS
    assert run_command("resume", *out).code == 0
    assert Store(tmp_path / "out").ids("ok") == ["one", "two", "three"]
    exported = run_command("export", tmp_path / "answers.csv", "--out", tmp_path / "out")
    assert "3 rows, 3 of them answered ok" in exported.stderr


def test_an_openai_batch_file_is_run_as_it_is(serve: Serve, tmp_path: Path):
    endpoint = serve(lambda received: completion())
    lines = [
        {
            "custom_id": f"c-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "gpt-4.1-mini",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": f"q{n}"},
                            {"type": "image_url", "image_url": {"url": f"https://h.example/{n}.png"}},
                        ],
                    },
                ],
                "temperature": 0.5,
                **({"tools": [{}]} if n == 3 else {}),
            },
        }
        for n in (1, 2, 3)
    ]
    (tmp_path / "batch.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = ["--out", tmp_path / "out"]
    done = run_command(
        "run", tmp_path / "batch.jsonl", "--base-url", endpoint.base_url, *out, "--concurrency", "1"
    )
    assert done.code == 5
    assert Store(tmp_path / "out").ids("ok") == ["c-1", "c-2"]
    assert "cannot be asked here" in Store(tmp_path / "out").result("c-3")["error_message"]
    body = endpoint.received[0].json
    assert (body["model"], body["temperature"]) == ("gpt-4.1-mini", 0.5)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in body["messages"][1]["content"]] == ["text", "image_url"]
    exported = run_command("export", tmp_path / "answers.csv", *out)
    assert "3 rows, 2 of them answered ok" in exported.stderr
    shown = run_command("show", "c-1", *out)
    assert "Be brief." in shown.stdout  # in the line that asks it again
    again = run_command("reprocess", "--where", "id=c-1", "--where", "status=ok", *out, "--no-progress")
    assert again.code == 0, again.stderr
    assert endpoint.received[-1].json == body
