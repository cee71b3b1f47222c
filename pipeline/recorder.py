"""Takes outcomes as they come, counts them, and has parts written as the run goes on.

Writing happens off the event loop, one part at a time. When the disk is slower than the answers, workers wait
here rather than letting memory grow.
"""

from __future__ import annotations

import anyio
import anyio.to_thread
import polars as pl

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
        self._sequence = 1
        self._rest: list[pl.DataFrame] = []
        self._writing = anyio.Lock()

    async def put(self, ended: Ended) -> None:
        """Take one ended row.

        Raises:
            StoreUnwritable: the store stopped taking writes.
        """
        self._part.add(ended)
        self._tally.add(ended)
        self._gathered += 1
        if self._gathered >= PART_ITEMS:
            await self.flush()

    async def flush(self) -> None:
        """Write what was gathered. Raises StoreUnwritable; what could not be written stays gathered."""
        async with self._writing:
            if not self._gathered:
                return
            part, sequence = self._part, self._sequence
            self._part = self._new_part()
            self._sequence += self._gathered
            self._gathered = 0
            await anyio.to_thread.run_sync(self._writer.write_part, sequence, part)
            if part.rest:
                self._rest.append(part.rest_frame())

    async def flush_regularly(self) -> None:
        while True:
            await anyio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def close(self) -> None:
        """Write what is left, the rest file included."""
        await self.flush()
        if self._rest:
            rest = pl.concat(self._rest).sort("row")
            await anyio.to_thread.run_sync(self._writer.write_rest, rest)

    def _new_part(self) -> Part:
        return Part(self._writer.run_id, self._job, self._endpoint_of_bad_rows)
