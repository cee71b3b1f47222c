"""`--media auto`: which media an endpoint cannot get at, and when an item is asked once more, inline.

    of this network         loopback, private, link-local, and names that lead there: inline at once
    could not be fetched    the endpoint says so: once more, inline; if that is answered, media of that host
                            go inline from then on
    was not seen            usage says so: once more, inline; if it is seen now, that modality goes inline
                            from then on; if not, none of it is asked for twice again

Both attempts are on the bill, so each lesson is learned once a run: items that it is about wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import anyio

from pipeline.dialects import media_seen
from pipeline.errors import AttemptError, MediaHostFailed, MediaUnreachable, MediaUnreadable
from pipeline.media.guarding import Resolve, is_public, resolve
from pipeline.records import Attempt, Item, Media, MediaModality, Request

MOST_HOSTS: Final = 10_000
"""So many are remembered; a manifest may name another one in every row."""
_LOOKED_UP_WITHIN_S: Final = 5.0
_PRIVATE_NAMES: Final = ("localhost", ".localhost", ".local", ".internal", ".lan", ".home.arpa")
_NOT_FETCHED: Final = (MediaUnreadable, MediaHostFailed)


@dataclass(slots=True, eq=False)
class Detour:
    """An item that is asked once more, inline: how it ended when ``by_url`` went as URLs. While it is under
    way, items it can teach something wait for it."""

    item: Item
    last: Attempt
    by_url: tuple[Media, ...]
    tests: frozenset[str]  # hosts, or modalities
    has_begun: bool = False
    over: anyio.Event = field(default_factory=anyio.Event)

    @property
    def has_answer(self) -> bool:
        """Whether there is an answer already, which did not see everything."""
        return self.last.error is None


class Reach:
    """What one run knows about what its endpoints can reach."""

    def __init__(self, resolve: Resolve = resolve) -> None:
        self._resolve = resolve
        self._is_private: dict[str, bool] = {}
        self._failing: set[str] = set()
        self._inline_helps: dict[str, bool] = {}  # by modality
        self._under_way: dict[str, Detour] = {}  # by what it tests

    async def is_out_of(self, media: Media) -> bool:
        """Whether a medium goes inline at once."""
        if self._inline_helps.get(media.modality):
            return True
        host = _host(media)
        if host in self._failing:
            return True
        return not media.is_in_bucket and await self._is_of_this_network(host)

    def gives_up(self, error: AttemptError | None) -> bool:
        """Whether another try by URL is of no use: what could not be fetched just now goes inline instead."""
        return isinstance(error, MediaHostFailed)

    def detour(self, item: Item, by_url: tuple[Media, ...], last: Attempt) -> Detour | None:
        """Whether to ask once more with all media inlined. ``by_url``: those that were not."""
        if isinstance(last.error, _NOT_FETCHED):
            tests = {_host(media) for media in by_url}
        elif last.error is None:
            unseen = _unseen(item.request, by_url, last)
            tests = {modality for modality in unseen if self._inline_helps.get(modality, True)}
        else:
            return None
        return Detour(item, last, by_url, frozenset(tests)) if tests else None

    def about(self, media: Iterable[Media]) -> Detour | None:
        """A detour that is under way, and will tell how these go best."""
        if not self._under_way:
            return None
        for one in media:
            other = self._under_way.get(one.modality) or self._under_way.get(_host(one))
            if other is not None:
                return other
        return None

    def begin(self, detour: Detour) -> None:
        """
        Raises:
            MediaUnreachable: it has turned out meanwhile that it is of no use.
        """
        if detour.has_answer and not any(self._inline_helps.get(one, True) for one in detour.tests):
            raise MediaUnreachable("the endpoint sees none of them inline either")
        detour.has_begun = True
        known = {*self._failing, *self._inline_helps}
        self._under_way.update(dict.fromkeys(detour.tests - known, detour))

    def end(self, detour: Detour) -> None:
        """Whatever came of it."""
        for one in detour.tests:
            if self._under_way.get(one) is detour:
                del self._under_way[one]
        detour.over.set()

    def learn(self, detour: Detour, last: Attempt) -> None:
        """What came of it: how the item ended with its media inlined."""
        if last.error is not None:
            return
        if detour.has_answer:
            still = _unseen(detour.item.request, detour.by_url, last)
            self._inline_helps.update({modality: modality not in still for modality in detour.tests})
        elif len(self._failing) < MOST_HOSTS:
            self._failing.update(detour.tests)

    async def _is_of_this_network(self, host: str) -> bool:
        if host in self._is_private:
            return self._is_private[host]
        if len(self._is_private) >= MOST_HOSTS:
            self._is_private.clear()
        self._is_private[host] = found = await self._looked_up(host)
        return found

    async def _looked_up(self, host: str) -> bool:
        if f".{host}".endswith(_PRIVATE_NAMES):
            return True
        try:
            return not is_public(host)
        except ValueError:  # it is a name
            pass
        try:
            with anyio.fail_after(_LOOKED_UP_WITHIN_S):
                addresses = await self._resolve(host, 443)
        except (OSError, UnicodeError):
            return False  # the endpoint may know it
        return not all(is_public(address) for address in addresses)


def _host(media: Media) -> str:
    try:
        return (urlsplit(media.url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _unseen(request: Request, by_url: Sequence[Media], answered: Attempt) -> set[MediaModality]:
    usage = answered.reply.usage if answered.reply else None
    seen = media_seen(request, usage)
    return {
        media.modality
        for media, saw in zip(request.media, seen, strict=True)
        if saw == "no" and media in by_url
    }
