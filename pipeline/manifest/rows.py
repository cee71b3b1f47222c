"""One row → ``Item`` or ``BadRow``.

Owns what a row means: its media in order, its prompt, its overrides, its id. A row's first
problem is the one that is told, in this order: id, media, prompt, model, max_tokens, nothing to ask, an id
that came before. Wide and long columns in one row add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import RowError
from pipeline.manifest.batch_lines import asked_by
from pipeline.manifest.cells import (
    CellProblem,
    positive_integer,
    scalar_text,
    scalar_texts,
    shortened,
    text,
    texts,
)
from pipeline.manifest.columns import WIDE
from pipeline.manifest.ids import Ids, IdTable
from pipeline.manifest.media_cells import checked_url, modality_of
from pipeline.media.urls import storable
from pipeline.records import MEDIA_MODALITIES, BadRow, Item, Media, MediaModality, Request

_ORDER: dict[str, int] = {modality: place for place, modality in enumerate(MEDIA_MODALITIES)}
_KEPT_OVERRIDES = 256


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the run says where a row says nothing. Requests share ``parameters``: do not change it."""

    model: str
    prompt: str
    parameters: Mapping[str, object]


Record = Callable[[int, tuple[object, ...], str], Item | BadRow]
"""(row, its cells, where local paths begin) → what it is: `Rows.record` or `Rows.record_of_line`."""


class Rows:
    """Turns the rows of one reading into records; remembers ids, and nothing else that grows."""

    def __init__(self, defaults: Defaults, look_alikes: Callable[[], IdTable]) -> None:
        self._defaults = defaults
        self._ids = Ids(look_alikes)
        self._parameters: dict[int, Mapping[str, object]] = {}

    def record(self, row: int, cells: tuple[object, ...], folder: str) -> Item | BadRow:
        """``cells`` are those of ``columns.READ``, in that order; ``folder`` is where local paths begin."""
        defaults = self._defaults
        id_cell, image, audio, video, url, modality, media_key, prompt_cell, model_cell, max_tokens_cell = (
            cells
        )
        explicit: str | None = None
        values: list[str] = []
        try:
            explicit = scalar_text(id_cell, "id")
            media: tuple[Media, ...] = ()
            if image is not None or audio is not None or video is not None or url is not None:
                media, values = self._media((image, audio, video), url, modality, media_key, folder)
            elif media_key is not None:
                _keys(media_key, 0)
            prompt = text(prompt_cell, "prompt")
            model = text(model_cell, "model")
            limit = None if max_tokens_cell is None else positive_integer(max_tokens_cell, "max_tokens")
            if not media and prompt is None:
                raise CellProblem(None, "holds neither media nor a prompt")
        except CellProblem as found:
            return self._bad(row, explicit, cells, found)
        request = Request(
            defaults.model if model is None else model.strip(),
            defaults.prompt if prompt is None else prompt,
            media,
            defaults.parameters if limit is None else self._with_max_tokens(limit),
        )
        return self._named(row, explicit, "id", request, lambda: _basis(media, values, prompt))

    def record_of_line(self, row: int, cells: tuple[object, ...], folder: str) -> Item | BadRow:
        """The same for a line of an OpenAI batch file; ``cells`` are those of ``batch_lines.COLUMNS``."""
        id_cell, _, url, body = cells
        explicit: str | None = None
        try:
            explicit = scalar_text(id_cell, "custom_id")
            asked = asked_by(url, body)
            values = [value for _, value in asked.media]
            media = tuple([Media(kind, checked_url(value, folder, "body")) for kind, value in asked.media])
            if not media and not asked.prompt:
                raise CellProblem("body", "asks nothing: its user message holds neither text nor media")
        except CellProblem as found:
            return self._bad(row, explicit, cells, found)
        prompt = asked.prompt or ""
        model = self._defaults.model if asked.model is None else asked.model.strip()
        parameters = {**self._defaults.parameters, **asked.parameters}
        request = Request(model, prompt, media, parameters, asked.system)
        return self._named(row, explicit, "custom_id", request, lambda: _basis(media, values, prompt))

    def _named(
        self, row: int, explicit: str | None, column: str, request: Request, basis: Callable[[], list[str]]
    ) -> Item | BadRow:
        """The item, under its own id or one made of its ``basis``; a bad row where the id is taken."""
        if explicit is None:
            return Item(self._ids.default(basis()), row, request)
        if self._ids.claim(explicit):
            return Item(explicit, row, request)
        item_id = self._ids.numbered(explicit)
        repeated = f"the id {shortened(explicit)!r} came before; this row is filed as {shortened(item_id)!r}"
        return BadRow(item_id, row, RowError(row, repeated, column=column))

    def pass_over_all(self, id_cells: list[object] | None, passed: bytearray) -> bool:
        """Take the ids of a block whose rows are all passed over and have plain ids; whether it was one."""
        if id_cells is None or 0 in passed:
            return False
        if not all(type(cell) is str and cell and not cell.isspace() for cell in id_cells):
            return False
        for cell in id_cells:
            if not self._ids.claim(cell):  # type: ignore[arg-type] # a text, as was just seen
                self._ids.numbered(cell)  # type: ignore[arg-type]
        return True

    def pass_over(self, row: int, cells: tuple[object, ...], folder: str, record: Record) -> None:
        """Take the row's id, as ``record`` would, and nothing else."""
        if type(cells[0]) is str and cells[0]:
            try:
                explicit = scalar_text(cells[0], "id")
            except CellProblem:
                explicit = None
            if explicit is not None:
                if not self._ids.claim(explicit):
                    self._ids.numbered(explicit)
                return
        record(row, cells, folder)

    def _bad(self, row: int, explicit: str | None, cells: Iterable[object], found: CellProblem) -> BadRow:
        if explicit is None:
            item_id = self._ids.default(["cells", *(repr(cell) for cell in cells if cell is not None)])
        else:
            item_id = explicit if self._ids.claim(explicit) else self._ids.numbered(explicit)
        return BadRow(item_id, row, RowError(row, found.problem, column=found.column))

    def _media(
        self,
        wide: tuple[object, object, object],
        url: object,
        modality: object,
        media_key: object,
        folder: str,
    ) -> tuple[tuple[Media, ...], list[str]]:
        """The media of a row in the order of a request, and their addresses as its cells write them."""
        found: list[tuple[MediaModality, str, str]] = []
        for (column, kind), cell in zip(WIDE.items(), wide, strict=True):
            if cell is not None:
                for value in texts(cell, column):
                    found.append((kind, value, checked_url(value, folder, column)))
        if url is not None and (long := texts(url, "url")):
            for value, word in zip(long, _words(modality, len(long)), strict=True):
                address = checked_url(value, folder, "url")
                found.append((modality_of(value, word), value, address))
            found.sort(key=lambda one: _ORDER[one[0]])
        values = [value for _, value, _ in found]
        if media_key is None:
            return tuple([Media(kind, address) for kind, _, address in found]), values
        keys = _keys(media_key, len(found))
        return tuple([Media(kind, url, key) for (kind, _, url), key in zip(found, keys, strict=True)]), values

    def _with_max_tokens(self, limit: int) -> Mapping[str, object]:
        """The run's parameters with another ``max_tokens``, shared between rows that say the same."""
        if (shared := self._parameters.get(limit)) is not None:
            return shared
        parameters = {**self._defaults.parameters, "max_tokens": limit}
        if len(self._parameters) < _KEPT_OVERRIDES:
            self._parameters[limit] = parameters
        return parameters


