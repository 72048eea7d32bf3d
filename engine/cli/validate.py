"""`headrace validate`: check a manifest and list all its faults."""

from __future__ import annotations

import sys
from typing import Any

import click

from engine.cli.common.command import Command
from engine.cli.common.manifests import read_manifest
from engine.cli.common.node_options import registry_options
from engine.cli.common.terminal import print_json, printable
from engine.errors import ManifestInvalid
from engine.manifest.checker import make_plan
from engine.manifest.plan import Plan, Registry

__all__ = ["validate"]


@click.command(
    cls=Command,
    example="headrace validate pipeline.json",
    exits="0 valid; 1 invalid; 2 the manifest cannot be read.",
)
@click.argument("manifest")
@registry_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def validate(manifest: str, as_json: bool, registry: Registry) -> None:
    """Check a MANIFEST (a JSON file, or - for standard input) against the node types available here.

    Prints a description of the pipeline, or every fault with its path.
    """
    try:
        plan = make_plan(read_manifest(manifest), registry)
    except ManifestInvalid as error:
        if as_json:
            print_json({"valid": False, **error.context})
        else:
            for fault in error.faults:
                click.echo(printable(str(fault)))
        sys.exit(1)
    plan.close()
    if as_json:
        print_json(_facts(plan))
    else:
        click.echo(printable(_description(plan)))


def _facts(plan: Plan) -> dict[str, Any]:
    return {
        "valid": True,
        "name": plan.name,
        "nodes": len(plan.nodes),
        "sources": list(plan.sources),
        "sinks": [node.id for node in plan.nodes if node.is_sink],
        "outputs": [node.id for node in plan.nodes if node.is_output],
        "max_delay_ms": plan.delay_s() * 1e3,
        "order": [node.id for node in plan.nodes],
    }


def _description(plan: Plan) -> str:
    facts = _facts(plan)
    nodes = "1 node" if facts["nodes"] == 1 else f"{facts['nodes']} nodes"
    ids = [node.id for node in plan.nodes]
    lines = [
        f"valid: {nodes}, {_listed('source', facts['sources'])}, {_listed('sink', facts['sinks'])},"
        f" delay up to {facts['max_delay_ms']:.3g} ms"
    ]
    width = max(len(node.id) for node in plan.nodes)
    for place, node in enumerate(plan.nodes, 1):
        feeds = ", ".join(f"{ids[edge.target]} ({edge.kinds})" for edge in node.outbound)
        after = f"feeds {feeds}" if feeds else ""
        mark = "returned" if node.is_output else ""
        lines.append(f"  {place:2}  {node.id:<{width}}  {node.node_type:<20}  {'  '.join(filter(None, (after, mark)))}")
    return "\n".join(line.rstrip() for line in lines)


def _listed(what: str, ids: list[str]) -> str:
    return f"{what}{'s' if len(ids) != 1 else ''} {', '.join(ids)}"
