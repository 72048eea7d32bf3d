"""`headrace graph`: draw a pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import click

from engine.cli.common.command import Command
from engine.cli.common.failures import BadInput
from engine.cli.common.manifests import read_manifest
from engine.cli.common.node_options import registry_options
from engine.drawing import Drawing, draw, to_dot, to_mermaid
from engine.drawing.svg import to_svg
from engine.manifest.checker import make_plan
from engine.manifest.plan import Registry
from engine.messages import NodeFigures

__all__ = ["graph"]

_FORMATS: Mapping[str, Callable[[Drawing], str]] = {"mermaid": to_mermaid, "dot": to_dot, "svg": to_svg}


@click.command(
    cls=Command,
    example="headrace graph pipeline.json --format svg --report run.jsonl > pipeline.svg",
    exits="0 success; 2 the manifest or the report cannot be used.",
)
@click.argument("manifest")
@click.option(
    "--format", "language", default="mermaid", type=click.Choice(list(_FORMATS)), help="Language of the drawing."
)
@click.option(
    "--report", metavar="FILE", type=click.Path(path_type=Path),
    help="Add the nodes' times in a run: the output of `headrace run … --json` or `headrace stream … --json`.",
)  # fmt: skip
@registry_options
def graph(manifest: str, language: str, report: Path | None, registry: Registry) -> None:
    """Draw a MANIFEST (a JSON file, or - for standard input) as Mermaid, Graphviz DOT or SVG.

    Sources have round ends; nodes whose output is returned have double or thick borders.
    """
    plan = make_plan(read_manifest(manifest), registry)
    plan.close()
    summary = None if report is None else _read_summary(report)
    drawing = draw(plan) if summary is None else draw(plan, _figures(summary), _title(plan.name, summary))
    click.echo(_FORMATS[language](drawing), nl=False)


def _read_summary(path: Path) -> Mapping[str, Any]:
    """Read the summary from the JSON lines that a run printed.

    Raises:
      BadInput: the file cannot be read, is not JSON lines, or has no summary.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise BadInput(f"cannot read the report {path}: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{path} is not the report of a run: {error}") from None
    for line in reversed(lines):
        if isinstance(line, dict) and line.get("type") == "summary" and isinstance(line.get("metrics"), dict):
            return line
    raise BadInput(f"{path} has no summary of a run: make one with headrace run FILE --json > {path.name}")


def _figures(summary: Mapping[str, Any]) -> dict[str, NodeFigures]:
    known = {field.name for field in attrs.fields(NodeFigures)}
    return {
        node: NodeFigures(**{name: value for name, value in figures.items() if name in known})
        for node, figures in summary["metrics"]["figures"].items()
    }


def _title(name: str, summary: Mapping[str, Any]) -> str:
    latency = summary["latency_ms"]
    return f"{name or 'pipeline'}: {latency['chunks']} chunks, p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms"
