"""Parts of one run, each written as `places` does it: whole, or not there at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime

import orjson
import polars as pl

from pipeline.errors import StoreError, StoreUnwritable
from pipeline.store.places import InBucket, Place, below, found, write_whole
from pipeline.store.rows import Part
from pipeline.typed.columns import parsed_column
from pipeline.typed.schema import AnswerSchema


class RunWriter:
    """Writes what one run leaves in the store. Synchronous: callers bring the thread.

    Parts are named by their first ledger sequence, so that writing one again overwrites it. Where answers
    have a ``schema``, results end in a column of what it makes of their texts.
    """

    def __init__(self, out: Place, run_id: str, started_at: datetime) -> None:
        self.out = out
        self.run_id = run_id
        self.schema: AnswerSchema | None = None
        self._partition = f"date={started_at:%Y-%m-%d}/run={run_id}"

    def open(self) -> None:
        """Make the run's folder.

        Raises:
            StoreError: the output folder cannot be made or written.
        """
        folder = self.run_folder
        if isinstance(folder, InBucket):
            return  # the lock, which is an object there, has been written by now
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"--out {self.out}: cannot write there ({error.strerror}); choose another folder"
            ) from None

    @property
    def run_folder(self) -> Place:
        return self.out / "runs" / self.run_id

    def dataset_folder(self, name: str) -> Place:
        return self.out / name / self._partition

    def parts(self, name: str) -> list[Place]:
        """The parts of this run in a dataset, in the order of the ledger."""
        return found(self.dataset_folder(name), "part-*.parquet")

    def numbered_parts(self, name: str) -> dict[int, Place]:
        """The same by first ledger sequence."""
        return {int(path.stem.removeprefix("part-")): path for path in self.parts(name)}

    def write_part(self, sequence: int, part: Part) -> dict[str, bytes]:
        """Write a part's files; return what each holds, by path below the store.

        Raises:
            StoreUnwritable: the disk refuses.
        """
        written = {}
        for name, frame in part.frames().items():
            if name == "results" and self.schema is not None:
                frame = frame.with_columns(parsed_column(frame["status"], frame["text"], self.schema))
            path = self.dataset_folder(name) / f"part-{sequence:010d}.parquet"
            written[below(path, self.out)] = self._write_frame(path, frame)
        return written

    def write_rest(self, rest: pl.DataFrame) -> None:
        """The run's one rest file, replaced as a whole; without rows there is none."""
        self.replace(self.dataset_folder("rest") / "rest.parquet", rest)

    def write_duplicates(self, results: pl.DataFrame) -> None:
        """The results of rows that share another's outcome, replaced as a whole."""
        self.replace(self.dataset_folder("results") / "duplicates.parquet", results)

    def write_selection(self, selection: pl.DataFrame) -> None:
        """Which items a run that reprocesses asks, beside its run.json."""
        self._write_frame(self.run_folder / "selection.parquet", selection)

    def write_run(self, facts: Mapping[str, object]) -> None:
        text = orjson.dumps(facts, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
        self._write(self.run_folder / "run.json", text)

    def replace(self, path: Place, frame: pl.DataFrame) -> int:
        """Write a file of this run anew; without rows there is none. Returns its size in bytes.

        Raises:
            StoreUnwritable: the disk refuses.
        """
        if frame.height:
            return len(self._write_frame(path, frame))
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnwritable(path, error.strerror or str(error)) from None
        return 0

    def _write_frame(self, path: Place, frame: pl.DataFrame) -> bytes:
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", statistics=True)
        content = buffer.getvalue()
        self._write(path, content)
        return content

    def _write(self, path: Place, content: bytes) -> None:
        write_whole(path, content)
