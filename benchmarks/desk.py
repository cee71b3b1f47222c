"""What the server decides about each request as it arrives: answer after so long, or refuse.

Pure but for the clock's reading that it is handed: seconds since the first request. It keeps the times of
all decisions, from which the parts of the bench read rates (`timeline`).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from email.utils import formatdate
from itertools import repeat
from typing import NamedTuple

import orjson

from benchmarks import work
from benchmarks.buckets import Bucket
from benchmarks.conduct import Conduct
from benchmarks.latencies import heavy_tail, jittered
from benchmarks.responses import response

_DEGRADING = 1.5
_THROTTLED = orjson.dumps(
    {
        "error": {
            "message": "Rate limit reached",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
)
_DOWN = orjson.dumps(
    {"error": {"message": "system is down", "type": "new_api_error", "param": "", "code": "system_error"}}
)


class Decision(NamedTuple):
    """``is_accepted``: it takes a slot until it is answered."""

    response: bytes
    after_s: float
    is_accepted: bool


class Desk:
    """One server's decisions. ``started_at`` is the wall clock's time of second 0, for HTTP dates."""

    def __init__(self, conduct: Conduct, good: bytes) -> None:
        self._conduct = conduct
        self._good = good
        self._down = response("503 Service Unavailable", _DOWN)
        self._limits = [
            *([(Bucket(conduct.rpm / 60, conduct.rpm_burst), 1.0)] if conduct.rpm else []),
            *(
                [
                    (
                        Bucket(conduct.tpm / 60, conduct.tpm / 60 * conduct.tpm_burst_s),
                        float(work.TOKENS_OF_ONE),
                    )
                ]
                if conduct.tpm
                else []
            ),
        ]
        self._latency = self._latencies().__next__
        self.started_at = 0.0
        self.in_flight = 0
        self.accepted = array("d")
        self.throttled = array("d")
        self.down = array("d")
        self.answered = array("d")

    def receive(self, at_s: float) -> Decision:
        conduct = self._conduct
        if conduct.outage_from_s <= at_s < conduct.outage_to_s:
            self.down.append(at_s)
            return Decision(self._down, 0.0, False)
        if conduct.slots and self.in_flight >= conduct.slots:
            self.throttled.append(at_s)
            return Decision(self._throttled(conduct.latency_s, at_s), 0.0, False)
        wait_s = max((bucket.wait_s(amount, at_s) for bucket, amount in self._limits), default=0.0)
        if wait_s:
            self.throttled.append(at_s)
            return Decision(self._throttled(wait_s, at_s), 0.0, False)
        for bucket, amount in self._limits:
            bucket.take(amount)
        self.accepted.append(at_s)
        self.in_flight += 1
        return Decision(self._good, self._latency_s(), True)

    def answer(self, at_s: float) -> None:
        """An accepted request has had its answer, or its connection is gone."""
        self.in_flight -= 1
        self.answered.append(at_s)

    def _latency_s(self) -> float:
        conduct = self._conduct
        latency_s = self._latency()
        if conduct.degrades_beyond and self.in_flight > conduct.degrades_beyond:
            latency_s *= (self.in_flight / conduct.degrades_beyond) ** _DEGRADING
        return latency_s

    def _latencies(self) -> Iterator[float]:
        """Of a server that is not overloaded."""
        conduct = self._conduct
        if conduct.tail_seed:
            return (latency_s * conduct.tail_scale for latency_s in heavy_tail(conduct.tail_seed))
        if conduct.jitter:
            return jittered(conduct.latency_s, conduct.jitter)
        return repeat(conduct.latency_s)

    def _throttled(self, wait_s: float, at_s: float) -> bytes:
        """A 429 that names the time as this server does; never one that is too early."""
        match self._conduct.retry_after:
            case "seconds":
                header = f"Retry-After: {math.ceil(wait_s)}"
            case "date":
                header = f"Retry-After: {formatdate(math.ceil(self.started_at + at_s + wait_s), usegmt=True)}"
            case "ms":
                header = f"retry-after-ms: {math.ceil(wait_s * 1000)}"
            case "none":
                return response("429 Too Many Requests", b"")
        return response("429 Too Many Requests", _THROTTLED, header)
