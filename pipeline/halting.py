"""When an endpoint has shown that it answers nobody: the rules that halt a model, or the whole run.

* No success yet with this model: a halting error halts it at once (what may be retried was retried first).
* After a success: five different items in a row, else each is a terminal failure of its own.
* The first twenty answers of a run all end in the same terminal class: the whole run halts; bad manifest
  rows are no answers.
* Where a person wants that: so large a share of the answers about media did not see them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from pipeline.errors import AttemptError, HaltingError, MediabatchError, TransientError
from pipeline.records import Media, Seen

HALTS_IN_A_ROW = 5
FIRST_ANSWERS = 20
FEWEST_ABOUT_MEDIA = 10
"""Answers before their share says anything."""


class AllAlike(MediabatchError):
    """The first answers of the run all failed in the same way."""

    def __init__(self, error: AttemptError) -> None:
        super().__init__(
            f"the first {FIRST_ANSWERS} answers all failed as {error.error_class}, the last with: {error}; "
            "something is wrong with all of them, so the run stopped before paying for more"
        )
        self.last = error


class MediaUnseen(MediabatchError):
    """Too many answers whose usage says that media were not seen."""

    def __init__(self, unseen: int, answers: int, modalities: Collection[str]) -> None:
        super().__init__(
            f"of {answers:,} answers about media, {unseen:,} did not see what was sent "
            f"({', '.join(modalities)}): the endpoint drops it silently, so the run stopped before paying "
            "for more"
        )


class HaltRules:
    """Of one endpoint: what one more failure says of a model."""

    def __init__(self) -> None:
        self.succeeded: set[str] = set()  # models
        self._halted: set[str] = set()
        self._in_a_row: defaultdict[str, int] = defaultdict(int)

    def ok(self, model: str) -> None:
        self.succeeded.add(model)
        self._in_a_row[model] = 0

    def halts_model(self, model: str, error: AttemptError) -> bool:
        """Whether this item's last error halts the model. Call it once an item."""
        halting = isinstance(error, HaltingError) or (isinstance(error, TransientError) and error.then_halts)
        if not halting:
            self._in_a_row[model] = 0
            return False
        self._in_a_row[model] += 1
        if model not in self.succeeded or self._in_a_row[model] >= HALTS_IN_A_ROW:
            self._halted.add(model)
        return model in self._halted  # for good: what was in flight then is caught in the halt too


class FirstAnswers:
    """Of one run: whether its first answers were all the same kind of failure."""

    def __init__(self) -> None:
        self._class: str | None = None
        self._answers = 0

    def ok(self) -> None:
        self._answers = FIRST_ANSWERS  # one success settles it for good

    def failed(self, error: AttemptError) -> AllAlike | None:
        """Why the run should halt, if it should. Call it once a failed item."""
        if self._answers >= FIRST_ANSWERS:
            return None
        if isinstance(error, TransientError) and error.max_tries is None:
            return None  # an outage is no verdict on the items
        if self._class not in (None, error.error_class):
            self._answers = FIRST_ANSWERS
            return None
        self._class = error.error_class
        self._answers += 1
        return AllAlike(error) if self._answers == FIRST_ANSWERS else None


class UnseenMedia:
    """Of one run: whether more answers than this share did not see the media that were sent."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._answers = 0
        self._unseen = 0
        self._modalities: dict[str, None] = {}

    def answered(self, media: Sequence[Media], seen: Sequence[Seen]) -> MediaUnseen | None:
        """Why the run should halt, if it should. Call it once an answer that was ok."""
        if not media:
            return None
        self._answers += 1
        missing = [one.modality for one, saw in zip(media, seen, strict=True) if saw == "no"]
        self._unseen += bool(missing)
        self._modalities.update(dict.fromkeys(missing))
        if self._answers >= FEWEST_ABOUT_MEDIA and self._unseen >= max(1.0, self._share * self._answers):
            return MediaUnseen(self._unseen, self._answers, self._modalities)
        return None
