"""How a model is asked for a schema, and what is said next where that did not do.

``learned`` is what is known of an endpoint: model → how it is to be asked, as the first answer that told has
shown. No model there yet: by ``response_format`` alone.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace

from pipeline.errors import AttemptError, BadInput, InvalidAnswer
from pipeline.records import Objection, Reply, Request, SchemaIn
from pipeline.typed.answers import invalid_answer

Learned = MutableMapping[str, SchemaIn]


def as_learned(request: Request, learned: Learned) -> Request:
    """The request, its schema said in the way that the model has shown to need."""
    if request.schema is None or request.schema_in != "format":
        return request
    known = learned.get(request.model, "format")
    return request if known == "format" else replace(request, schema_in=known)


def hold_against_schema(reply: Reply, request: Request, learned: Learned) -> None:
    """Check an answer, and learn from it. ``request``: as it was sent.

    Raises:
        InvalidAnswer: it does not keep to the schema.
    """
    if request.schema is None:
        return
    invalid = invalid_answer(reply, request.schema)
    if request.objection is None and request.model not in learned:
        if request.schema_in == "words" or invalid is None:
            learned[request.model] = request.schema_in
        elif reply.finish_reason != "length":
            learned[request.model] = "both"
    if invalid is not None:
        raise invalid


def remedy(request: Request, said_in: SchemaIn, error: AttemptError, learned: Learned) -> Request | None:
    """What to ask after this error, if anything; each once. ``said_in``: how the schema was said.

    To an answer that does not keep to the schema, its fault. To a refusal, where the model has not answered
    to ``response_format`` yet, the same question without: perhaps that is what was refused.
    """
    if request.schema is None or request.objection is not None:
        return None
    if isinstance(error, InvalidAnswer):
        answer = error.reply.text if error.reply else None
        return replace(request, objection=Objection(answer or "", error.fault))
    is_untried = learned.get(request.model, "words") == "words"
    if isinstance(error, BadInput) and said_in == "format" and is_untried:
        return replace(request, schema_in="words")
    return None
