"""Draw a pipeline as text for other programs to lay out: Mermaid, which Markdown viewers show, and Graphviz's DOT."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import attrs

from engine.manifest.plan import Plan
from engine.messages import NodeFigures

__all__ = ["Box", "Drawing", "Line", "draw", "one_line", "to_dot", "to_mermaid"]


@attrs.frozen
class Box:
    """Box of one node.

    Attributes:
      lines: Lines of text in the box, the id first.
      is_source: Chunks are sent to the node.
      is_output: The node's output is returned.
    """

    lines: tuple[str, ...]
    is_source: bool
    is_output: bool


@attrs.frozen
class Line:
    """Line of one connection, from box to box by their indices; `label` names the kinds that travel on it."""

    source: int
    target: int
    label: str


@attrs.frozen
class Drawing:
    """Content of a drawing; boxes are in topological order."""

    title: str
    boxes: Sequence[Box]
    lines: Sequence[Line]


def draw(plan: Plan, figures: Mapping[str, NodeFigures] | None = None, title: str = "") -> Drawing:
    """Make a drawing of a plan.

    Args:
      plan: Plan to draw.
      figures: Node id → its costs in a run, shown in the node's box; may lack nodes.
      title: Title of the drawing; by default the plan's name.
    """
    measured = figures or {}
    boxes = [
        Box(
            (planned.id, planned.node_type, *_words(measured.get(planned.id))),
            planned.is_source,
            planned.is_output,
        )
        for planned in plan.nodes
    ]
    lines = [Line(edge.source, edge.target, str(edge.kinds)) for planned in plan.nodes for edge in planned.outbound]
    return Drawing(title or plan.name, boxes, lines)


def _words(figures: NodeFigures | None) -> tuple[str, ...]:
    if figures is None:
        return ()
    if not figures.chunks:
        return ("never ran",)
    run, queued = (1e3 * each / figures.chunks for each in (figures.run_ms, figures.queue_ms))
    return (f"run {run:.0f} us, longest {1e3 * figures.max_run_ms:.0f}", f"queued {queued:.0f} us")


def to_mermaid(drawing: Drawing) -> str:
    """Return a Mermaid flowchart; sources have round ends, and nodes whose output is returned have double sides."""
    return "\n".join(_mermaid(drawing)) + "\n"


def _mermaid(drawing: Drawing) -> Iterator[str]:
    if drawing.title:
        yield f"---\ntitle: {json.dumps(one_line(drawing.title), ensure_ascii=False)}\n---"
    yield "flowchart LR"
    for place, box in enumerate(drawing.boxes):
        opening, closing = ("[[", "]]") if box.is_output else ("([", "])") if box.is_source else ("[", "]")
        yield f'    n{place}{opening}"{"<br/>".join(map(_escaped, box.lines))}"{closing}'
    for line in drawing.lines:
        yield f"    n{line.source} -->|{line.label}| n{line.target}"


def _escaped(text: str) -> str:
    """Escape text as Mermaid does: HTML entities with # in place of &."""
    named = {'"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "&": "#amp;", "`": "#96;"}
    return "".join(named.get(mark, mark) for mark in one_line(text))


def to_dot(drawing: Drawing) -> str:
    """Return Graphviz DOT; sources are ellipses, and nodes whose output is returned have double outlines."""
    return "\n".join(_dot(drawing)) + "\n"


def _dot(drawing: Drawing) -> Iterator[str]:
    yield "digraph {"
    yield '    rankdir=LR; node [shape=box, fontname="sans-serif"]; edge [fontname="sans-serif", fontsize=10];'
    if drawing.title:
        yield f"    labelloc=t; label={_quoted([drawing.title])};"
    for place, box in enumerate(drawing.boxes):
        shape = "shape=ellipse, " * box.is_source + "peripheries=2, " * box.is_output
        yield f"    n{place} [{shape}label={_quoted(box.lines)}];"
    for line in drawing.lines:
        yield f"    n{line.source} -> n{line.target} [label={_quoted([line.label])}];"
    yield "}"


def _quoted(lines: Sequence[str]) -> str:
    escaped = [one_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    return '"' + "\\n".join(escaped) + '"'


def one_line(text: str) -> str:
    """Replace unprintable characters, which an id may contain and which would break the drawing."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
