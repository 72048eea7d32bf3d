"""`headrace nodes`: list and describe the node types."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from engine.catalogue.description import NodeFacts, ParameterFacts
from engine.catalogue.discovery import Discovered
from engine.catalogue.examples import describe_with_example, example_path
from engine.cli.common.command import Command
from engine.cli.common.failures import BadInput
from engine.cli.common.node_options import find_nodes, plugin_options
from engine.cli.common.terminal import print_json, printable
from engine.manifest.plan import Registry
from nodes.registry import FAMILIES

__all__ = ["find_type", "nodes"]


@click.command(
    cls=Command,
    example="headrace nodes AudioResample",
    exits="0 success; 2 there is no such node type.",
)
@click.argument("name", required=False)
@plugin_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per node, one per line.")
def nodes(name: str | None, node_files: Sequence[Path], strict_plugins: bool, as_json: bool) -> None:
    """List the node types, or describe the one called NAME.

    Lists the nodes that come with Headrace, those of installed packages, and those of --nodes. Describes the purpose
    of a node, its input and output, its delay, where it runs, its parameters, and an example.
    """
    found = find_nodes(node_files, strict_plugins)
    chosen = list(found.registry) if name is None else [find_type(name, found.registry)]
    described = [describe_with_example(node_type, found.registry[node_type]) for node_type in chosen]
    if as_json:
        for facts in described:
            print_json(_json_facts(facts, found))
    elif name is None:
        click.echo(printable("\n".join(_listed(described, found))))
    else:
        click.echo(printable("\n".join(_description(described[0], found))))


def find_type(name: str, registry: Registry) -> str:
    """Return the name of a node type if there is such a node type.

    Raises:
      BadInput: there is no such node type; the message suggests the nearest name, or lists all.
    """
    if name in registry:
        return name
    lower = {known.lower(): known for known in registry}
    close = difflib.get_close_matches(name.lower(), lower, 1)
    hint = f"did you mean {lower[close[0]]}?" if close else f"there are {', '.join(registry)}"
    raise BadInput(f"there is no node type {name!r}; {hint}")


def _example(facts: NodeFacts, found: Discovered) -> str:
    path = example_path(facts.node_type, found.registry[facts.node_type])
    return "" if path is None else path.read_text(encoding="utf-8")


def _json_facts(facts: NodeFacts, found: Discovered) -> dict[str, Any]:
    example = _example(facts, found)
    origin = found.origins.get(facts.node_type, "")
    return {**facts.as_dict(), "origin": origin, "example": json.loads(example) if example else None}


def _listed(described: Sequence[NodeFacts], found: Discovered) -> Iterator[str]:
    width = max(len(facts.node_type) for facts in described)
    for family, node_types in _families(found).items():
        yield f"{family}:"
        for facts in described:
            if facts.node_type in node_types:
                notes = [facts.unbuildable if facts.extra else "", found.origins.get(facts.node_type, "")]
                noted = "".join(f"  [{note}]" for note in notes if note)
                yield f"  {facts.node_type:<{width}}  {facts.summary}{noted}"


def _families(found: Discovered) -> dict[str, Collection[str]]:
    """Family → its node types, without the empty ones."""
    families: dict[str, Collection[str]] = {
        family: [node_class.__name__ for node_class in classes] for family, classes in FAMILIES.items()
    }
    families["plugins"] = found.origins
    families["others"] = set(found.registry).difference(*families.values())
    return {family: node_types for family, node_types in families.items() if node_types}


def _description(facts: NodeFacts, found: Discovered) -> Iterator[str]:
    yield f"{facts.node_type}: {facts.description}"
    yield ""
    lines = {
        "takes": facts.takes,
        "gives": facts.gives,
        "delay": "" if facts.max_delay_ms is None else f"up to {facts.max_delay_ms:.3g} ms",
        "runs": "in the event loop" if facts.placement == "inline" else "in a thread",
        "inputs": "several, taken together row by row" if facts.joins_rows else "",
        "from": found.origins.get(facts.node_type, ""),
        "extra": f"pip install 'headrace[{facts.extra}]'" if facts.extra else "",
        "missing": facts.unbuildable,
    }
    yield from (f"{name:<10} {value}" for name, value in lines.items() if value)
    yield ""
    if not facts.parameters:
        yield "No parameters."
    for parameter in facts.parameters:
        yield _terms(parameter)
        yield f"  {'':<22} {parameter.help}"
    if example := _example(facts, found):
        yield "\nExample:\n"
        yield from (f"  {line}" for line in example.splitlines())


def _terms(parameter: ParameterFacts) -> str:
    words = {"above": "above", "at_least": "at least", "at_most": "at most"}
    bounds = [f"{words[name]} {value}" for name in words if (value := getattr(parameter, name)) is not None]
    kind = f"one of {', '.join(map(str, parameter.choices))}" if parameter.choices else parameter.type
    default = "required" if parameter.required else f"default {_json_like(parameter.default)}"
    return f"  {parameter.name:<22} {', '.join([kind, *bounds])}; {default}"


def _json_like(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
