"""The manifest read through once: what would be asked, by kind, and which of it to look at.

A sample of each kind of request is kept; of requests that were answered before, those whose replies are
known, because what the rules give them beside what they came to says how the endpoint counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from pipeline.estimating.experience import Experience, kinds_of
from pipeline.estimating.looking import facts_of, inline_content
from pipeline.keys import request_key
from pipeline.media.probing import MediaFacts, UnreadableMedia
from pipeline.records import BadRow, Item, Media, Request
from pipeline.tokens import rules_for, text_tokens

Kind = tuple[str, tuple[str, ...]]
"""A request's model, and the modalities of its media."""


@dataclass(slots=True)
class Candidate:
    """A request to look at. ``media``: each with what is known of it already; inline content is not kept."""

    model: str
    text_tokens: int
    max_tokens: int
    media: list[tuple[Media, MediaFacts | UnreadableMedia | None]]
    request_key: str | None


@dataclass(slots=True)
class Stratum:
    """Requests of one kind: how many would be asked, and a sample of them, all alike likely to be in it."""

    asked: int = 0
    sample: list[Candidate] = field(default_factory=list)


@dataclass(slots=True)
class Survey:
    rows: int = 0
    bad: int = 0
    skipped: int = 0
    duplicates: int = 0
    beyond_limit: int = 0
    strata: dict[Kind, Stratum] = field(default_factory=dict)
    known: list[Candidate] = field(default_factory=list)  # whose replies stand in the experience

    @property
    def asked(self) -> int:
        return sum(stratum.asked for stratum in self.strata.values())


@dataclass(frozen=True, slots=True)
class Repeated:
    """Who has asked before: an earlier run (its name), or an earlier row (its number)."""

    answered_by: Callable[[str], str | None]
    first_row: Callable[[str, int], int]


def survey(
    batches: Iterable[list[Item | BadRow]],
    repeated: Repeated,
    experience: Experience,
    *,
    limit: int | None,
    sample: int,
    seed: str,
) -> Survey:
    """
    Raises:
        ManifestError: the manifest changed while it was read.
    """
    found, random = Survey(), Random(seed)
    met = 0
    for batch in batches:
        for row in batch:
            found.rows += 1
            if limit is not None and row.row > limit:
                found.beyond_limit += 1
            elif isinstance(row, BadRow):
                found.bad += 1
            else:
                key = _key(row.request)
                if key is not None and key in experience.by_key:
                    met += 1
                    _keep(found.known, met, row.request, key, sample, random)
                _place(found, row, key, repeated, sample, random)
    return found


def _place(
    found: Survey, item: Item, key: str | None, repeated: Repeated, sample: int, random: Random
) -> None:
    if key is not None and repeated.answered_by(key) is not None:
        found.skipped += 1
        return
    if key is not None and repeated.first_row(key, item.row) != item.row:
        found.duplicates += 1
        return
    request = item.request
    kind = request.model, kinds_of([media.modality for media in request.media])
    stratum = found.strata.setdefault(kind, Stratum())
    stratum.asked += 1
    _keep(stratum.sample, stratum.asked, request, key, sample, random)


def _keep(
    kept: list[Candidate], met: int, request: Request, key: str | None, sample: int, random: Random
) -> None:
    """Reservoir sampling: of all met so far, each is kept with the same chance."""
    if len(kept) < sample:
        kept.append(_candidate(request, key))
    elif (place := random.randrange(met)) < sample:
        kept[place] = _candidate(request, key)


def _candidate(request: Request, key: str | None) -> Candidate:
    longest = request.parameters.get("max_tokens")
    assert isinstance(longest, int)
    media: list[tuple[Media, MediaFacts | UnreadableMedia | None]] = []
    for one in request.media:
        if one.url.startswith("data:"):
            media.append((Media(one.modality, "data:"), _facts(one.url)))
        else:
            media.append((one, None))
    text = request.prompt if request.system is None else f"{request.system}\n{request.prompt}"
    return Candidate(request.model, text_tokens(rules_for(request.model), text), longest, media, key)


def _facts(url: str) -> MediaFacts | UnreadableMedia:
    try:
        return facts_of(inline_content(url))
    except UnreadableMedia as error:
        return error


def _key(request: Request) -> str | None:
    """None where a local file is not there: it is nobody's repeat."""
    try:
        return request_key(request)
    except OSError:
        return None
