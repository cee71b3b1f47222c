"""``python -m docs.make_pictures``: docs/pictures/live-*.svg, of a real run in a real terminal.

The endpoint is a real server on loopback with moods of its own; what is drawn is what the terminal shows
half-way.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from random import Random

from tests.end_to_end.nights import COMMAND, clean_environment, write_manifest
from tests.serving.answers import gateway_error, json_answer
from tests.serving.server import Play, Received, Server
from tests.terminals import Terminal

PICTURES = Path(__file__).parent / "pictures"
ROWS = 4_000


def play(received: Received) -> Play:
    """Mostly an answer, about a picture and its sound."""
    luck = Random(f"{received.text} {received.nth}")
    fate = luck.random()
    after_s = luck.uniform(0.2, 0.5)
    if fate < 0.002:
        return gateway_error(429, "rate_limit_exceeded").with_headers(retry_after="1")
    if fate < 0.012:
        return gateway_error(503, "overloaded").after(after_s)
    if fate < 0.016:
        return gateway_error(400, "INVALID_ARGUMENT").after(after_s)
    image, audio, output = 1120, luck.randint(0, 9) * 32, luck.randint(60, 300)
    usage = {
        "prompt_tokens": image + audio + 12,
        "completion_tokens": output,
        "total_tokens": image + audio + 12 + output,
        "prompt_tokens_details": {"text_tokens": 12, "audio_tokens": audio, "image_tokens": image},
    }
    message = {"role": "assistant", "content": "A street at night."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json_answer(200, {"id": "c", "model": "m", "choices": [choice], "usage": usage}).after(after_s)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    rows = [
        {
            "id": f"clip-{number}",
            "image_url": f"https://cdn.example.com/{number}.jpg",
            "audio_url": f"https://cdn.example.com/{number}.mp3",
            "prompt": f"What is it? {number}",
        }
        for number in range(ROWS)
    ]
    for columns in (140, 80):
        with tempfile.TemporaryDirectory() as folder, Server(play) as server:
            manifest = write_manifest(Path(folder) / "manifest.csv", rows)
            command = [*COMMAND, "run", str(manifest), "--base-url", server.base_url, "--budget", "5.00"]
            environment = clean_environment(PYTHONPATH=os.getcwd())
            with Terminal(command, columns=columns, cwd=Path(folder), env=environment) as terminal:
                terminal.until(lambda shown: len(shown) >= 5 and _done(shown) > 0.4 * ROWS, 120)
                told = terminal.svg("mediabatch run manifest.csv --config nightly.toml", len(terminal.shown))
                print("\n".join(terminal.shown), file=sys.stderr)
        (PICTURES / f"live-{columns}.svg").write_text(told, "utf-8")


def _done(shown: list[str]) -> int:
    return int(shown[0].partition(" of ")[0].replace(",", "")) if " of " in shown[0] else 0


if __name__ == "__main__":
    main()
