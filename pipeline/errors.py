"""The exception tree. A class carries its facts and composes its own sentence; policy reads the class.

    MediabatchError
    ├── UsageError                 a person's mistake, found before anything is sent: exit 2
    │   ├── ManifestError          the manifest as a whole cannot be read; carries path, line, column
    │   ├── PriceBookError         a price book cannot be read; carries its path
    │   ├── PromptError            a prompt cannot be used: its file, its template, a column that it names
    │   ├── SchemaError            the schema of the answers cannot be used
    │   ├── RunFinished            the run to go on with is done: exit 0
    │   └── StoreError             the output folder cannot be used
    ├── StoreUnwritable            the output folder stopped taking writes: the run halts, exit 3
    │   └── StoreUnreachable       the bucket stopped answering
    ├── BucketFailed               a bucket did not do what it was asked; told as one of the others
    ├── LedgerDamaged              the run's ledger cannot be read: the run halts, exit 3
    ├── EndpointDown               nobody answered for longer than a run waits: the endpoint halts, exit 3
    ├── RowError                   one manifest row cannot be asked: that item fails
    │   ├── PromptFailed           the prompt's template could not be filled in from its cells
    │   ├── NeedsTooMuch           it needs more tokens than a minute's limit allows
    │   ├── Unpriced               there is a budget, and no price for its model
    │   └── CurrencyDiffers        there is a budget, in another currency
    ├── MediaUnreachable           a medium cannot be had, so nothing was sent: that item fails
    │   ├── FetchFailed            its host did not answer, or failed just now: fetched again
    │   ├── MediaMissing           its host does not give it out: 401, 403, 404, 410
    │   ├── AddressRefused         it is, or leads to, an address of this network
    │   ├── MediaOversized         it is larger than what goes inline
    │   └── MediaMistaken          its bytes are no whole medium of the kind that the manifest says
    └── AttemptError               what an endpoint, or the wire to it, did with one attempt
        ├── TransientError         retried; when tries run out the item fails, or the run halts (`then_halts`)
        │   ├── Throttled          429; the gate is held
        │   ├── Overloaded         5xx: may have been billed
        │   ├── TimingConflict     408, 409, 425
        │   ├── ConnectFailed      nothing was sent; all tries, then halts
        │   ├── ConnectionLost     broke after the request was (perhaps) written
        │   ├── AttemptTimedOut    no whole reply in time
        │   ├── Lost               the process ended before the answer was on record
        │   ├── BrokenReply        200, but no chat completion in it
        │   ├── UpstreamFailed     200 with an error object: a few tries
        │   ├── EmptyReply         200 without choices, or blocked: two tries
        │   ├── MediaHostFailed    the endpoint could not fetch the media just now
        │   ├── ChannelKeyRejected 401 of the gateway's own upstream: three tries, then halts
        │   ├── CreditReserved     403 quota: one retry, then halts
        │   └── NoChannel          503 model_not_found: a few tries, then halts
        ├── TerminalError          this item fails, the run goes on
        │   ├── BadInput           400, 422: this input
        │   ├── ContentBlocked     moderation
        │   ├── MediaUnreadable    the endpoint could not read the media, and will not
        │   ├── TooLarge           413, or a reply past the cap
        │   ├── MediaGone          a local file went away or grew, an object could not be signed
        │   ├── NotServed          404 for this input
        │   ├── InvalidAnswer      200, but not what the schema asks for, even after the fault was named
        │   └── Unexpected         an HTTP status nobody foresaw
        └── HaltingError           the endpoint (for this model) answers nobody
            ├── KeyRejected        401
            ├── OutOfCredit        402, insufficient_quota
            ├── AccessDenied       403: account, address or model not allowed
            ├── WrongAddress       404 Invalid URL, a redirect: the base URL is wrong
            ├── UnknownModel       404 model_not_found
            ├── WaitTooLong        429 that names a time past all patience
            └── NoGatewayPrice     500 model_price_error

A bug of ours is none of these: it surfaces as itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pipeline.records import AttemptState, Reply


class MediabatchError(Exception):
    """Everything this library raises on purpose; ``str()`` is a sentence for a person."""

    @property
    def error_class(self) -> str:
        """The name that stands in the store's ``error_class`` column."""
        return type(self).__name__


class UsageError(MediabatchError):
    """A person's mistake, found before anything was sent."""


