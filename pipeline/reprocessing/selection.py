"""The chosen items as the rows of a run: a small Parquet file beside its run.json.

It holds each item's request as the store has it, without signatures and inline content, and says where in
which manifest the item's row is. Reading it joins the two: the media are the manifest's where it still holds
the same ones. So nothing secret or large is kept here, and the run can be resumed by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import polars as pl

from pipeline.errors import ManifestError, RowError
from pipeline.manifest import Defaults, Manifest, open_manifest
from pipeline.media.urls import storable
from pipeline.plan import Anew, Plan
from pipeline.records import BadRow, Item, Media, Request
from pipeline.store.places import Place, on_disk
from pipeline.store.writer import RunWriter
from pipeline.templates import is_template

SELECTION = pl.Schema(
    {
        "item_id": pl.String(),
        "run_id": pl.String(),  # whose outcome is reprocessed
        "manifest": pl.String(),
        "manifest_digest": pl.String(),  # when it was chosen; null: it could not be read
        "manifest_row": pl.Int64(),  # null: the manifest does not hold the item any more
        "request_json": pl.String(),  # null: the row could not be asked
    }
)
_BATCH_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a run that reprocesses: what `Manifest` is to other runs."""

    path: Path
    anew: Anew
    rows_total: int
    digest: str
    notes: tuple[str, ...] = ()

    def read(self, defaults: Defaults, passed: Sequence[int] | None = None) -> Iterator[list[Item | BadRow]]:
        """All rows in order, in lists of at most 2,000; ids are those of the outcomes. ``passed[row]`` is
        not 0 for rows to leave out.

        Raises:
            ManifestError: a manifest changed while it was read.
        """
        held = self._held(defaults, passed)
        for begin in range(0, self.rows_total, _BATCH_ROWS):
            rows = pl.scan_parquet(self.path, glob=False).slice(begin, _BATCH_ROWS).collect()
            batch = [
                self._row(row, item_id, request_json, next(held), defaults)
                for row, (item_id, request_json) in enumerate(
                    rows.select("item_id", "request_json").iter_rows(), begin + 1
                )
                if passed is None or not passed[row]
            ]
            if batch:
                yield batch

    def _held(self, defaults: Defaults, passed: Sequence[int] | None) -> Iterator[Item | BadRow | None]:
        """What the manifests hold now for each row that is not passed; None: nothing."""
        places = pl.read_parquet(self.path, columns=["manifest", "manifest_digest", "manifest_row"])
        first_row = 1
        for place in places.partition_by("manifest", "manifest_digest", maintain_order=True):
            manifest_rows = [
                manifest_row
                for row, manifest_row in enumerate(place["manifest_row"], first_row)
                if passed is None or not passed[row]
            ]
            first_row += place.height
            manifest = _unchanged(place["manifest"][0], place["manifest_digest"][0])
            if manifest is None:
                yield from [None] * len(manifest_rows)
            else:
                yield from _picked(manifest, manifest_rows, defaults)

    def check(self, defaults: Defaults) -> None:
        """
        Raises:
            PromptError: a template that is said anew names a column that a manifest does not have.
        """
        for path in self._manifests() if defaults.insists and defaults.templates else ():
            with suppress(ManifestError):
                open_manifest(path).check(defaults)

    def _manifests(self) -> list[str]:
        places = pl.read_parquet(self.path, columns=["manifest", "manifest_digest"])
        names: list[str] = places.drop_nulls()["manifest"].unique(maintain_order=True).to_list()
        return names

    def _row(
        self,
        row: int,
        item_id: str,
        request_json: str | None,
        held: Item | BadRow | None,
        defaults: Defaults,
    ) -> Item | BadRow:
        if held is not None and held.id != item_id:
            held = None
        if request_json is None:
            if isinstance(held, Item):
                return Item(item_id, row, self._otherwise(held.request))
            gone = RowError(row, "its row could not be asked, and its manifest does not hold it any more")
            return BadRow(item_id, row, gone if held is None else held.error)
        request = replace(_request(request_json), schema=defaults.schema)
        if defaults.insists and defaults.templates:
            if held is None:
                gone = RowError(row, "the prompt is a template, and its manifest does not hold it any more")
                return BadRow(item_id, row, gone)
            if isinstance(held, BadRow):
                return BadRow(item_id, row, held.error)
            request = replace(
                request,
                prompt=held.request.prompt if "prompt" in defaults.insists else request.prompt,
                system=held.request.system if "system" in defaults.insists else request.system,
            )
        if isinstance(held, Item) and _are_same(held.request.media, request.media):
            request = replace(request, media=held.request.media)
        elif any(media.url.startswith("data:") for media in request.media):
            gone = RowError(
                row, "its inline media are kept in the manifest alone, which does not hold them any more"
            )
            return BadRow(item_id, row, gone)
        return Item(item_id, row, self._otherwise(request))

    def _otherwise(self, request: Request) -> Request:
        anew = self.anew
        parameters = {**request.parameters, **anew.parameters}
        if anew.max_tokens is not None:
            parameters["max_tokens"] = anew.max_tokens
        return replace(
            request,
            model=request.model if anew.model is None else anew.model,
            prompt=request.prompt if anew.prompt is None or is_template(anew.prompt) else anew.prompt,
            system=request.system if anew.system is None or is_template(anew.system) else anew.system,
            parameters=parameters,
            image_max_px=request.image_max_px if anew.image_max_px is None else anew.image_max_px,
        )


