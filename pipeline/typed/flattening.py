"""Any JSON Schema → the flat form that gateways pass on to models.

Gateways of the new-api family strip ``title`` and ``additionalProperties`` a few levels deep and do not
resolve ``$ref``; behind them, Gemini refuses a keyword that it does not know, lists of types, and enums of
anything but texts. So references are put in their places, and a node keeps a single ``type`` or an ``anyOf``
and the keywords that all of them know; what else a schema says of formats and values goes into words.
Nothing is lost by it: answers are checked against the document itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import orjson

from pipeline.errors import SchemaError

Node = dict[str, Any]

_KEPT: Final = (
    *("type", "description", "minItems", "maxItems", "minimum", "maximum", "minLength", "maxLength"),
    "pattern",
)
_IN_WORDS: Final = {
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of",
}
_BY_TYPE: Final = {"properties": "object", "items": "array", "prefixItems": "array"}
_MOST_NODES: Final = 5_000
"""Where a schema refers to itself along many ways, its flat form would grow past all use."""


def flattened(document: Mapping[str, Any]) -> Node:
    """The flat form of a whole document.

    A reference inside itself ends as a bare type: what is deeper is not described, only checked.

    Raises:
        SchemaError: a reference leads nowhere, or out of the document; or the flat form would be huge.
    """
    return _Flattening(document).node(document, ())


class _Flattening:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._nodes = 0

    def node(self, found: Any, above: tuple[str, ...]) -> Node:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise SchemaError(
                f"the schema has more than {_MOST_NODES:,} parts once its $ref are put in place"
            )
        if not isinstance(found, Mapping):
            return {}  # true or false
        found = dict(found)
        while isinstance(ref := found.pop("$ref", None), str):
            target = self._target(ref)
            if ref in above:
                return {name: target[name] for name in ("type",) if isinstance(target.get(name), str)}
            above = (*above, ref)
            found = {**target, **found}
        for part in found.pop("allOf", ()):
            _fold_in(found, self.node(part, above))
        types = found.get("type")
        if isinstance(types, list):
            del found["type"]
            if len(types) == 1:
                found["type"] = types[0]
            else:
                return self._any_of(found, [{**found, "type": one} for one in types], above)
        for name in ("anyOf", "oneOf"):
            if found.get(name):
                ways = found.pop(name)
                return self._any_of(found, [_sharing(found, way) for way in ways], above)
        return self._plain(found, above)

    def _any_of(self, found: Node, ways: list[Any], above: tuple[str, ...]) -> Node:
        flat: Node = {"anyOf": []}
        if isinstance(found.get("description"), str):
            flat["description"] = found["description"]
        for way in ways:
            way = way if isinstance(way, Mapping) else {}
            one = self.node({name: told for name, told in way.items() if name != "description"}, above)
            described = way.get("description")
            if isinstance(described, str) and described != flat.get("description"):
                one.setdefault("description", described)
            if one.get("type") == "null":
                one = {"type": "null"}
            for inner in one.get("anyOf", [one]):
                if inner not in flat["anyOf"]:
                    flat["anyOf"].append(inner)
        if len(flat["anyOf"]) == 1:
            return {**flat["anyOf"][0], **{k: v for k, v in flat.items() if k != "anyOf"}}
        return flat

    def _plain(self, found: Node, above: tuple[str, ...]) -> Node:
        if "const" in found:
            found["enum"] = [found["const"]]
        values = found.get("enum")
        if isinstance(values, list) and None in values and len(values) > 1:
            others = [value for value in values if value is not None]
            ways = [{**found, "enum": others}, {"type": "null"}]
            for way in ways:
                way.pop("const", None)
            return self._any_of(found, ways, above)
        if "type" not in found:
            known = [kind for name, kind in _BY_TYPE.items() if name in found]
            kinds = {_kind(value) for value in values} if isinstance(values, list) else set(known[:1])
            if kinds == {"integer", "number"}:
                kinds = {"number"}
            if len(kinds) == 1:
                found["type"] = kinds.pop()
        flat: Node = {name: found[name] for name in _KEPT if name in found}
        notes = []
        if isinstance(values, list):
            if all(isinstance(value, str) for value in values):
                flat["enum"] = values
            elif flat.get("type") != "null":
                notes.append(f"one of {', '.join(map(_json, values))}")
        notes += [f"{words} {_json(found[name])}" for name, words in _IN_WORDS.items() if name in found]
        if found.get("uniqueItems") is True:
            notes.append("no item twice")
        told = found.get("format")
        if isinstance(told, str):
            if told == "date-time":
                flat["format"] = told
            else:
                notes.append(f"format: {told}")
        if isinstance(found.get("properties"), Mapping) and found["properties"]:
            flat["properties"] = {
                str(name): self.node(inner, above) for name, inner in found["properties"].items()
            }
            required = [name for name in found.get("required", ()) if name in flat["properties"]]
            if required:
                flat["required"] = required
        elif isinstance(found.get("additionalProperties"), Mapping) and found["additionalProperties"]:
            values_are = self.node(found["additionalProperties"], above)
            notes.append(f"any keys, with values of this schema: {_json(values_are)}")
        items = found.get("items", found.get("prefixItems"))
        if isinstance(items, list):  # places of a tuple
            flat["items"] = self._any_of({}, items, above) if items else {}
        elif isinstance(items, Mapping):
            flat["items"] = self.node(items, above)
        if notes:
            flat["description"] = " ".join(
                [*filter(None, [flat.get("description")]), f"({'; '.join(notes)})"]
            )
        return flat

    def _target(self, ref: str) -> Node:
        """What a reference leads to: ``#``, ``#/$defs/Name``, or the name of an ``$anchor``."""
        if not ref.startswith("#"):
            raise SchemaError(f"its $ref {ref!r} leads out of the schema; put what it means into $defs")
        pointer = unquote(ref[1:])
        target: Any = self._document
        if pointer and not pointer.startswith("/"):
            target = _anchored(self._document, pointer)
        else:
            for step in pointer.split("/")[1:]:
                step = step.replace("~1", "/").replace("~0", "~")
                if isinstance(target, Mapping):
                    target = target.get(step)
                elif isinstance(target, list) and step.isdigit() and int(step) < len(target):
                    target = target[int(step)]
                else:
                    target = None
        if isinstance(target, bool):
            return {}
        if not isinstance(target, Mapping):
            raise SchemaError(f"its $ref {ref!r} leads nowhere")
        return dict(target)


