"""Example manifests of node types: `examples/NODE_TYPE.json` in the folder of the module that defines the node."""

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
    """Return the path of a node type's example, or None if it has no example."""
    path = Path(inspect.getfile(node_class)).parent / "examples" / f"{node_type}.json"
    return path if path.is_file() else None


def example_params(node_type: str, node_class: type[AnyNode]) -> Mapping[str, Any]:
    """Return the parameters of the first node of this type in its example; empty without a usable example."""
    path = example_path(node_type, node_class)
    if path is None:
        return {}
    try:
        nodes = load_manifest(path).nodes
    except (OSError, ManifestInvalid):
        return {}
    return next((node.params for node in nodes if node.node_type == node_type and not isinstance(node.params, str)), {})


def describe_with_example(node_type: str, node_class: type[AnyNode]) -> NodeFacts:
    """Describe a node class, with the parameters of its example if its defaults do not suffice."""
    return describe(node_type, node_class, example_params(node_type, node_class))
