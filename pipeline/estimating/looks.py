"""A sample of requests → what the rules say of each. Each address is looked at once."""

from __future__ import annotations

from collections import Counter

import anyio

from pipeline.estimating.fits import Look
from pipeline.estimating.looking import look, media_tokens
from pipeline.estimating.survey import Candidate
from pipeline.media.fetching import MOST_CONNECTIONS, Looker
from pipeline.media.guarding import MediaUnreachable
from pipeline.media.probing import ImageFacts, MediaFacts, UnreadableMedia
from pipeline.records import Media
from pipeline.tokens import load_rules, rules_for

OPENED_AT_ONCE = 2


class Looks:
    """What was seen of requests. Each address is looked at once."""

    def __init__(self, looker: Looker) -> None:
        self._looker = looker
        self._limiter = anyio.CapacityLimiter(MOST_CONNECTIONS)
        self._opened = anyio.CapacityLimiter(OPENED_AT_ONCE)
        self._facts: dict[str, MediaFacts | UnreadableMedia | MediaUnreachable] = {}
        self._looking: dict[str, anyio.Lock] = {}
        self._of: dict[int, Look] = {}
        self.looked_at = 0
        self.unreadable = 0
        self.unreachable: Counter[str] = Counter()

    def of(self, candidate: Candidate) -> Look:
        return self._of[id(candidate)]

    async def at(self, candidate: Candidate) -> None:
        facts: list[MediaFacts] = []
        are_all, fails = True, False
        for media, known in candidate.media:
            found = known if known is not None else await self._facts_of(media)
            if isinstance(found, UnreadableMedia):
                fails = True
            elif isinstance(found, MediaUnreachable):
                are_all = False
            else:
                facts.append(found)
        tokens = media_tokens(rules_for(candidate.model), facts)
        images = [fact for fact in facts if isinstance(fact, ImageFacts)]
        self._of[id(candidate)] = Look(
            candidate.text_tokens,
            {} if fails else tokens if are_all else None,
            {rules.family: media_tokens(rules, images).get("image", 0) for rules in load_rules()},
            len(candidate.media),
            candidate.max_tokens,
            fails,
        )

    async def _facts_of(self, media: Media) -> MediaFacts | UnreadableMedia | MediaUnreachable:
        async with self._looking.setdefault(media.url, anyio.Lock()):
            if media.url not in self._facts:
                async with self._limiter:
                    self._facts[media.url] = await self._seen(media)
            return self._facts[media.url]

    async def _seen(self, media: Media) -> MediaFacts | UnreadableMedia | MediaUnreachable:
        try:
            facts = await look(media, self._looker, self._opened)
        except UnreadableMedia as error:
            self.unreadable += 1
            return error
        except MediaUnreachable as error:
            self.unreachable[str(error)] += 1
            return error
        self.looked_at += 1
        return facts
