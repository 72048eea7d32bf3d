"""Facts about node types: description, kinds taken and given, delay, placement, and parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from engine.manifest.parameters import parameter_fields, parameter_types, type_name
from nodes.contract import AnyNode, Join

__all__ = ["NodeFacts", "ParameterFacts", "describe"]

BOUNDS = ("above", "at_least", "at_most", "choices")


@attrs.frozen
class ParameterFacts:
    """One parameter. `default` is meaningless when `required`; a bound of None means unbounded."""

    name: str
    type: str
    required: bool
    default: Any = None
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    choices: Sequence[Any] | None = None
    help: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the facts for JSON, without bounds of None and without the default of a required parameter."""
        facts = {"name": self.name, "type": self.type, "required": self.required}
        if not self.required:
            facts["default"] = self.default
        facts.update({bound: value for bound in BOUNDS if (value := getattr(self, bound)) is not None})
        return {**facts, "help": self.help}


@attrs.frozen
class NodeFacts:
    """Facts about one node type.

    `takes`, `gives` and `max_delay_ms` are unknown if no node of the type can be built here.

    Attributes:
      description: Docstring of the class.
      joins_rows: True for a `Join`, which gets the items of all its inputs together, row by row.
      extra: Optional extra that installs its library; "" if it needs none.
      unbuildable: Reason why it cannot be built here, such as a missing library; "" if it can.
      takes: Kinds that it takes, in words; "" if unknown.
      gives: Kinds that it gives, in words; "" if unknown.
      max_delay_ms: Upper bound of its delay before the format is known; None if unknown.
    """

    node_type: str
    description: str
    joins_rows: bool
    placement: str
    extra: str
    unbuildable: str
    takes: str
    gives: str
    max_delay_ms: float | None
    parameters: Sequence[ParameterFacts]

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return self.description.partition("\n")[0]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return {**attrs.asdict(self, recurse=False), "parameters": [each.as_dict() for each in self.parameters]}


def describe(node_type: str, node_class: type[AnyNode], params: Mapping[str, Any] | None = None) -> NodeFacts:
    """Describe a node class.

    Args:
      node_type: Name of the type in manifests.
      node_class: An attrs class.
      params: Parameters for the node that is built to read its facts, used if its defaults do not suffice.
    """
    node, unbuildable = _specimen(node_class, params or {})
    facts = NodeFacts(
        node_type=node_type,
        description=inspect.getdoc(node_class) or "",
        joins_rows=issubclass(node_class, Join),
        placement=node_class.placement,
        extra=node_class.extra,
        unbuildable=unbuildable,
        takes="" if node is None else str(node.takes),
        gives="" if node is None else str(node.gives),
        max_delay_ms=None if node is None else node.delay * 1e3,
        parameters=_parameters(node_class),
    )
    if node is not None:
        node.close()
    return facts


def _specimen(node_class: type[AnyNode], params: Mapping[str, Any]) -> tuple[AnyNode | None, str]:
    """Return a node built with its defaults, else with `params`; or None and the reason why neither works."""
    reason = ""
    for chosen in ({}, params):
        try:
            return node_class(**chosen), ""
        except Exception as error:  # a bug in a node class is reported, not raised
            reason = str(error)
    return None, reason


def _parameters(node_class: type[AnyNode]) -> list[ParameterFacts]:
    hints = parameter_types(node_class)
    return [_parameter(field, hints.get(name, Any)) for name, field in parameter_fields(node_class).items()]


def _parameter(field: attrs.Attribute[Any], hint: Any) -> ParameterFacts:
    factory = getattr(field.default, "factory", None)
    bounds = {bound: field.metadata.get(bound) for bound in BOUNDS}
    return ParameterFacts(
        name=field.name,
        type=type_name(hint),
        required=field.default is attrs.NOTHING,
        default=field.default if factory is None else factory(),
        help=field.metadata.get("help", ""),
        **bounds,
    )
