"""One row → ``Item`` or ``BadRow``.

Owns what a row means: its media in order, its prompt, its overrides, its id. A row's first problem is the
one that is told, in this order: id, media, prompt, model, max_tokens, system_prompt, request_parameters,
nothing to ask, an id that came before, a template that cannot be filled in. Wide and long columns in one row
add up. A prompt in a cell is data, and never a template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import orjson

from pipeline.errors import PromptError, PromptFailed, RowError
from pipeline.manifest.batch_lines import asked_by
from pipeline.manifest.cells import (
    CellProblem,
    absent,
    positive_integer,
    scalar_text,
    scalar_texts,
    shortened,
    text,
    texts,
)
from pipeline.manifest.columns import READ, WIDE
from pipeline.manifest.ids import Ids, IdTable
from pipeline.manifest.media_cells import checked_url, modality_of
from pipeline.manifest.parameters import row_parameters
from pipeline.media.urls import storable
from pipeline.records import MEDIA_MODALITIES, BadRow, Item, Media, MediaModality, Request
from pipeline.templates import Template

if TYPE_CHECKING:
    from pipeline.typed.schema import AnswerSchema

_READ = len(READ)
_ORDER: dict[str, int] = {modality: place for place, modality in enumerate(MEDIA_MODALITIES)}
_KEPT_OVERRIDES = 256


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the run says where a row says nothing. Requests share ``parameters``: do not change it.

    ``insists``: the prompt, or system prompt, is said to rows that bring their own, too.
    """

    model: str
    prompt: str | Template
    parameters: Mapping[str, object]
    system: str | Template | None = None
    schema: AnswerSchema | None = None
    insists: frozenset[Literal["prompt", "system"]] = frozenset()
    image_max_px: int | None = None

    @property
    def templates(self) -> tuple[Template, ...]:
        return tuple([one for one in (self.prompt, self.system) if isinstance(one, Template)])

    def columns(self, offered: Sequence[str]) -> tuple[str, ...]:
        """Of a manifest's columns, those that the templates read."""
        return tuple(dict.fromkeys(name for one in self.templates for name in one.columns(offered)))


Record = Callable[[int, tuple[object, ...], str], Item | BadRow]
"""(row, its cells, where local paths begin) → what it is: `Rows.record` or `Rows.record_of_line`."""


class Rows:
    """Turns the rows of one reading into records; remembers ids, and nothing else that grows."""

    def __init__(
        self, defaults: Defaults, look_alikes: Callable[[], IdTable], fields: Sequence[str] = ()
    ) -> None:
        """``fields``: the columns that templates read."""
        self._defaults = defaults
        self._ids = Ids(look_alikes)
        self._fields = fields
        self._templates = defaults.templates
        self._parameters: dict[int | bytes, Mapping[str, object]] = {}

    def record(self, row: int, cells: tuple[object, ...], folder: str) -> Item | BadRow:
        """``cells`` are those of ``columns.READ``, in that order, then those of the templates; ``folder`` is
        where local paths begin."""
        defaults = self._defaults
        id_cell, image, audio, video, url, modality, media_key, *overrides = cells[:_READ]
        prompt_cell, model_cell, max_tokens_cell, system_cell, parameters_cell = overrides
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
            system = None if system_cell is None else text(system_cell, "system_prompt")
            own = None
            if parameters_cell is not None:
                own = row_parameters(parameters_cell, "request_parameters", defaults.schema is not None)
            if not media and prompt is None:
                raise CellProblem(None, "holds neither media nor a prompt")
        except CellProblem as found:
            return self._bad(row, explicit, cells[:_READ], found)
        item_id = self._id_of(row, explicit, "id", _basis(media, values, prompt) if explicit is None else [])
        if isinstance(item_id, BadRow):
            return item_id
        if prompt is None or "prompt" in defaults.insists:
            prompt = defaults.prompt if type(defaults.prompt) is str else None
        if system is None or "system" in defaults.insists:
            system = defaults.system if type(defaults.system) is str else None
        request = Request(
            defaults.model if model is None else model.strip(),
            "" if prompt is None else prompt,
            media,
            defaults.parameters if limit is None and own is None else self._overridden(limit, own),
            system,
            defaults.schema,
            image_max_px=defaults.image_max_px,
        )
        if self._templates and (prompt is None or system is None):
            try:
                request = self._filled_in(request, prompt is None, system is None, cells)
            except PromptError as problem:
                return BadRow(item_id, row, PromptFailed(row, str(problem)))
        return Item(item_id, row, request)

    def record_of_line(self, row: int, cells: tuple[object, ...], folder: str) -> Item | BadRow:
        """The same for a line of an OpenAI batch file; ``cells`` are those of ``batch_lines.COLUMNS``."""
        id_cell, _, url, body, *_ = cells
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
        item_id = self._id_of(row, explicit, "custom_id", _basis(media, values, prompt))
        if isinstance(item_id, BadRow):
            return item_id
        defaults = self._defaults
        system = asked.system
        if system is None or "system" in defaults.insists:
            system = defaults.system if type(defaults.system) is str else system
        request = Request(
            defaults.model if asked.model is None else asked.model.strip(),
            prompt,
            media,
            {**defaults.parameters, **asked.parameters},
            system,
            defaults.schema,
        )
        return Item(item_id, row, request)

    def _id_of(self, row: int, explicit: str | None, column: str, basis: list[str]) -> str | BadRow:
        """Its own id, or one made of its ``basis``; a bad row where the id is taken."""
        if explicit is None:
            return self._ids.default(basis)
        if self._ids.claim(explicit):
            return explicit
        item_id = self._ids.numbered(explicit)
        repeated = f"the id {shortened(explicit)!r} came before; this row is filed as {shortened(item_id)!r}"
        return BadRow(item_id, row, RowError(row, repeated, column=column))

    def _filled_in(
        self, request: Request, wants_prompt: bool, wants_system: bool, cells: tuple[object, ...]
    ) -> Request:
        """With what the templates make of the row.

        Raises:
            PromptError: one cannot be filled in.
        """
        prompt, system = self._defaults.prompt, self._defaults.system
        given = {
            name: None if absent(value) else value
            for name, value in zip(self._fields, cells[_READ:], strict=True)
        }
        if wants_prompt and isinstance(prompt, Template):
            request = replace(request, prompt=prompt.fill_in(given))
        if wants_system and isinstance(system, Template):
            request = replace(request, system=system.fill_in(given))
        return request

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

    def _overridden(self, limit: int | None, own: Mapping[str, object] | None) -> Mapping[str, object]:
        """The run's parameters with what the row says, shared between rows that say the same. A
        ``max_tokens`` column goes before one among the parameters."""
        said = {**(own or {}), **({} if limit is None else {"max_tokens": limit})}
        known: int | bytes = limit if own is None and limit is not None else orjson.dumps(said)
        if (shared := self._parameters.get(known)) is not None:
            return shared
        parameters = {**self._defaults.parameters, **said}
        if len(self._parameters) < _KEPT_OVERRIDES:
            self._parameters[known] = parameters
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
