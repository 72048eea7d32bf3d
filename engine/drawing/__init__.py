"""Drawings of pipelines: Mermaid, Graphviz dot, and SVG."""

from __future__ import annotations

from engine.drawing.diagram import Box, Drawing, Line, draw, one_line, to_dot, to_mermaid

__all__ = ["Box", "Drawing", "Line", "draw", "one_line", "to_dot", "to_mermaid"]
