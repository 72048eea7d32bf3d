"""A valid pipeline, ready to run: nodes in topological order, edges, sources, and the caps on a manifest.

A `Plan` exists only if its manifest is valid (see `engine.manifest.checker`). It holds the nodes, built for a session.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from nodes.contract import AnyNode, Kind

__all__ = ["Caps", "Edge", "Plan", "PlannedNode", "Registry", "close_nodes"]

_log = logging.getLogger(f"headrace.{__name__}")

Registry = Mapping[str, type[AnyNode]]


@attrs.frozen
class Caps:
    """How large a manifest may be."""

    nodes: int = 128
    edges: int = 512
    id_bytes: int = 128
    params_bytes: int = 64 << 10


@attrs.frozen
class Edge:
    """A connection whose ends are known, by their places in the plan.

    Attributes:
      kinds: What travels on it: what the source gives and the target takes.
      filters: The source gives more than that.
    """

    source: int
    target: int
    kinds: Kind
    filters: bool


@attrs.frozen(eq=False)
class PlannedNode:
    """A node in its place.

    Attributes:
      index: Place in topological order.
      params: As given, for error reports.
      origins: The sources from which a way leads to it; its own id, if it is one.
      inbound: Edges to it, in the order of the manifest's connections.
      is_output: What it gives is returned: it is a sink, or asked for.
      metadata: Where and on what it runs, JSON text.
    """

    index: int
    id: str
    node_type: str
    node: AnyNode
    params: Mapping[str, Any]
    origins: frozenset[str]
    inbound: tuple[Edge, ...]
    outbound: tuple[Edge, ...]
    is_output: bool
    metadata: str

    @property
    def is_source(self) -> bool:
        """Nothing leads to it: chunks are addressed to it."""
        return not self.inbound

    @property
    def is_sink(self) -> bool:
        """It leads to nothing: a row is done when all of these have done it."""
        return not self.outbound


@attrs.frozen(eq=False)
class Plan:
    """A valid pipeline for one session.

    Attributes:
      nodes: In topological order.
      sources: Id → node, in the manifest's order.
      name: The manifest's, may be empty.
    """

    name: str
    nodes: tuple[PlannedNode, ...]
    sources: Mapping[str, PlannedNode]

    def delay_s(self, delays: Sequence[float] | None = None) -> float:
        """The nodes' delays added up along the longest path; exact once the nodes know their formats.

        Args:
          delays: Of each node, as it told them; they are asked, if not given.
        """
        delays = [planned.node.delay for planned in self.nodes] if delays is None else delays
        lag = [0.0] * len(self.nodes)
        for planned in self.nodes:
            before = max((lag[edge.source] for edge in planned.inbound), default=0.0)
            lag[planned.index] = before + delays[planned.index]
        return max(lag)

    def close(self) -> None:
        """Close nodes that never ran."""
        close_nodes(planned.node for planned in self.nodes)


def close_nodes(nodes: Iterable[AnyNode]) -> None:
    """Close nodes, each whatever the others raise."""
    for node in nodes:
        try:
            node.close()
        except Exception:  # its own affair, and no reason to leave others open
            _log.exception("closing a %s failed", type(node).__name__)
