"""Lay a drawing out in layers, and draw it as SVG.

The method is Sugiyama's, in its simplest form. A box lies one layer to the right of the rightmost box that leads to it.
A line that passes through layers gets its own lane in each. Within a layer, boxes and lanes are ordered by the
positions of their neighbours. Curves bend only between layers, so no line crosses a box, and no two boxes overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean
from unicodedata import east_asian_width
from xml.sax.saxutils import escape

import attrs

from engine.drawing.diagram import Box, Drawing, Line, one_line

__all__ = ["Layout", "Place", "lay_out", "to_svg"]

CHARACTER, LINE_HEIGHT, PADDING = 7.3, 17.0, 10.0
ACROSS, BETWEEN, MARGIN = 64.0, 22.0, 20.0
"""Gaps between layers, between the boxes of a layer, and around the drawing; in pixels, as all measures here."""
SWEEPS = 4


@attrs.define(eq=False)
class Place:
    """Place of a box in the layout, or of a lane for a line that passes through a layer.

    Attributes:
      box: The box; None for a lane.
      x, y: Upper left corner.
      before: Places in the layer to the left that lead here.
      after: Places in the layer to the right that this one leads to.
    """

    box: Box | None
    layer: int
    width: float = 0.0
    height: float = 6.0
    x: float = 0.0
    y: float = 0.0
    before: list[Place] = attrs.field(factory=list, repr=False)
    after: list[Place] = attrs.field(factory=list, repr=False)

    @property
    def middle(self) -> float:
        """Vertical centre."""
        return self.y + self.height / 2


@attrs.frozen
class Layout:
    """Layout of a drawing.

    Attributes:
      boxes: Places of the boxes, in the drawing's order.
      ways: For each line, the places that it passes through, including its two ends.
    """

    boxes: Sequence[Place]
    ways: Sequence[Sequence[Place]]
    width: float
    height: float


def lay_out(drawing: Drawing) -> Layout:
    """Place all boxes and lines of a drawing."""
    boxes = [_placed(box, layer) for box, layer in zip(drawing.boxes, _layers(drawing), strict=True)]
    layers: list[list[Place]] = [[] for _ in range(1 + max(place.layer for place in boxes))]
    for place in boxes:
        layers[place.layer].append(place)
    ways = [_way(boxes[line.source], boxes[line.target], layers) for line in drawing.lines]
    _order(layers)
    width = _spread(layers)
    height = max(place.y + place.height for layer in layers for place in layer) + MARGIN
    return Layout(boxes, ways, width, height)


def _layers(drawing: Drawing) -> list[int]:
    layers = [0] * len(drawing.boxes)
    for line in sorted(drawing.lines, key=lambda line: line.source):
        layers[line.target] = max(layers[line.target], layers[line.source] + 1)
    return layers


def _placed(box: Box, layer: int) -> Place:
    longest = max(map(_columns, box.lines))
    return Place(box, layer, longest * CHARACTER + 2 * PADDING, len(box.lines) * LINE_HEIGHT + PADDING)


def _columns(text: str) -> int:
    """Return the width of a text in columns of a monospaced font; a Chinese character, for example, takes two."""
    return sum(1 + (east_asian_width(mark) in "WF") for mark in text)


def _way(source: Place, target: Place, layers: list[list[Place]]) -> list[Place]:
    """Return the places from box to box, with a new lane in every layer between them."""
    lanes = [Place(None, layer) for layer in range(source.layer + 1, target.layer)]
    for lane in lanes:
        layers[lane.layer].append(lane)
    way = [source, *lanes, target]
    for one, other in pairwise(way):
        one.after.append(other)
        other.before.append(one)
    return way


def _order(layers: list[list[Place]]) -> None:
    """Order each layer by the mean rank of its neighbours: of those to the left, then to the right, and so on."""
    rank = {id(place): float(i) for layer in layers for i, place in enumerate(layer)}
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0

        def mean(place: Place, forth: bool = forth) -> float:
            neighbours = place.before if forth else place.after
            return fmean(rank[id(each)] for each in neighbours) if neighbours else rank[id(place)]

        for layer in layers if forth else reversed(layers):
            layer.sort(key=mean)
            rank.update((id(place), float(i)) for i, place in enumerate(layer))


def _spread(layers: list[list[Place]]) -> float:
    """Set the corner of every place: layers side by side, each vertically centred. Return the total width."""
    heights = [sum(place.height for place in layer) + BETWEEN * (len(layer) - 1) for layer in layers]
    x = MARGIN
    for layer, height in zip(layers, heights, strict=True):
        width = max(place.width for place in layer)
        y = MARGIN + LINE_HEIGHT + (max(heights) - height) / 2
        for place in layer:
            place.width = place.width if place.box else width
            place.x, place.y = x + (width - place.width) / 2, y
            y += place.height + BETWEEN
        x += width + ACROSS
    return x - ACROSS + MARGIN


def to_svg(drawing: Drawing) -> str:
    """Return SVG; sources have round ends, outputs have thick borders, and lines of only data are dashed."""
    return "\n".join(_svg(drawing, lay_out(drawing))) + "\n"


def _svg(drawing: Drawing, layout: Layout) -> Iterator[str]:
    width, height = max(layout.width, _columns(drawing.title) * CHARACTER + 2 * MARGIN), layout.height
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" font-family="monospace" font-size="12">'
    )
    yield f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>'
    yield (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#555"/></marker></defs>'
    )
    yield f'<text x="{MARGIN:g}" y="{MARGIN:g}" font-weight="bold">{escape(one_line(drawing.title))}</text>'
    for line, way in zip(drawing.lines, layout.ways, strict=True):
        yield _curve(line, way)
    for place in layout.boxes:
        yield from _rectangle(place)
    yield "</svg>"


def _curve(line: Line, way: Sequence[Place]) -> str:
    """Draw a line from right edge to left edge, horizontal at both ends and straight through each lane."""
    steps = [f"M{way[0].x + way[0].width:.1f} {way[0].middle:.1f}"]
    for one, other in pairwise(way):
        from_x, to_x = one.x + one.width, other.x
        bend = (from_x + to_x) / 2
        steps.append(f"C{bend:.1f} {one.middle:.1f} {bend:.1f} {other.middle:.1f} {to_x:.1f} {other.middle:.1f}")
        if other.box is None:
            steps.append(f"H{other.x + other.width:.1f}")
    dashes = ' stroke-dasharray="5 4"' if line.label == "data" else ""
    path = " ".join(steps)
    return (
        f'<path d="{path}" fill="none" stroke="#555"{dashes} marker-end="url(#tip)"><title>{line.label}</title></path>'
    )


def _rectangle(place: Place) -> Iterator[str]:
    assert place.box is not None
    radius = min(place.height / 2, 20.0) if place.box.is_source else 3.0
    border = 2.5 if place.box.is_output else 1
    yield (
        f'<rect x="{place.x:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" height="{place.height:.1f}"'
        f' rx="{radius:.1f}" fill="#eef3f8" stroke="#234" stroke-width="{border}"/>'
    )
    for i, text in enumerate(place.box.lines):
        weight = ' font-weight="bold"' if i == 0 else ""
        yield (
            f'<text x="{place.x + place.width / 2:.1f}" y="{place.y + (i + 1) * LINE_HEIGHT:.1f}"'
            f' text-anchor="middle"{weight}>{escape(one_line(text))}</text>'
        )
