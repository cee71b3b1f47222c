"""How the server behaves: its latency, its limits, its outage, TLS. One record, and its command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

RetryAfter = Literal["seconds", "date", "ms", "none"]
"""How a 429 names its time: `Retry-After: 1`, an HTTP date there, `retry-after-ms: 12`; or it is empty."""
OutageKind = Literal["503", "refuse"]

_CHOICES = {"retry_after": get_args(RetryAfter), "outage_kind": get_args(OutageKind)}


@dataclass(frozen=True, slots=True)
class Conduct:
    """Zero switches a behaviour off. Seconds of an outage count from the first request.

    ``jitter`` 0.2 draws latencies evenly from 0.8 to 1.2 of the given one, always the same; ``tail_seed``
    draws them from the heavy tail (`latencies`) instead, times ``tail_scale``. ``slots``: one more at once
    gets a 429. ``degrades_beyond``: with n at once, more than so many, the latency is multiplied by
    (n / so many) ** 1.5. An outage answers 503, or closes every connection and takes none.
    """

    latency_s: float = 0.0
    jitter: float = 0.0
    tail_seed: int = 0
    tail_scale: float = 1.0
    rpm: float = 0.0
    rpm_burst: float = 100.0
    tpm: float = 0.0
    tpm_burst_s: float = 2.0
    retry_after: RetryAfter = "seconds"
    slots: int = 0
    degrades_beyond: int = 0
    outage_from_s: float = 0.0
    outage_to_s: float = 0.0
    outage_kind: OutageKind = "503"
    tls: int = 0

    @property
    def is_plain(self) -> bool:
        """Every request is answered alike, so none needs a decision of its own."""
        return not (
            self.jitter
            or self.tail_seed
            or self.rpm
            or self.tpm
            or self.slots
            or self.degrades_beyond
            or self.outage_to_s
        )

    def arguments(self) -> list[str]:
        """The command line that `parsed` reads."""
        return [argument for one in _options() for argument in (one, str(getattr(self, _name(one))))]


def parsed(arguments: Sequence[str] | None, description: str | None) -> tuple[Conduct, int]:
    """What the server's command line asks for, and its port."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--port", type=int, default=0)
    default = Conduct()
    for option in _options():
        value = getattr(default, _name(option))
        options.add_argument(option, type=type(value), default=value, choices=_CHOICES.get(_name(option)))
    chosen = vars(options.parse_args(arguments))
    port = chosen.pop("port")
    return Conduct(**chosen), port


def _options() -> Iterator[str]:
    for one in fields(Conduct):
        yield f"--{one.name.replace('_', '-')}"


def _name(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
