"""JSON Schema (draft 2020-12) of manifests and of nodes' parameters, for editors that complete and check input.

A manifest that the schema refuses is refused by the validator too. The reverse does not hold: a schema cannot express
cycles, unknown ids, kinds that do not match, or a node's checks of several parameters together.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Union

import attrs

from engine.manifest.parameters import parameter_fields, parameter_types
from engine.manifest.plan import Caps, Registry
from nodes.contract import AnyNode

__all__ = ["DIALECT", "manifest_schema", "parameters_schema"]

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN: Mapping[Any, str] = {int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null"}
_BOUNDS = {"above": "exclusiveMinimum", "at_least": "minimum", "at_most": "maximum"}


def parameters_schema(node_class: type[AnyNode]) -> Schema:
    """Return the schema of a node's `params` as an object."""
    hints = parameter_types(node_class)
    fields = parameter_fields(node_class)
    schema: Schema = {
        "type": "object",
        "description": inspect.getdoc(node_class) or "",
        "properties": {name: _parameter(field, hints.get(name, Any)) for name, field in fields.items()},
        "additionalProperties": False,
    }
    if required := [name for name, field in fields.items() if field.default is attrs.NOTHING]:
        schema["required"] = required
    return schema


def _parameter(field: attrs.Attribute[Any], hint: Any) -> Schema:
    schema = _type(hint)
    facts = field.metadata
    if help_text := facts.get("help"):
        schema["description"] = help_text
    if field.default is not attrs.NOTHING:
        factory = getattr(field.default, "factory", None)
        schema["default"] = field.default if factory is None else factory()
    for bound, keyword in _BOUNDS.items():
        if (value := facts.get(bound)) is not None:
            schema[keyword] = value
    if (choices := facts.get("choices")) is not None:
        schema["enum"] = [*choices, *([None] if type(None) in typing.get_args(hint) else [])]
    return schema


def _type(hint: Any) -> Schema:
    """Return the schema of a type hint; a type that JSON cannot express allows any value."""
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type(each) for each in inner]}
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if origin is list:
        return {"type": "array", "items": _type(inner[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(inner[1])}
    return {}


def manifest_schema(registry: Registry, caps: Caps | None = None) -> Schema:
    """Return the schema of a manifest, with the parameters of each node type.

    Args:
      registry: Node type → class.
      caps: Limits on the size of a manifest.
    """
    caps = caps or Caps()
    return {
        "$schema": DIALECT,
        "title": "Headrace pipeline manifest",
        "type": "object",
        "properties": {
            "$schema": {"type": ["string", "null"], "description": "location of this schema, for editors"},
            "version": {"const": "v1"},
            "metadata": _fields(name=_text(), description=_text(), created_at=_text("ISO 8601")),
            "nodes": {"type": "array", "minItems": 1, "maxItems": caps.nodes, "items": _node(registry, caps)},
            "connections": {
                "type": ["array", "null"],
                "maxItems": caps.edges,
                "items": {
                    **_fields(**{"from": _id(caps), "to": _id(caps)}),
                    "type": "object",
                    "required": ["from", "to"],
                },
            },
        },
        "required": ["version", "nodes"],
        "additionalProperties": False,
        "$defs": {name: parameters_schema(node_class) for name, node_class in registry.items()},
    }


def _node(registry: Registry, caps: Caps) -> Schema:
    gpu = _fields(type=_text("cuda, rocm or metal"), min_memory_gb=_number(), required=_flag())
    cpu = _fields(cores={"type": ["integer", "null"]}, arch=_text("x86_64 or aarch64, for example"))
    node = _fields(
        id=_id(caps),
        node_type={"enum": list(registry), "description": "type of the node"},
        params={"type": ["object", "string", "null"], "description": "its parameters, or a string that holds them"},
        is_streaming=_flag("has no effect: every node streams"),
        capabilities=_fields(gpu=gpu, cpu=cpu, memory_gb=_number()),
        host=_text("preferred host; a hint"),
        runtime_hint=_text("unspecified, cpython, auto, …"),
        is_output=_flag("return the node's output even if other nodes follow it"),
    )
    return {**node, "type": "object", "required": ["id", "node_type"], "allOf": _by_type(registry)}


def _by_type(registry: Registry) -> list[Schema]:
    """Return a rule for each node type that sets the schema of `params`."""
    rules: list[Schema] = []
    for name, node_class in registry.items():
        needs = any(field.default is attrs.NOTHING for field in parameter_fields(node_class).values())
        others: Sequence[str] = ["string"] if needs else ["string", "null"]
        then: Schema = {"properties": {"params": {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": list(others)}]}}}
        if needs:
            then["required"] = ["params"]
        rules.append({"if": {"properties": {"node_type": {"const": name}}, "required": ["node_type"]}, "then": then})
    return rules


def _fields(**properties: Schema) -> Schema:
    """Return the schema of an object with these optional properties; null is allowed in place of the object."""
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description} if description else schema


def _text(description: str = "") -> Schema:
    return _described({"type": ["string", "null"]}, description)


def _flag(description: str = "") -> Schema:
    return _described({"type": ["boolean", "null"]}, description)


def _number() -> Schema:
    return {"type": ["number", "null"]}


def _id(caps: Caps) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": caps.id_bytes}
