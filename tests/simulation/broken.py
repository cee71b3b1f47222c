"""A promise that was not kept."""

from __future__ import annotations

from typing import Any

PAID = "nothing paid is lost"
TOKENS = "every token once"
ROWS = "every row once"
TWICE = "nothing is asked twice"
LIMIT = "at the limit"
HOLDS = "holds are kept"
TRIES = "retries by the rules"
KEYS = "one key a request"
NUMBERS = "attempts are numbered"
STOPS = "it stops when it should"
RATES = "told limits are kept"
FAIR = "first come, first served"
CROWDS = "nobody stampedes"
OUTAGES = "outages are waited out"
PLACES = "asked where it is served"
ENDS = "it ends"


class Broken(BaseException):
    """``promise`` is its name above. Not an Exception, so that no code under test can swallow it."""

    def __init__(self, promise: str, detail: str) -> None:
        super().__init__(f"{promise}: {detail}")
        self.promise = promise
        self.detail = detail
        self.evidence: Any = None
