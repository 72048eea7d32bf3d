"""`headrace nodes`: what pipelines are made of."""

from __future__ import annotations

import difflib
import inspect
import json
import typing
from typing import Any

import attrs
import click

from engine.cli.commands import Command
from engine.cli.failures import BadInput
from engine.cli.report import print_json
from engine.parameters import parameter_fields, type_name
from nodes.contract import AnyNode, Join
from nodes.registry import BUILTIN

__all__ = ["nodes"]


@click.command(
    cls=Command,
    short_help="List node types, or describe one.",
    example="headrace nodes AudioResample",
)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object; of all nodes, one a line.")
def nodes(name: str | None, as_json: bool) -> None:
    """List the node types, or describe the one called NAME: what it does, takes and gives, and its parameters."""
    chosen = BUILTIN if name is None else {name: _find(name)}
    if as_json:
        for node_type, node_class in chosen.items():
            print_json(_facts(node_type, node_class))
    elif name is None:
        width = max(map(len, chosen))
        for node_type, node_class in chosen.items():
            click.echo(f"{node_type:<{width}}  {_doc(node_class).splitlines()[0]}")
    else:
        click.echo(_description(_facts(name, chosen[name])))


def _find(name: str) -> type[AnyNode]:
    if name not in BUILTIN:
        lower = {known.lower(): known for known in BUILTIN}
        close = difflib.get_close_matches(name.lower(), lower, 1)
        hint = f"did you mean {lower[close[0]]}?" if close else f"there are {', '.join(BUILTIN)}"
        raise BadInput(f"there is no node type {name!r}; {hint}")
    found: type[AnyNode] = BUILTIN[name]
    return found


def _doc(node_class: type) -> str:
    return inspect.getdoc(node_class) or ""


def _facts(node_type: str, node_class: type[AnyNode]) -> dict[str, Any]:
    hints = typing.get_type_hints(node_class)
    fields = parameter_fields(node_class)
    facts: dict[str, Any] = {
        "node_type": node_type,
        "description": _doc(node_class),
        "joins_rows": issubclass(node_class, Join),
        "placement": node_class.placement,
        "parameters": [_parameter(field, hints.get(name, Any)) for name, field in fields.items()],
    }
    node = _specimen(node_class, fields)
    if node is not None:
        facts.update(takes=str(node.takes), gives=str(node.gives), max_delay_ms=node.delay * 1e3)
        node.close()
    return facts


def _specimen(node_class: type[AnyNode], fields: dict[str, attrs.Attribute[Any]]) -> AnyNode | None:
    """A node with its defaults, and with the lowest sensible value where one is required, to ask what it is like."""
    values = {
        name: field.metadata["choices"][0] if field.metadata.get("choices") else 16_000
        for name, field in fields.items()
        if field.default is attrs.NOTHING
    }
    try:
        return node_class(**values)
    except (ValueError, TypeError):
        return None


def _parameter(field: attrs.Attribute[Any], hint: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": field.name, "type": type_name(hint), "required": field.default is attrs.NOTHING}
    if not facts["required"]:
        factory = getattr(field.default, "factory", None)
        facts["default"] = field.default if factory is None else factory()
    for bound in ("above", "at_least", "at_most", "choices"):
        if (value := field.metadata.get(bound)) is not None:
            facts[bound] = list(value) if bound == "choices" else value
    facts["help"] = field.metadata.get("help", "")
    return facts


def _description(facts: dict[str, Any]) -> str:
    lines = [f"{facts['node_type']}: {facts['description']}", ""]
    for name in ("takes", "gives"):
        if name in facts:
            lines.append(f"{name:<10} {facts[name]}")
    if "max_delay_ms" in facts:
        lines.append(f"{'delay':<10} up to {facts['max_delay_ms']:.3g} ms")
    lines.append(f"{'runs':<10} {'in the event loop' if facts['placement'] == 'inline' else 'in a thread'}")
    if facts["joins_rows"]:
        lines.append(f"{'inputs':<10} several, taken together row by row")
    lines.append("")
    lines += [_parameter_lines(each) for each in facts["parameters"]] or ["No parameters."]
    return "\n".join(lines)


def _parameter_lines(facts: dict[str, Any]) -> str:
    bounds = [
        f"{words} {facts[bound]}"
        for bound, words in (("above", "above"), ("at_least", "at least"), ("at_most", "at most"))
        if bound in facts
    ]
    kind = f"one of {', '.join(map(str, facts['choices']))}" if "choices" in facts else facts["type"]
    default = "required" if facts["required"] else f"default {_json_like(facts['default'])}"
    return f"  {facts['name']:<22} {', '.join([kind, *bounds])}; {default}\n  {'':<22} {facts['help']}"


def _json_like(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