class ManifestError(UsageError):
    """The manifest as a whole cannot be read."""

    def __init__(self, path: object, problem: str, *, line: int | None = None, hint: str = "") -> None:
        where = str(path) if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {problem}" + (f" {hint}" if hint else ""))
        self.path = str(path)
        self.line = line
        self._told = problem, hint

    def of(self, address: str) -> ManifestError:
        """The same about a manifest that was fetched: its copy's path means nothing to anybody."""
        problem, hint = self._told
        return ManifestError(address, problem.replace(self.path, address), line=self.line, hint=hint)


class PriceBookError(UsageError):
    """A price book is not what it should be."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"price book {path}: {problem}")
        self.path = str(path)


class PromptError(UsageError):
    """A prompt cannot be used."""


class SchemaError(UsageError):
    """The schema of the answers cannot be used."""


class RunFinished(UsageError):
    """The run that was to go on has come to its end: there is nothing to do."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} is finished: there is nothing to go on with")
        self.run_id = run_id


class StoreError(UsageError):
    """The output folder cannot be used."""


class StoreUnwritable(MediabatchError):
    """The output folder stopped taking writes."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"cannot write to {path}: {reason}; make room or mend it, then start again")


class StoreUnreachable(StoreUnwritable):
    """The bucket that the store is in answered before, and does not any more."""

    def __init__(self, path: object, reason: str) -> None:
        MediabatchError.__init__(self, f"{path}: {reason}; start again when it answers")


class BucketFailed(MediabatchError):
    """A bucket did not do what it was asked. ``reason`` is the end of a sentence, without a secret."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")
        self.reason = reason


class LedgerDamaged(MediabatchError):
    """A run's ledger cannot be read."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(
            f"the ledger {path} is damaged ({reason}); start again: what can still be read of it is saved"
        )
        self.reason = f"the ledger {path} was damaged ({reason})"


class RowError(MediabatchError):
    """One manifest row cannot be asked."""

    def __init__(self, row: int, problem: str, *, column: str | None = None) -> None:
        where = f"row {row}" if column is None else f"row {row}, column {column!r}"
        super().__init__(f"{where}: {problem}")
        self.row = row
        self.column = column


class PromptFailed(RowError):
    """The template of a prompt could not be filled in from the row's cells."""


class NeedsTooMuch(RowError):
    """The request could never pass a limit of tokens a minute."""

    def __init__(self, row: int, tokens: float, limit: int) -> None:
        super().__init__(
            row,
            f"it needs about {tokens:,.0f} tokens, and --tpm allows {limit:,} a minute: it could never go; "
            "raise --tpm, or lower --max-tokens",
        )


class Unpriced(RowError):
    """There is a budget, and no price for the row's model."""

    def __init__(self, row: int, model: str) -> None:
        super().__init__(
            row,
            f"no price is known for model {model!r}, so no budget can be held with it; give a --price-book",
        )


class CurrencyDiffers(RowError):
    """There is a budget, and the row's model is priced in another currency."""

    def __init__(self, row: int, model: str, currency: str, of_budget: str) -> None:
        super().__init__(
            row,
            f"model {model!r} is priced in {currency}, the budget in {of_budget}: they cannot be added",
        )


class MediaUnreachable(MediabatchError):
    """A medium cannot be had; nothing was sent, and nothing billed. ``url``, without its signature, is set by
    whoever knows it."""

    is_passing: ClassVar[bool] = False

    def __init__(self, problem: str, *, url: str | None = None) -> None:
        super().__init__(problem)
        self.url = url

    def __str__(self) -> str:
        return super().__str__() if self.url is None else f"{self.url}: {super().__str__()}"


