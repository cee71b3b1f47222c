"""What an endpoint may do with a request, and what must then stand in the store: FACTS as a table.

Written from the table of answers in the design's facts, not from the code that classifies them: this is the
other opinion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["ok", "transient", "terminal", "halting"]

NOBODY: Final = ("ConnectFailed", "ConnectionLost", "AttemptTimedOut", "Overloaded", "BrokenReply")


@dataclass(frozen=True, slots=True)
class Fate:
    """One way for a request to end.

    ``is_billed`` None: a coin decides. ``has_usage``: the answer carries its usage, so the bill is known.
    ``max_tries`` of this class, after which the item fails, or where ``then_halts`` is one more reason to
    halt.
    """

    name: str
    verdict: Verdict
    error_class: str | None
    state: Literal["billed", "not_billed", "possibly_billed"]
    status: int | None
    is_billed: bool | None = False
    has_usage: bool = False
    max_tries: int | None = None
    then_halts: bool = False

    @property
    def is_nobody(self) -> bool:
        """Whether an outage consists of such answers: nobody was there, or nobody in their right mind."""
        return self.error_class in NOBODY

    @property
    def is_alike_evidence(self) -> bool:
        """Whether a failure of this kind is a verdict on the item, and not on an hour of the night."""
        return self.verdict != "transient" or self.max_tries is not None


def _fates() -> tuple[Fate, ...]:
    transient: Final = "transient"
    terminal: Final = "terminal"
    halting: Final = "halting"
    no: Final = "not_billed"
    may: Final = "possibly_billed"
    return (
        Fate("ok", "ok", None, "billed", 200, True, True),
        Fate("ok_without_usage", "ok", None, "billed", 200, True),
        Fate("cut_off", "ok", None, "billed", 200, True, True),
        # the wire
        Fate("refused", transient, "ConnectFailed", no, None, then_halts=True),
        Fate("reset", transient, "ConnectionLost", may, None, None),
        Fate("broken_off", transient, "ConnectionLost", may, None, True),
        Fate("silence", transient, "AttemptTimedOut", may, None, None),
        # slow down, come back
        Fate("throttled", transient, "Throttled", no, 429),
        Fate("throttled_until", transient, "Throttled", no, 429),
        Fate("throttled_for_hours", halting, "WaitTooLong", no, 429),
        Fate("outage", transient, "Overloaded", may, 502, None),
        Fate("conflict", transient, "TimingConflict", no, 409),
        Fate("media_host_failed", transient, "MediaHostFailed", no, 500),
        # a 200 that is none
        Fate("truncated", transient, "BrokenReply", may, 200, True),
        Fate("page", transient, "BrokenReply", may, 200, True),
        Fate("event_stream", transient, "BrokenReply", may, 200, True),
        Fate("blocked", transient, "EmptyReply", "billed", 200, True, True, max_tries=2),
        Fate("no_choices", transient, "EmptyReply", may, 200, None, max_tries=2),
        Fate("error_in_200", transient, "UpstreamFailed", may, 200, None, max_tries=3),
        Fate("error_in_200_with_usage", transient, "UpstreamFailed", "billed", 200, True, True, max_tries=3),
        # somebody else's key, credit, channel: tried again before it halts
        Fate("channel_key", transient, "ChannelKeyRejected", no, 401, max_tries=3, then_halts=True),
        Fate("reserved", transient, "CreditReserved", no, 403, max_tries=2, then_halts=True),
        Fate("no_channel", transient, "NoChannel", no, 503, max_tries=4, then_halts=True),
        # this item
        Fate("bad_input", terminal, "BadInput", no, 400),
        Fate("content", terminal, "ContentBlocked", no, 400),
        Fate("unreadable", terminal, "MediaUnreadable", no, 500),
        Fate("too_large", terminal, "TooLarge", no, 413),
        Fate("not_served", terminal, "NotServed", no, 404),
        # everybody
        Fate("key", halting, "KeyRejected", no, 401),
        Fate("credit", halting, "OutOfCredit", no, 402),
        Fate("quota", halting, "OutOfCredit", no, 429),
        Fate("denied", halting, "AccessDenied", no, 403),
        Fate("unknown_model", halting, "UnknownModel", no, 404),
        Fate("wrong_address", halting, "WrongAddress", no, 404),
        Fate("no_price", halting, "NoGatewayPrice", no, 500),
    )


FATES: Final = {fate.name: fate for fate in _fates()}

PASSING: Final = (
    "reset",
    "broken_off",
    "silence",
    "throttled",
    "throttled_until",
    "outage",
    "conflict",
    "media_host_failed",
    "truncated",
    "page",
    "event_stream",
    "no_choices",
    "error_in_200",
    "error_in_200_with_usage",
    "channel_key",
    "reserved",
    "no_channel",
    "refused",
    "ok_without_usage",
    "cut_off",
)
"""What may happen to any request, now and then."""

EPISODES: Final = (
    "throttled",
    "throttled_until",
    "outage",
    "outage",
    "refused",
    "reset",
    "silence",
    "truncated",
    "channel_key",
    "reserved",
    "no_channel",
)
"""What may happen to all requests for minutes."""

LONG_OUTAGES: Final = ("outage", "outage", "refused", "reset", "silence", "page")
"""What may happen to all requests until somebody mends it."""

FOR_GOOD: Final = ("key", "credit", "quota", "denied", "wrong_address", "no_price", "throttled_for_hours")
"""What happens to all requests from one moment of the night on."""

ODDITIES: Final = (
    "bad_input",
    "content",
    "unreadable",
    "too_large",
    "not_served",
    "blocked",
    "error_in_200",
    "no_choices",
    "ok_without_usage",
    "cut_off",
    "denied",
    "unknown_model",
)
"""What may be wrong with one row, whenever it is asked."""
