"""Stores to be looked at: ordinary nights, and one in which every text from outside tries to break out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from jobs.__main__ import cli
from pipeline.errors import BadInput, ConnectionLost, Overloaded
from pipeline.records import Media
from tests.made import NOW, Course, attempt, count, item, outcome, reply, write

BREAKOUTS = (
    "<script>window.broken = 1</script>",
    "</script><script>window.broken = 2</script>",
    "</style><style>body { display: none }</style>",
    "\"><img src=x onerror='window.broken = 3'>",
    "' onmouseover='window.broken = 4' x='",
    "javascript:window.broken = 5",
    "{{ 7 * 7 }}{% raw %}",
    "<!--<svg onload=window.broken=6>",
    "]]><svg/onload=window.broken=7>",
    "&lt;b&gt; & \u202eabc\u202c \x1b[31m `$(touch broken)` 'quoted' \"twice\" \\",
)
PRODUCT = '{"title": "A <b>lamp</b>", "price": 12.5, "tags": ["red", "small"], "maker": {"name": "Lux"}}'


def report(out: Path, *words: str | Path) -> str:
    """stdout of `mediabatch report`."""
    result = CliRunner().invoke(cli, ["report", "--out", str(out), *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def page_of(out: Path, *words: str | Path, option: str = "--html") -> Path:
    file = out.parent / f"{out.name}{option}.html"
    report(out, *words, option, file)
    return file


def nights(out: Path, nights: int, items: int, **facts: Any) -> Path:
    """Every seventh item is refused or breaks off, every tenth has something that was not seen."""
    for night in range(nights):
        at = NOW + timedelta(days=night)
        told = [_ended(night, row, at) for row in range(1, items + 1)]
        write(out, *told, run_id=f"night-{night:02d}", started_at=at, facts={**_facts(night), **facts})
    return out


def _ended(night: int, row: int, at: Any) -> Course:
    asked = item(
        f"n{night}-{row:03d}",
        row,
        Media("image", f"https://media.example/{night}/{row}.jpg"),
        model=("a-model", "b-model-with-quite-a-long-name-preview")[row % 2],
    )
    at += timedelta(seconds=2 * row)
    if row % 7 == 0:
        error = (BadInput("refused", http_status=400), ConnectionLost("it broke off"))[row % 2]
        return outcome(asked, _of(asked, attempt(error=error, at=at)))
    if row % 7 == 1:
        busy = attempt(1, error=Overloaded("busy", http_status=503), at=at)
        return outcome(asked, _of(asked, busy), _of(asked, attempt(2, at=at + timedelta(seconds=9))))
    counts = [count("text", "input", 9), count("audio", "input", 64 * row), count("text", "output", 20 + row)]
    answer = reply((PRODUCT, "a cat", "一只猫")[row % 3], counts)
    return outcome(asked, _of(asked, attempt(1, answer, at=at)), seen=["no" if row % 10 == 0 else "yes"])


def _of(asked: Any, tried: Any) -> Any:
    return replace(tried, model=asked.request.model)


def _facts(night: int) -> dict[str, Any]:
    return {
        "state": "done",
        "finished_at": NOW + timedelta(days=night, minutes=3),
        "totals": {"ok": 17, "failed": 3, "skipped": 0, "not_attempted": 0, "cost": {"USD": "0.0123"}},
        "estimate": {"cost": {"USD": {"low": "0.010000", "likely": "0.012000", "high": "0.014000"}}},
        "pace": {"limited_s": {"slots": 80.5, "rpm": 20.0, "outage": 0.0}, "throttled": 3},
    }


def hostile(out: Path, texts: Sequence[str] = BREAKOUTS) -> Path:
    """Each text as id, model, prompt, address of a medium, answer, field of an answer, and error."""
    told = []
    for number, text in enumerate(texts):
        addresses = {"image": text, "audio": f"https://h.example/{text}", "video": f"x://{text}"}
        media = [Media(modality, address, key=text) for modality, address in addresses.items()]
        asked = item(f"{number} {text}", number + 1, *media, prompt=text, model=text)
        if number % 3 == 0:
            tried = attempt(error=BadInput(text, http_status=400))
        elif number % 3 == 1:
            tried = attempt(1, reply(text))
        else:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\x1b", "\\u001b")
            tried = attempt(1, reply(f'{{"{escaped}": "{escaped}"}}'))
        told.append(outcome(asked, _of(asked, tried), seen=["no", "yes", "unknown"]))
    facts = {
        "state": "halted",
        "halts": [{"endpoint": texts[0], "model": texts[1], "error_class": "X", "message": texts[3]}],
        "pace": {"limited_s": {texts[0]: 1.0}},
    }
    write(out, *told, facts=facts)
    return out
