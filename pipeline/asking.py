"""What an endpoint honours: one tiny question a modality, and what its answers show.

Owns the questions, which media they bring (made ones, shipped with the package), and the verdicts; refuses to
record anything: these answers are no outcomes. `mediabatch probe` asks, and shows.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from time import monotonic
from typing import Any, Final, Literal

import orjson

from pipeline.dialects import DIALECTS, Dialect, media_seen
from pipeline.errors import AttemptError, HaltingError, TransientError
from pipeline.media.kinds import mime_of_path
from pipeline.records import Media, MediaModality, Reply, Request
from pipeline.transport import Answer, Transport

Verdict = Literal["honoured", "dropped", "rejected", "failed", "unknown"]
"""``dropped``: answered, and usage shows that it was not seen; ``rejected``: refused as bad input;
``failed``: no answer at all; ``unknown``: answered, and usage does not tell."""

MADE: Final[Mapping[MediaModality, str]] = {
    "image": "thumbnail.jpg",
    "audio": "scale-stereo.mp3",
    "video": "bouncing-ball.mp4",
}
STRINGS: Final = "-strings"
"""The ending of a dialect that spells the same with media as plain strings."""
SMALLEST_MEDIUM_TOKENS: Final = 16
"""A medium that was read adds at least so many tokens to the prompt of the same words."""
_SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {
        "name": "probe",
        "schema": {
            "type": "object",
            "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
            "required": ["colour"],
        },
    },
}
_QUESTION: Final = "Say in one word what this is."


@dataclass(frozen=True, slots=True)
class Trial:
    """One question and what came of it. ``modality`` ``text`` brings no media; tokens are None where usage
    does not tell."""

    modality: str
    by: Literal["", "inline", "url"]
    dialect: str
    verdict: Verdict
    why: str
    took_s: float
    prompt_tokens: int | None = None
    reply: Reply | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Findings:
    """All trials, and what follows from them. ``dialect``: the spelling that is honoured most."""

    trials: tuple[Trial, ...]
    dialect: str
    has_schema: bool | None  # None: the question about it was not answered
    details: tuple[str, ...]  # what usage names, as in the last answer that had any
    names_cached: bool
    request_id_header: str | None
    rate_headers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Desk:
    """Where and how to ask."""

    transport: Transport
    dialect: str
    model: str
    max_tokens: int


async def ask_around(
    desk: Desk, urls: Mapping[MediaModality, str], on_trial: Callable[[Trial], None] = lambda trial: None
) -> Findings:
    """Ask all of it, one after the other. ``urls``: media to be asked about by URL too.

    Raises:
        AttemptError: not even a question without media is answered.
    """
    trials: list[Trial] = []

    def tell(trial: Trial) -> Trial:
        trials.append(trial)
        on_trial(trial)
        return trial

    plain = tell(await _ask(desk, desk.dialect, (), "", None))
    for modality in MADE:
        sent: list[tuple[Literal["inline", "url"], str]] = [("inline", made(modality))]
        if modality in urls:
            sent.append(("url", urls[modality]))
        for by, url in sent:
            media = (Media(modality, url),)
            trial = tell(await _ask(desk, desk.dialect, media, by, plain.prompt_tokens))
            other = _other_spelling(desk.dialect)
            if trial.verdict in ("dropped", "rejected") and modality != "image" and other is not None:
                tell(await _ask(desk, other, media, by, plain.prompt_tokens))
    has_schema = await _honours_schema(desk)
    return _findings(desk, tuple(trials), has_schema)


def made(modality: MediaModality) -> str:
    """A small medium as a ``data:`` URL."""
    name = MADE[modality]
    content = (files("data") / "media" / name).read_bytes()
    return f"data:{mime_of_path(name, modality)};base64,{b64encode(content).decode()}"


async def _ask(
    desk: Desk,
    dialect_name: str,
    media: tuple[Media, ...],
    by: Literal["", "inline", "url"],
    plain_tokens: int | None,
) -> Trial:
    dialect = DIALECTS[dialect_name]
    request = Request(desk.model, _QUESTION, media, {"max_tokens": desk.max_tokens})
    modality = media[0].modality if media else "text"
    began_s = monotonic()
    try:
        answer, reply = await _answer(desk.transport, dialect, request)
    except AttemptError as error:
        took_s = monotonic() - began_s
        if not media or isinstance(error, HaltingError):
            raise
        verdict: Verdict = "failed" if isinstance(error, TransientError) else "rejected"
        return Trial(modality, by, dialect_name, verdict, str(error), took_s)
    took_s = monotonic() - began_s
    tokens = reply.usage.prompt_tokens if reply.usage else None
    verdict, why = _verdict(request, reply, plain_tokens)
    return Trial(modality, by, dialect_name, verdict, why, took_s, tokens, reply, answer.headers)


async def _answer(transport: Transport, dialect: Dialect, request: Request) -> tuple[Answer, Reply]:
    answer = await transport.post(dialect.render(request, [one.url for one in request.media]), "probe")
    if answer.status != 200:
        raise dialect.classify(answer.status, answer.headers, answer.body)
    return answer, dialect.parse(answer.body, request)


def _verdict(request: Request, reply: Reply, plain_tokens: int | None) -> tuple[Verdict, str]:
    if not request.media:
        return "honoured", "answered"
    usage = reply.usage
    if usage is None:
        return "unknown", "the answer came without usage"
    (seen,) = media_seen(request, usage)
    more = None if plain_tokens is None else usage.prompt_tokens - plain_tokens
    if more is not None and more < SMALLEST_MEDIUM_TOKENS:
        return "dropped", f"{usage.prompt_tokens:,} tokens in, as without it"
    if seen == "yes" or more is not None:
        return "honoured", f"{usage.prompt_tokens:,} tokens in" + (
            "" if more is None else f", {more:,} for it"
        )
    return ("dropped", "usage counts text alone") if seen == "no" else ("unknown", "usage does not tell")


async def _honours_schema(desk: Desk) -> bool | None:
    parameters = {"max_tokens": desk.max_tokens, "response_format": _SCHEMA}
    request = Request(desk.model, "Name a colour: red or green.", (), parameters)
    try:
        _, reply = await _answer(desk.transport, DIALECTS[desk.dialect], request)
    except HaltingError:
        raise
    except TransientError:
        return None
    except AttemptError:
        return False
    try:
        told: Any = orjson.loads(reply.text or "")
    except orjson.JSONDecodeError:
        return False
    return isinstance(told, dict) and told.get("colour") in ("red", "green")


def _other_spelling(dialect: str) -> str | None:
    other = dialect.removesuffix(STRINGS) if dialect.endswith(STRINGS) else dialect + STRINGS
    return other if other in DIALECTS else None


def _findings(desk: Desk, trials: Sequence[Trial], has_schema: bool | None) -> Findings:
    honoured: dict[str, int] = {}
    for trial in trials:
        if trial.modality not in ("text", "image"):
            honoured[trial.dialect] = honoured.get(trial.dialect, 0) + (trial.verdict == "honoured")
    best = max(honoured, key=lambda name: (honoured[name], name == desk.dialect), default=desk.dialect)
    answered = [trial for trial in trials if trial.reply is not None]
    details: dict[str, None] = {}
    for trial in answered:
        usage = trial.reply.usage if trial.reply else None
        raw = orjson.loads(usage.raw) if usage else {}
        named = raw.get("prompt_tokens_details") if isinstance(raw, dict) else None
        if isinstance(named, dict):
            details.update(dict.fromkeys(str(name) for name, value in named.items() if value is not None))
    headers = [name for trial in answered for name in trial.headers]
    ids = ("x-oneapi-request-id", "x-request-id")
    return Findings(
        trials=tuple(trials),
        dialect=best,
        has_schema=has_schema,
        details=tuple(details),
        names_cached="cached_tokens" in details,
        request_id_header=next((name for name in ids if name in headers), None),
        rate_headers=tuple(dict.fromkeys(name for name in headers if name.startswith("x-ratelimit-"))),
    )
