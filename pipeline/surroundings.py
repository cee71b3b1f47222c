"""What a run meets outside itself: threads, the wire, prices, the clock, the disk.

One seam for all of them, so that a whole night can be played in simulated surroundings: virtual time, an
endpoint that fails on purpose, a disk that fills up, a process that dies between any two writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import anyio.to_thread

from pipeline.endpoints import utc_now
from pipeline.gate import Clock
from pipeline.ledger import Ledger
from pipeline.media.delivery import Delivery, open_delivery
from pipeline.off_loop import OffLoop, own_thread
from pipeline.pricing import ListPrices, PriceBook
from pipeline.sealing import PART_ITEMS
from pipeline.store.places import Place
from pipeline.store.writer import RunWriter
from pipeline.transport import Transport, WireSettings, open_transport


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The real ones, unless told otherwise.

    ``off_loop`` is how a blocking call leaves the event loop, ``own_thread`` how one does that comes often;
    ``clock`` tells the seconds that anyio sleeps by (its own function takes ten times as long).
    """

    off_loop: OffLoop = anyio.to_thread.run_sync
    own_thread: Callable[[], AbstractContextManager[OffLoop]] = own_thread
    reach: Callable[[WireSettings], AbstractAsyncContextManager[Transport]] = open_transport
    deliver: Callable[..., AbstractAsyncContextManager[Delivery]] = open_delivery
    price_book: Callable[[], PriceBook] = ListPrices
    now: Callable[[], datetime] = utc_now
    clock: Clock = time.monotonic
    open_ledger: Callable[[Path], Ledger] = Ledger.open
    run_writer: Callable[[Place, str, datetime], RunWriter] = RunWriter
    part_items: int = PART_ITEMS


THE_REAL_ONES = Surroundings()
