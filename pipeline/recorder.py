"""Takes outcomes as they come, counts them, and has parts written as the run goes on.

Writing happens off the event loop, one part at a time. When the disk is slower than the answers, workers wait
here rather than letting memory grow.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.to_thread
import polars as pl

from pipeline.errors import StoreUnwritable
from pipeline.records import Ended
from pipeline.store.rows import Part
from pipeline.store.writer import RunWriter
from pipeline.tally import Tally

PART_ITEMS = 4_000
FLUSH_EVERY_S = 20.0


class Recorder:
    """The one door to the store during a run."""

    def __init__(
        self, writer: RunWriter, tally: Tally, *, job: str, endpoint_of_bad_rows: str | None
    ) -> None:
        self._writer = writer
        self._tally = tally
        self._job = job
        self._endpoint_of_bad_rows = endpoint_of_bad_rows
        self._part = self._new_part()
        self._gathered = 0
        self._flush_at = PART_ITEMS
        self._sequence = 1
        self._rest: list[pl.DataFrame] = []
        self._writing = anyio.Lock()

    async def put(self, ended: Ended) -> None:
        """Take one ended row. It is safe here before anything can go wrong.

        Raises:
            StoreUnwritable: the store stopped taking writes.
        """
        self._part.add(ended)
        self._tally.add(ended)
        self._gathered += 1
        if self._gathered >= self._flush_at:
            await self.flush()

    async def flush(self) -> None:
        """Write what was gathered. Raises StoreUnwritable; what could not be written stays gathered."""
        async with self._writing:
            if not self._gathered:
                return
            part, gathered = self._part, self._gathered
            self._part, self._gathered = self._new_part(), 0
            if part.rest:
                self._rest.append(part.rest_frame())
                part.rest.clear()
            try:
                with anyio.CancelScope(shield=True):  # a part that was taken out must not get lost
                    await anyio.to_thread.run_sync(self._writer.write_part, self._sequence, part)
            except BaseException:
                part.append(self._part)
                self._part, self._gathered = part, gathered + self._gathered
                self._flush_at = self._gathered + PART_ITEMS  # not again with every row
                raise
            self._sequence += gathered
            self._flush_at = PART_ITEMS

    async def flush_regularly(self, report: Callable[[StoreUnwritable], None]) -> None:
        while True:
            await anyio.sleep(FLUSH_EVERY_S)
            try:
                await self.flush()
            except StoreUnwritable as error:
                report(error)

    async def close(self) -> None:
        """Write what is left, the rest file included. Raises StoreUnwritable."""
        try:
            await self.flush()
        finally:
            if self._rest:
                rest = pl.concat(self._rest).sort("row")
                await anyio.to_thread.run_sync(self._writer.write_rest, rest)

    def _new_part(self) -> Part:
        return Part(self._writer.run_id, self._job, self._endpoint_of_bad_rows)
