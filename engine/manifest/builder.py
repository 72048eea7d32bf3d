"""Builds manifests in Python, of node objects instead of names and JSON.

    pipeline = (
        Pipeline("speech")
        .add("resample", AudioResample(target_sample_rate=16_000))
        .add("vad", VAD(aggressiveness=2))
        .connect("resample", "vad")
    )
    async with open_session(pipeline.manifest(), registry=BUILTIN) as session:
        ...

A node object stands for its class and parameters; it never runs itself. Nothing is judged here: whoever runs the
manifest reports its faults, with the same paths as those of one that came as JSON.
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
    """A manifest in the making. Its methods return it, so that they can be chained.

    Args:
      name: Of the pipeline, for logs.
      description: For people.
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
          id: Unlike all others'.
          node: A node, whose class's name is the node type; or the name of a type, which only a server may know.
          params: Of a type that is named; a node has its own.
          is_output: Return what it gives, although something follows it.
          capabilities: What it needs of the machine.

        Raises:
          TypeError: there are parameters beside a node, or a class is given for one.
        """
        if isinstance(node, type):
            raise TypeError(f"{id!r}: a node is made of its class: {node.__name__}(...)")
        if isinstance(node, str):
            node_type, chosen = node, params or {}
        elif params is None:
            node_type, chosen = type(node).__name__, _params_of(node)
        else:
            raise TypeError(f"{id!r}: a node has its parameters already; params are for a type that is named")
        self._nodes.append(NodeSpec(id, node_type, _plain(chosen), is_output=is_output, capabilities=capabilities))
        return self

    def connect(self, *ids: str) -> Self:
        """Lead what each node gives to the next one named.

        Raises:
          TypeError: fewer than two are named.
        """
        if len(ids) < 2:
            raise TypeError(f"connect takes at least two ids, got {ids!r}")
        self._connections += [Connection(source, target) for source, target in pairwise(ids)]
        return self

    def manifest(self) -> Manifest:
        """The manifest as it stands."""
        return Manifest("v1", tuple(self._nodes), tuple(self._connections), self._name, self._description)

    def to_json(self) -> str:
        """The manifest as JSON text; `manifest_from_json` makes an equal one of it.

        Raises:
          ManifestInvalid: a parameter cannot be told in JSON.
        """
        return manifest_to_json(self.manifest())


def _params_of(node: AnyNode) -> dict[str, Any]:
    """The parameters of a node that are not their defaults."""
    values = {name: (field, getattr(node, name)) for name, field in parameter_fields(type(node)).items()}
    return {name: value for name, (field, value) in values.items() if not _is_default(field, value)}


def _is_default(field: attrs.Attribute[Any], value: Any) -> bool:
    factory = getattr(field.default, "factory", None)
    return bool(value == (field.default if factory is None else factory()))


def _plain(value: Any) -> Any:
    """The value as it comes back from JSON: tuples are lists there."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