Source = Manifest | Selection
"""What the rows of a run are read from."""


def selection_path(out: Place, run_id: str) -> Place:
    return out / "runs" / run_id / "selection.parquet"


def write_selection(plan: Plan, selection: pl.DataFrame) -> None:
    """Lay a run's rows down in its folder, before it is launched.

    Raises:
        StoreError, StoreUnwritable: the folder cannot be written.
    """
    writer = RunWriter(plan.out, plan.run_id, plan.started_at.astimezone(plan.timezone))
    writer.open()
    writer.write_selection(selection.select(SELECTION.names()))


def open_source(plan: Plan, address: str | None = None) -> Source:
    """What the plan's rows are read from: its manifest, or its selection. ``address``: the manifest's with
    its signature, which the plan does not keep.

    Raises:
        ManifestError: it cannot be read.
    """
    if plan.anew is None:
        return open_manifest(address or plan.manifest, ca_file=plan.ca_file)
    place = selection_path(plan.out, plan.run_id)
    try:
        path = on_disk(place)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ManifestError(place, f"cannot be read ({error}); reprocess again") from None
    return Selection(path, plan.anew, rows, f"sha256:{digest}")


def _unchanged(path: str, digest: str | None) -> Manifest | None:
    with suppress(ManifestError):
        manifest = open_manifest(path) if digest is not None else None
        if manifest is not None and manifest.digest == digest:
            return manifest
    return None


def _picked(
    manifest: Manifest, rows: Sequence[int | None], defaults: Defaults
) -> Iterator[Item | BadRow | None]:
    """These rows of a manifest, in its order; unknown ones, which come last, as None."""
    passed = bytearray(b"\x01") * (manifest.rows_total + 1)
    for row in rows:
        if row is not None:
            passed[row] = 0
    items = (item for batch in manifest.read(defaults, passed) for item in batch)
    for row in rows:
        yield None if row is None else next(items)


def _request(request_json: str) -> Request:
    told = orjson.loads(request_json)
    media = tuple(Media(one["modality"], one["url"], one["key"]) for one in told["media"])
    return Request(
        told["model"],
        told["prompt"],
        media,
        told["parameters"],
        told.get("system"),
        image_max_px=told.get("image_max_px"),
    )


def _are_same(held: Sequence[Media], stored: Sequence[Media]) -> bool:
    """Whether the manifest means the media that were asked about: by their keys, else by their URLs."""
    return len(held) == len(stored) and all(
        one.modality == other.modality
        and one.key == other.key
        and (one.key is not None or storable(one.url) == other.url)
        for one, other in zip(held, stored, strict=True)
    )
