"""`report --gallery`: a sample of items, each with its media beside what the model said of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from jobs.pages.embedding import Embedding
from jobs.pages.rendering import render
from jobs.report_view import named, scope_words
from jobs.wording import amount
from pipeline.records import MediaModality
from pipeline.report import Scope, Shown, sample
from pipeline.reprocessing import matching

_MOST_LETTERS: Final = 20_000
_WEB: Final = re.compile(r"https?://[^\s\x00-\x1f]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Picture:
    """A medium of an item. ``source``: what an img, audio or video element loads; None: ``why`` not.
    ``link``: where a person may open it."""

    modality: str
    name: str
    source: str | None
    link: str | None
    why: str
    is_unseen: bool


@dataclass(frozen=True, slots=True)
class Shot:
    """An item as the page shows it. ``fields``: of a typed answer, else empty, and ``text`` is shown."""

    of: Shown
    media: Sequence[Picture]
    fields: Sequence[tuple[str, str]]
    text: str
    is_cut: bool
    cost: str
    facts: Sequence[str]

    @property
    def modalities(self) -> str:
        return " ".join(dict.fromkeys(one.modality for one in self.media)) or "text"


def gallery_page(scope: Scope, clauses: Sequence[str], most: int) -> str:
    """The page, over at most so many of the items that the clauses choose.

    Raises:
        UsageError: a clause says nothing we know.
        StoreError: there is no store.
    """
    where = matching(clauses, datetime.now(UTC)) if clauses else None
    shown, of_all = sample(scope, where, most)
    embedding = Embedding()
    shots = [_shot(one, embedding, scope) for one in shown]
    return render(
        "gallery.html",
        ("page.js", "gallery.js"),
        media_from=" http: https:",
        title=f"{named(scope)} · gallery · mediabatch",
        heading=named(scope),
        clauses=clauses,
        of_all=of_all,
        made_at=f"{datetime.now(UTC).astimezone(scope.timezone):%Y-%m-%d %H:%M}",
        timezone=scope.timezone.key,
        rehearsals=scope.rehearsals,
        shots=shots,
        modalities=sorted({name for shot in shots for name in shot.modalities.split()}),
        errors=sorted({shot.of.error_class for shot in shots if shot.of.error_class}),
        currencies=sorted({shot.of.currency for shot in shots if shot.of.currency}),
        words=scope_words(scope.out, scope.job),
    )


def _shot(one: Shown, embedding: Embedding, scope: Scope) -> Shot:
    text = one.text or ""
    return Shot(
        one,
        [_picture(*medium, embedding) for medium in one.media],
        list(_fields(one)),
        text[:_MOST_LETTERS],
        len(text) > _MOST_LETTERS,
        "" if one.cost is None else amount(one.cost),
        list(_facts(one, scope)),
    )


def _picture(modality: MediaModality, url: str, seen: str | None, embedding: Embedding) -> Picture:
    is_unseen = seen == "no"
    if _WEB.fullmatch(url):
        playable = modality in ("image", "audio", "video")
        return Picture(modality, url, url if playable else None, url, "a document", is_unseen)
    if url[:5].lower() == "data:":
        return Picture(
            modality, "inline", None, None, "it came inline; the store keeps its digest", is_unseen
        )
    if "://" in url:
        return Picture(modality, url, None, None, "a browser cannot open such an address", is_unseen)
    source, why = embedding.data_url(url, modality)
    return Picture(modality, "/".join(Path(url).parts[-2:]), source, None, why, is_unseen)


def _fields(one: Shown) -> Iterator[tuple[str, str]]:
    """Of a typed answer, or of a text that is a JSON object."""
    value = one.parsed
    if value is None and one.text and one.text.strip()[:1] in ("{", "`"):
        try:
            value = orjson.loads(_without_fence(one.text))
        except orjson.JSONDecodeError:
            return
    if isinstance(value, Mapping):
        for name, told in value.items():
            yield str(name), _told(told)


def _without_fence(text: str) -> str:
    found = re.fullmatch(r"\s*```\w*\s*(.*?)\s*```\s*", text, re.DOTALL)
    return found[1] if found else text


def _told(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ", ".join(map(str, value))
    return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()


def _facts(one: Shown, scope: Scope) -> Iterator[str]:
    if one.prompt_tokens is not None:
        yield f"{one.prompt_tokens:,} tokens in, {one.completion_tokens or 0:,} out"
    if one.cost is not None:
        yield f"{one.currency} {amount(one.cost)}"
    elif one.status == "ok":
        yield "cost unknown"
    if one.attempts is not None and one.attempts > 1:
        yield f"{one.attempts:,} tries"
    if one.latency_s is not None:
        yield f"{one.latency_s:,.1f} s"
    model = one.model or one.model_requested
    if model:
        yield model
    if one.finish_reason not in (None, "stop"):
        yield f"finish reason {one.finish_reason}"
    if one.http_status not in (None, 200):
        yield f"HTTP {one.http_status}"
    yield f"run {one.run_id}, row {one.row}"
    if one.finished_at is not None:
        yield f"{one.finished_at.astimezone(scope.timezone):%Y-%m-%d %H:%M}"
