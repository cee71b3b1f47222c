"""A JSON Schema as a run needs it: what is sent, what is said in words, what an answer is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import orjson

from pipeline.dialects.wire import plain
from pipeline.errors import SchemaError
from pipeline.typed.flattening import flattened

_NAME: Final = "answer"
"""OpenAI wants a name; nobody sees it."""
_LONGEST_FAULT: Final = 240
_MOST_FAULTS: Final = 3


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """One for all requests of a run. Two are equal where their documents are.

    ``flat``: as models see it. ``response_format``: the field of that name, as JSON. ``words``: how it is
    asked for in a prompt.
    """

    digest: str
    document: Mapping[str, Any] = field(compare=False, repr=False)
    flat: Mapping[str, Any] = field(compare=False, repr=False)
    response_format: bytes = field(compare=False, repr=False)
    words: str = field(compare=False, repr=False)
    _validator: Any = field(compare=False, repr=False)

    @classmethod
    def of(cls, document: object) -> AnswerSchema:
        """
        Raises:
            SchemaError: it is no JSON Schema, or none that could be sent.
        """
        if not isinstance(document, Mapping):
            raise SchemaError("it is no JSON Schema: that is a JSON object")
        # A start without a schema has no use for it.
        import jsonschema_rs

        try:
            text = orjson.dumps(document)
            flat = flattened(document)
            whole = dict(document)
            jsonschema_rs.meta.validate(whole)
            validator = jsonschema_rs.validator_for(whole, validate_formats=True, retriever=_nowhere)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            raise SchemaError(f"it is no valid JSON Schema: {_fault(error)}") from None
        except (TypeError, ValueError, RecursionError, AttributeError) as error:
            raise SchemaError(f"it is no valid JSON Schema: {plain(str(error))}") from None
        shape = orjson.dumps(flat).decode()
        return cls(
            digest=blake2b(text, digest_size=16).hexdigest(),
            document=document,
            flat=flat,
            response_format=orjson.dumps(
                {"type": "json_schema", "json_schema": {"name": _NAME, "schema": flat}}
            ),
            words=f"Answer with JSON alone, and no word around it, that keeps to this JSON schema:\n{shape}",
            _validator=validator,
        )

    @property
    def roots(self) -> frozenset[str]:
        """The types that a whole answer may have; none: any."""
        ways = self.flat.get("anyOf", [self.flat])
        return frozenset() if any("type" not in way for way in ways) else frozenset(w["type"] for w in ways)

    def fault_of(self, value: object) -> str | None:
        """What is wrong with a value, in a sentence; None where it is valid."""
        if self._validator.is_valid(value):
            return None
        faults = []
        for error in self._validator.iter_errors(value):
            faults.append(_fault(error))
            if len(faults) == _MOST_FAULTS:
                break
        return "; ".join(faults)

    def objection_to(self, fault: str) -> str:
        """What is said to an endpoint about its answer."""
        return f"That answer does not keep to the schema: {fault}.\n{self.words}"


def _fault(error: Any) -> str:
    """Where, as in ``items[2].price``, and what."""
    where = ""
    for step in getattr(error, "instance_path", ()):
        where += f"[{step}]" if isinstance(step, int) else f".{step}" if where else str(step)
    told = plain(getattr(error, "message", None) or str(error), _LONGEST_FAULT)
    return f"{where}: {told}" if where else told


def _nowhere(uri: str) -> Any:
    """Nothing is fetched."""
    raise ValueError(f"{uri} is not fetched; put what it means into $defs")
