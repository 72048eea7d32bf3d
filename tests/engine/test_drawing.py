"""Test drawings: complete in Mermaid, DOT and SVG, safe with any id, and without overlaps in SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.drawing import Box, Drawing, Line, draw, to_dot, to_mermaid
from engine.drawing.svg import Place, lay_out, to_svg
from engine.manifest.checker import make_plan
from engine.messages import NodeFigures
from tests.engine.harness import Kinds, wire

FIGURES = {"a": NodeFigures(run_ms=3.0, queue_ms=1.5, max_run_ms=2.0, chunks=30), "b": NodeFigures()}


def drawn(**more: object) -> Drawing:
    plan = make_plan(wire("a > b > c, a > c", b="Read"), Kinds())
    return draw(plan, **more)  # type: ignore[arg-type]


def test_a_plan_is_drawn_with_what_travels_and_what_it_cost() -> None:
    drawing = drawn(figures=FIGURES, title="run")
    assert [box.lines for box in drawing.boxes] == [
        ("a", "Pass", "run 100 us, longest 2000", "queued 50 us"),
        ("b", "Read", "never ran"),
        ("c", "Pass"),
    ]
    assert [(line.source, line.target, line.label) for line in drawing.lines] == [
        (0, 1, "data"),
        (0, 2, "audio and data"),
        (1, 2, "data"),
    ]
    assert [(box.is_source, box.is_output) for box in drawing.boxes] == [(True, False), (False, False), (False, True)]


def test_mermaid() -> None:
    assert to_mermaid(drawn(title='a "b"')) == (
        '---\ntitle: "a \\"b\\""\n---\n'
        "flowchart LR\n"
        '    n0(["a<br/>Pass"])\n'
        '    n1["b<br/>Read"]\n'
        '    n2[["c<br/>Pass"]]\n'
        "    n0 -->|data| n1\n"
        "    n0 -->|audio and data| n2\n"
        "    n1 -->|data| n2\n"
    )


def test_dot() -> None:
    told = to_dot(drawn())
    assert '    n0 [shape=ellipse, label="a\\nPass"];\n' in told
    assert '    n2 [peripheries=2, label="c\\nPass"];\n' in told
    assert '    n1 -> n2 [label="data"];\n' in told


@pytest.mark.parametrize("name", ['"; evil', "<b>&amp;", "a\nb\x00", "\\", "#1 `x`", "日本"])
def test_ids_of_any_kind_break_nothing(name: str) -> None:
    drawing = Drawing(name, [Box((name, "VAD"), True, True)], [])
    assert len(to_mermaid(drawing).splitlines()) == 5
    assert len(re.findall(r'(?<!\\)(?:\\\\)*"', to_dot(drawing))) % 2 == 0
    shown = name.replace("\n", "\N{REPLACEMENT CHARACTER}").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    texts = [each.text for each in ElementTree.fromstring(to_svg(drawing)).iter("{http://www.w3.org/2000/svg}text")]
    assert texts == [shown, shown, "VAD"]


@st.composite
def drawings(draw_: st.DrawFn) -> Drawing:
    count = draw_(st.integers(1, 9))
    edges = draw_(st.sets(st.sampled_from([*combinations(range(count), 2)] or [None])))
    boxes = [Box(("x" * draw_(st.integers(1, 20)), "Type"), True, False) for _ in range(count)]
    return Drawing("", boxes, [Line(*edge, "audio") for edge in sorted(edges - {None})])


@given(drawings())
def test_nothing_lies_on_anything_else_and_every_line_leads_to_the_right(drawing: Drawing) -> None:
    layout = lay_out(drawing)
    places = {id(place): place for way in layout.ways for place in way} | {id(place): place for place in layout.boxes}
    for one, other in combinations(places.values(), 2):
        assert apart(one, other)
    for place in places.values():
        assert 0 < place.x < place.x + place.width < layout.width
        assert 0 < place.y < place.y + place.height < layout.height
    for line, way in zip(drawing.lines, layout.ways, strict=True):
        assert (way[0], way[-1]) == (layout.boxes[line.source], layout.boxes[line.target])
        for one, other in pairwise(way):
            assert other.layer == one.layer + 1, "a lane in every layer, so that curves bend between layers alone"
            assert one.x + one.width < other.x


def apart(one: Place, other: Place) -> bool:
    return (
        one.x + one.width <= other.x
        or other.x + other.width <= one.x
        or one.y + one.height <= other.y
        or other.y + other.height <= one.y
    )


def test_neighbours_lie_side_by_side_where_that_spares_a_crossing() -> None:
    boxes = [Box((name,), False, False) for name in "abcd"]
    layout = lay_out(Drawing("", boxes, [Line(0, 3, ""), Line(1, 2, "")]))
    a, b, c, d = (place.y for place in layout.boxes)
    assert (a < b) == (d < c)
