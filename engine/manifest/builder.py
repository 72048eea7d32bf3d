"""Build manifests in Python, from node objects instead of names and JSON.

    pipeline = (
        Pipeline("speech")
        .add("resample", AudioResample(target_sample_rate=16_000))
        .add("vad", VAD(aggressiveness=2))
        .connect("resample", "vad")
    )
    async with open_session(pipeline.manifest(), registry=BUILTIN) as session:
        ...

A node object stands for its class and parameters; it never runs itself. Nothing is checked here: the session that runs
the manifest reports its faults, with the same paths as for a manifest from JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Self

import attrs

from engine.manifest.manifest import Capabilities, Connection, Manifest, NodeSpec, manifest_to_json
from engine.manifest.parameters import parameter_fields
from nodes.contract import AnyNode

__all__ = ["Pipeline"]


class Pipeline:
    """Builder of one manifest. `add` and `connect` return the builder, so that calls can be chained.

    Args:
      name: Name of the pipeline, for logs.
      description: Description for people.
    """

    def __init__(self, name: str = "", description: str = "") -> None:
        self._name, self._description = name, description
        self._nodes: list[NodeSpec] = []
        self._connections: list[Connection] = []

    def add(
        self,
        id: str,
        node: AnyNode | str,
        params: Mapping[str, Any] | None = None,
        *,
        is_output: bool = False,
        capabilities: Capabilities | None = None,
    ) -> Self:
        """Add a node.

        Args:
          id: Unique id of the node.
          node: A node object, whose class name is the node type; or the name of a type that the server knows.
          params: Parameters, only with the name of a type; a node object has its own.
          is_output: Return the node's output even if other nodes follow it.
          capabilities: Requirements on the machine.

        Raises:
          TypeError: there are parameters with a node object, or a class instead of a node object.
        """
        if isinstance(node, type):
            raise TypeError(f"{id!r}: pass a node, not its class: {node.__name__}(...)")
        if isinstance(node, str):
            node_type, chosen = node, params or {}
        elif params is None:
            node_type, chosen = type(node).__name__, _params_of(node)
        else:
            raise TypeError(f"{id!r}: a node object has its parameters already; params go with the name of a type")
        self._nodes.append(NodeSpec(id, node_type, _plain(chosen), is_output=is_output, capabilities=capabilities))
        return self

    def connect(self, *ids: str) -> Self:
        """Connect each named node to the next one.

        Raises:
          TypeError: fewer than two ids are given.
        """
        if len(ids) < 2:
            raise TypeError(f"connect takes at least two ids, got {ids!r}")
        self._connections += [Connection(source, target) for source, target in pairwise(ids)]
        return self

    def manifest(self) -> Manifest:
        """Return the manifest built so far."""
        return Manifest("v1", tuple(self._nodes), tuple(self._connections), self._name, self._description)

    def to_json(self) -> str:
        """Return the manifest as JSON text, from which `manifest_from_json` makes an equal one.

        Raises:
          ManifestInvalid: a parameter cannot be encoded as JSON.
        """
        return manifest_to_json(self.manifest())


def _params_of(node: AnyNode) -> dict[str, Any]:
    """Return the parameters of a node that differ from their defaults."""
    values = {name: (field, getattr(node, name)) for name, field in parameter_fields(type(node)).items()}
    return {name: value for name, (field, value) in values.items() if not _is_default(field, value)}


def _is_default(field: attrs.Attribute[Any], value: Any) -> bool:
    factory = getattr(field.default, "factory", None)
    return bool(value == (field.default if factory is None else factory()))


def _plain(value: Any) -> Any:
    """Return a value as JSON would give it back: tuples become lists."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