def _fold_in(found: Node, part: Node) -> None:
    """One part of an ``allOf`` into the node that has it; what the node says itself goes first."""
    if "properties" in part:
        found["properties"] = {**part["properties"], **found.get("properties", {})}
    if "required" in part:
        found["required"] = [*dict.fromkeys([*found.get("required", ()), *part["required"]])]
    for name, told in part.items():
        found.setdefault(name, told)


def _sharing(found: Node, way: Any) -> Any:
    """One way of several, with the properties that stand beside them: objects are often written so."""
    if not isinstance(way, Mapping) or "properties" not in found or "$ref" in way:
        return {**{k: found[k] for k in ("type",) if k in found}, **way} if isinstance(way, Mapping) else way
    required = [*dict.fromkeys([*found.get("required", ()), *way.get("required", ())])]
    properties = {**found["properties"], **way.get("properties", {})}
    return {"type": "object", **way, "properties": properties, "required": required}


def _anchored(node: Any, name: str) -> Any:
    if isinstance(node, Mapping):
        if node.get("$anchor") == name:
            return node
        node = list(node.values())
    if isinstance(node, list):
        return next((hit for inner in node if (hit := _anchored(inner, name)) is not None), None)
    return None


def _kind(value: object) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case None:
            return "null"
    return "object" if isinstance(value, Mapping) else "array"


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
