"""Check a node's parameters against its class, report every fault with its path, and only then build the node."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Union
from weakref import WeakKeyDictionary

import attrs

from engine.errors import Fault
from nodes.contract import AnyNode

__all__ = ["build_node", "has_json_type", "parameter_fields", "parameter_types", "type_name"]


def parameter_fields(node_class: type[AnyNode]) -> dict[str, attrs.Attribute[Any]]:
    """Return the parameters of a node class: the attrs fields that its constructor accepts."""
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(node_class)  # type: ignore[arg-type]
    return {field.name: field for field in fields if field.init}


_types: WeakKeyDictionary[type[AnyNode], Mapping[str, Any]] = WeakKeyDictionary()


def parameter_types(node_class: type[AnyNode]) -> Mapping[str, Any]:
    """Return name → declared type; cached, because resolving type hints takes longer than the rest of `build_node`."""
    known = _types.get(node_class)
    if known is None:
        known = _types[node_class] = typing.get_type_hints(node_class)
    return known


def build_node(node_class: type[AnyNode], params: Mapping[str, Any], path: str, faults: list[Fault]) -> AnyNode | None:
    """Build a node from unchecked parameters; if they have faults, note all of them and return None.

    Args:
      node_class: An attrs class.
      params: Unchecked parameters; unknown keys are faults.
      path: Path of the parameters in the manifest, such as `nodes[2].params`.
      faults: List that faults are added to.
    """
    before = len(faults)
    fields = parameter_fields(node_class)
    hints = parameter_types(node_class)
    for name in params:
        if name not in fields:
            known = f"known are {', '.join(fields)}" if fields else f"{node_class.__name__} has no parameters"
            faults.append(Fault(f"{path}.{name}", f"unknown parameter; {known}"))
    for name, field in fields.items():
        if name in params:
            message = _value_fault(field, hints.get(name, Any), params[name])
        elif field.default is attrs.NOTHING:
            message = f"is required: {field.metadata.get('help', type_name(hints.get(name, Any)))}"
        else:
            continue
        if message:
            faults.append(Fault(f"{path}.{name}", message))
    if len(faults) > before:
        return None
    try:
        return node_class(**params)
    except (ValueError, TypeError) as error:
        faults.append(Fault(path, str(error)))
    except Exception as error:  # a bug in a node class must not bring the server down
        faults.append(Fault(path, f"{node_class.__name__} cannot be built: {type(error).__name__}: {error}"))
    return None


def _value_fault(field: attrs.Attribute[Any], hint: Any, value: Any) -> str:
    if not _fits(value, hint):
        return f"must be {type_name(hint)}, got {value!r:.80}"
    if field.validator is not None:
        try:
            field.validator(None, field, value)
        except (ValueError, TypeError) as error:
            return str(error)
        except Exception:  # it needs the whole node; it runs again when that is built
            return ""
    return ""


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is typing.Literal:
        return any(value == each and type(value) is type(each) for each in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(each, inner[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(each, inner[1]) for each in value.values())
    if hint is None or hint is type(None):
        return value is None
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, (int, float)) and abs(value) < 1e300
    return isinstance(value, hint)


def has_json_type(hint: Any) -> bool:
    """Return True if JSON can express a parameter of this type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return all(map(has_json_type, inner))
    if origin is typing.Literal:
        return all(isinstance(each, (str, int, type(None))) for each in inner)
    if origin is list:
        return has_json_type(inner[0])
    if origin is dict:
        return inner[0] is str and has_json_type(inner[1])
    return hint in (int, float, bool, str, type(None), list, dict, Any)


def type_name(hint: Any) -> str:
    """Return a type hint in the words of JSON."""
    plain = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a string",
        type(None): "null",
    }
    if hint in plain:
        return plain[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(each) for each in inner)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin is list:
        return f"a list, each {type_name(inner[0])}"
    if origin is dict:
        return f"an object, each value {type_name(inner[1])}"
    return "any value" if hint is Any else getattr(hint, "__name__", str(hint))
