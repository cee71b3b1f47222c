"""The requests that a run would send, written as an OpenAI batch file instead of being sent.

A line is `{"custom_id", "method", "url", "body"}`: the item's id, and the body as the dialect of the run's
first endpoint renders it. What an earlier run had answered, and rows that repeat another, are left out as a
run would; nothing is written to the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread
import orjson

from pipeline.asked import defaults_of
from pipeline.dialects import DIALECTS, Dialect
from pipeline.errors import MediabatchError, MediaGone, StoreUnwritable
from pipeline.keytable import KeyTable
from pipeline.manifest import Defaults
from pipeline.media.delivery import Delivery
from pipeline.media.splicing import SplicedBody, spliced
from pipeline.plan import Plan, Secrets
from pipeline.records import BadRow, Request
from pipeline.repeats import Repeats
from pipeline.reprocessing.selection import Source, open_source
from pipeline.run import key_of

MOST_REQUESTS: Final = 50_000
MOST_BYTES: Final = 200 * 1000 * 1000
"""What OpenAI takes in one file (Batch API guide, 2025)."""


@dataclass(slots=True)
class BatchFile:
    """What went into the file, and what did not."""

    requests: int = 0
    size_bytes: int = 0
    skipped: int = 0
    duplicates: int = 0
    bad: int = 0
    first_bad: MediabatchError | None = None

    def count_bad(self, error: MediabatchError) -> None:
        self.bad += 1
        self.first_bad = self.first_bad or error

    @property
    def is_too_large(self) -> bool:
        """For one file at OpenAI."""
        return self.requests > MOST_REQUESTS or self.size_bytes > MOST_BYTES


async def write_batch_file(plan: Plan, secrets: Secrets, target: Path) -> BatchFile:
    """Write it whole or not at all.

    Raises:
        UsageError: a person's mistake.
        StoreUnwritable: the file cannot be written.
    """
    defaults = await anyio.to_thread.run_sync(defaults_of, plan)
    source = await anyio.to_thread.run_sync(open_source, plan, secrets.manifest)
    await anyio.to_thread.run_sync(source.check, defaults)
    aside = target.with_name(target.name + ".aside")
    try:
        told = await _write(plan, source, defaults, aside)
        aside.replace(target)
    except OSError as error:
        raise StoreUnwritable(target, error.strerror or str(error)) from None
    finally:
        aside.unlink(missing_ok=True)
    return told


async def _write(plan: Plan, source: Source, defaults: Defaults, aside: Path) -> BatchFile:
    told = BatchFile()
    dialect = DIALECTS[plan.endpoints[0].dialect]
    repeats = await anyio.to_thread.run_sync(Repeats.of, plan, KeyTable())
    with aside.open("wb") as file:
        for batch in source.read(defaults):
            for row in batch:
                if plan.limit is not None and row.row > plan.limit:
                    return told
                if isinstance(row, BadRow):
                    told.count_bad(row.error)
                    continue
                key = await key_of(row.request)
                if key is not None and repeats.answered_by(key) is not None:
                    told.skipped += 1
                elif key is not None and repeats.first_row(key, row.row) != row.row:
                    told.duplicates += 1
                else:
                    try:
                        body = await _body(row.request, dialect)
                    except MediaGone as error:
                        told.count_bad(error)
                        continue
                    told.requests += 1
                    told.size_bytes += file.write(_line(row.id, dialect.path, body))
    return told


async def _body(request: Request, dialect: Dialect) -> bytes:
    """
    Raises:
        MediaGone: a medium cannot stand in a file.
    """
    for media in request.media:
        if media.is_in_bucket:
            raise MediaGone(f"{media.url}: what is signed for an hour is no use in a batch file")
    urls, files = await Delivery().deliver(request, {})
    body = await spliced(dialect.render(request, urls), files)
    return await anyio.to_thread.run_sync(body.whole) if isinstance(body, SplicedBody) else body


def _line(item_id: str, path: str, body: bytes) -> bytes:
    custom_id, url = orjson.dumps(item_id), orjson.dumps(f"/v1{path}")
    return b'{"custom_id":%b,"method":"POST","url":%b,"body":%b}\n' % (custom_id, url, body)
