"""The catalogue of nodes in nodes/README.md, made from the code and the results of `python -m benchmarks nodes`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from benchmarks.nodes import RESULTS, Cost
from engine.catalogue.description import NodeFacts
from engine.catalogue.examples import describe_with_example
from nodes.registry import FAMILIES

__all__ = ["catalogue", "make_table", "replaced"]

README = Path(__file__).parent.parent / "nodes" / "README.md"
BEGIN, END = "<!-- catalogue: python -m benchmarks catalogue --write -->\n", "<!-- end of catalogue -->\n"


def make_table() -> str:
    """Make the table, in Markdown."""
    costs = {name: Cost(**cost) for name, cost in json.loads(RESULTS.read_text(encoding="utf-8"))["nodes"].items()}
    return "\n".join(_lines(costs)) + "\n"


def _lines(costs: Mapping[str, Cost]) -> Iterator[str]:
    yield "| node | takes → gives | what it does | delay ms | CPU us | parameters | extra |"
    yield "|---|---|---|---|---|---|---|"
    for family, node_classes in FAMILIES.items():
        yield f"| **{family}** | | | | | | |"
        for node_class in node_classes:
            facts = describe_with_example(node_class.__name__, node_class)
            yield f"| {' | '.join(_cells(facts, costs.get(node_class.__name__)))} |"


def _cells(facts: NodeFacts, cost: Cost | None) -> list[str]:
    takes = f"{facts.takes}, several" if facts.joins_rows else facts.takes
    return [
        f"`{facts.node_type}`",
        f"{takes} → {facts.gives}",
        facts.summary.removesuffix(".").replace("|", "\\|"),
        "" if cost is None else f"{cost.delay_ms:.3g}",
        "" if cost is None else _microseconds(cost),
        ", ".join(f"`{parameter.name}`" for parameter in facts.parameters),
        f"`{facts.extra}`" if facts.extra else "",
    ]


def _microseconds(cost: Cost) -> str:
    """Format the median, with the mean if that is more than twice as much."""
    median = f"{cost.median_us:.0f}"
    return f"{median} (mean {cost.mean_us:.0f})" if cost.mean_us > 2 * cost.median_us + 1 else median


def replaced(readme: str, table: str) -> str:
    """Return the document with this table in place of the old one.

    Raises:
      ValueError: The marker comments around the table are missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"nodes/README.md needs the lines {BEGIN.strip()!r} and {END.strip()!r}")
    return f"{before}{BEGIN}{table}{END}{after}"


@click.command()
@click.option("--write/--check", required=True, help="Write the table into nodes/README.md, or check it.")
def catalogue(write: bool) -> None:
    """Write or check the catalogue of nodes in nodes/README.md."""
    readme = README.read_text(encoding="utf-8")
    wanted = replaced(readme, make_table())
    if write:
        README.write_text(wanted, encoding="utf-8")
    elif wanted != readme:
        raise click.ClickException("nodes/README.md is not up to date: python -m benchmarks catalogue --write")
