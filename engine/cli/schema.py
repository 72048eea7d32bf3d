"""`headrace schema`: print the JSON Schema of manifests, for editors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from engine.catalogue.schema import DIALECT, manifest_schema, parameters_schema
from engine.cli.common.command import Command
from engine.cli.common.node_options import find_nodes, plugin_options
from engine.cli.nodes import find_type

__all__ = ["schema"]


@click.command(
    cls=Command,
    example="headrace schema > headrace.schema.json",
    exits="0 success; 2 there is no such node type.",
)
@click.argument("node", required=False)
@plugin_options
def schema(node: str | None, node_files: Sequence[Path], strict_plugins: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of manifests, or of the parameters of one NODE type.

    An editor that uses the schema completes node types and parameters, and marks mistakes. A manifest may name the
    schema under "$schema".
    """
    registry = find_nodes(node_files, strict_plugins).registry
    if node is None:
        document = manifest_schema(registry)
    else:
        node_type = find_type(node, registry)
        document = {"$schema": DIALECT, "title": node_type, **parameters_schema(registry[node_type])}
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
