"""The example manifests that lie beside nodes: `examples/NODE_TYPE.json` in the folder of the node's module."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.catalogue.description import NodeFacts, describe
from engine.errors import ManifestInvalid
from engine.manifest import load_manifest
from nodes.contract import AnyNode

__all__ = ["describe_with_example", "example_params", "example_path"]


def example_path(node_type: str, node_class: type[AnyNode]) -> Path | None:
    """The file with an example of a node type, if there is one."""
    path = Path(inspect.getfile(node_class)).parent / "examples" / f"{node_type}.json"
    return path if path.is_file() else None


def example_params(node_type: str, node_class: type[AnyNode]) -> Mapping[str, Any]:
    """The parameters with which the example uses the node first; none without an example."""
    path = example_path(node_type, node_class)
    if path is None:
        return {}
    try:
        nodes = load_manifest(path).nodes
    except (OSError, ManifestInvalid):
        return {}
    return next((node.params for node in nodes if node.node_type == node_type and not isinstance(node.params, str)), {})


def describe_with_example(node_type: str, node_class: type[AnyNode]) -> NodeFacts:
    """Tell about a node class; where its defaults do not suffice, with its example's parameters."""
    return describe(node_type, node_class, example_params(node_type, node_class))