def _basis(media: Sequence[Media], values: Sequence[str], prompt: str | None) -> list[str]:
    """What a default id is made of: the media, or where there are none the prompt.

    A local file counts by its path as written, so that a manifest keeps its ids in another folder.
    """
    if not media:
        return [f"text {prompt}"]
    return [f"{m.modality} {m.key or storable(value)}" for m, value in zip(media, values, strict=True)]


def _keys(media_key: object, count: int) -> list[str] | list[None] | list[str | None]:
    """One key a media: from a list as they stand, from one key as ``key``, ``key#2``, ``key#3`` …"""
    keys = scalar_texts(media_key, "media_key")
    if keys is None:
        return [None] * count
    if isinstance(keys, str):
        return [keys if number == 1 else f"{keys}#{number}" for number in range(1, count + 1)]
    if len(keys) != count:
        raise CellProblem("media_key", f"names {len(keys)} media, but the row has {count}")
    return keys


def _words(modality: object, count: int) -> list[str] | list[str | None]:
    """The word of ``modality`` for each URL of a long-form row: one for all, or a list of as many."""
    if modality is None or (isinstance(modality, str) and modality.strip()[:1] != "["):
        return [text(modality, "modality")] * count
    words = texts(modality, "modality")
    if len(words) == 1:
        return words * count
    if len(words) != count:
        raise CellProblem("modality", f"names {len(words)} modalities, but the row has {count} URLs")
    return words