class FetchFailed(MediaUnreachable):
    """Its host did not answer, or failed just now."""

    is_passing = True

    def __init__(self, problem: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class MediaMissing(MediaUnreachable):
    """Its host does not give it out."""

    def __init__(self, status: int) -> None:
        super().__init__(f"its host answers {status}")
        self.status = status


class AddressRefused(MediaUnreachable):
    """It is, or leads to, an address that only this network can reach."""

    def __init__(self, host: str, address: str) -> None:
        where = address if host == address else f"{host} ({address})"
        super().__init__(f"{where} is an address of this network, which only --allow-private may ask")
        self.host = host
        self.address = address


class MediaOversized(MediaUnreachable):
    """It is larger than what goes inline."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"it has more than {most_bytes / 1e6:.0f} MB, which is the most that goes inline")
        self.most_bytes = most_bytes


class MediaMistaken(MediaUnreachable):
    """Its bytes are not one whole medium of the kind that the manifest says."""


class EndpointDown(MediabatchError):
    """Nobody answered for longer than a run waits."""

    def __init__(self, host: str, seconds: float, last: MediabatchError) -> None:
        super().__init__(
            f"{host} has answered nobody for {seconds:,.0f} s, which is --max-outage (the last try: {last}); "
            "resume when it is back"
        )
        self.last = last


class AttemptError(MediabatchError):
    """What an endpoint, or the wire to it, did with one attempt.

    ``state`` is what is known of the bill; ``reply`` is set where the answer was parsed and carried usage.
    """

    default_state: ClassVar[AttemptState] = "not_billed"

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        state: AttemptState | None = None,
        reply: Reply | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code
        self.request_id = request_id
        self.reply = reply
        self.state: AttemptState = state or ("billed" if reply and reply.usage else self.default_state)
        self.retry_after_s = retry_after_s
        self.headers: Mapping[str, str] | None = None  # of the answer, where there was one
        self.said: str | None = None  # the answer's body, as far as it is kept


class TransientError(AttemptError):
    """Retried. ``max_tries`` caps the tries of one class; ``then_halts``: an item that used them up halts."""

    max_tries: ClassVar[int | None] = None
    then_halts: ClassVar[bool] = False


class Throttled(TransientError):
    """The endpoint asked us to slow down."""


class Overloaded(TransientError):
    """A 5xx: overload, a bad gateway or a time-out behind it."""

    default_state = "possibly_billed"


class TimingConflict(TransientError):
    """408, 409 or 425."""


class ConnectFailed(TransientError):
    """Nothing was sent: refused, name not found, or the TLS handshake failed. Nobody is there to answer."""

    then_halts = True


class ConnectionLost(TransientError):
    """The connection broke when the request may already have been written."""

    default_state = "possibly_billed"


class AttemptTimedOut(TransientError):
    """No whole reply arrived in time."""

    default_state = "possibly_billed"


class Lost(TransientError):
    """The process ended, or was told to, before the answer was on record."""

    default_state = "possibly_billed"


class BrokenReply(TransientError):
    """A 200 that holds no chat completion: truncated JSON, HTML, an event stream."""

    default_state = "possibly_billed"


class UpstreamFailed(TransientError):
    """A 200 with an ``error`` object in its body."""

    default_state = "possibly_billed"
    max_tries = 3


class EmptyReply(TransientError):
    """A 200 with no choices, or blocked with an empty text."""

    default_state = "possibly_billed"
    max_tries = 2


class MediaHostFailed(TransientError):
    """The endpoint could not fetch the media just now: time-out, DNS or 5xx of the media's host."""


class ChannelKeyRejected(TransientError):
    """The gateway's upstream rejected the gateway's key."""

    max_tries = 3
    then_halts = True


class CreditReserved(TransientError):
    """No credit, or under concurrency a reservation that did not fit."""

    max_tries = 2
    then_halts = True


class NoChannel(TransientError):
    """No channel of the gateway serves the model at the moment."""

    max_tries = 4
    then_halts = True


class TerminalError(AttemptError):
    """This item fails; the run goes on."""


class BadInput(TerminalError):
    """The endpoint refuses this input."""


class ContentBlocked(TerminalError):
    """A moderation or content rule refuses this input."""


class MediaUnreadable(TerminalError):
    """The endpoint cannot get or decode the media, and will not."""


class TooLarge(TerminalError):
    """The request or the reply is too large."""


class MediaGone(TerminalError):
    """After the manifest was read, a local file went away or grew past the limit; or an object in a bucket
    cannot be signed."""


class NotServed(TerminalError):
    """404 for this input."""


class InvalidAnswer(TerminalError):
    """The answer does not keep to the schema. It was paid for; the item is asked once more, with the fault
    named."""

    default_state = "billed"

    def __init__(self, fault: str, reply: Reply | None = None) -> None:
        super().__init__(f"the answer does not keep to the schema: {fault}", http_status=200, reply=reply)
        self.fault = fault


class Unexpected(TerminalError):
    """An HTTP status nobody foresaw."""

    default_state = "possibly_billed"


class HaltingError(AttemptError):
    """The endpoint answers nobody, for this model at least."""


class KeyRejected(HaltingError):
    """The endpoint rejects the key."""


class OutOfCredit(HaltingError):
    """The account is empty."""


class AccessDenied(HaltingError):
    """The account, the address or the model is not allowed."""


class WrongAddress(HaltingError):
    """Nothing like a chat-completions endpoint answers at the base URL."""


class UnknownModel(HaltingError):
    """The endpoint does not know the model."""


class WaitTooLong(HaltingError):
    """The endpoint asks to wait for longer than a run does."""


class NoGatewayPrice(HaltingError):
    """The gateway has no price for the model."""
