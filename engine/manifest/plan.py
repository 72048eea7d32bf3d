"""Plans: valid pipelines, ready to run, with nodes in topological order, edges and sources; and the caps on manifests.

A `Plan` exists only if its manifest is valid (see `engine.manifest.checker`). It holds the nodes built for one session.
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
    """Limits on the size of a manifest."""

    nodes: int = 128
    edges: int = 512
    id_bytes: int = 128
    params_bytes: int = 64 << 10


@attrs.frozen
class Edge:
    """A connection between two nodes of the plan, by their indices.

    Attributes:
      kinds: Kinds of item that travel on it: those that the source gives and the target takes.
      filters: The source gives other kinds too, which the edge leaves out.
    """

    source: int
    target: int
    kinds: Kind
    filters: bool


@attrs.frozen(eq=False)
class PlannedNode:
    """A node at its place in the plan.

    Attributes:
      index: Index in topological order.
      params: Parameters as given, for error reports.
      origins: Ids of the sources upstream of it; its own id if it is a source.
      inbound: Edges into it, in the order of the manifest's connections.
      is_output: Its output is returned, because it is a sink or the manifest says `is_output`.
      metadata: Host, Python runtime and placement, as JSON text.
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
        """True if no edge leads to it; chunks are addressed to it."""
        return not self.inbound

    @property
    def is_sink(self) -> bool:
        """True if no edge leads from it; a row is done when all sinks have processed it."""
        return not self.outbound


@attrs.frozen(eq=False)
class Plan:
    """A valid pipeline for one session.

    Attributes:
      nodes: Nodes in topological order.
      sources: Id → source node, in the manifest's order.
      name: Name of the manifest; may be empty.
    """

    name: str
    nodes: tuple[PlannedNode, ...]
    sources: Mapping[str, PlannedNode]

    def delay_s(self, delays: Sequence[float] | None = None) -> float:
        """Return the sum of the nodes' delays along the longest path; exact once the nodes know their formats.

        Args:
          delays: Delay of each node in seconds; by default the nodes are asked.
        """
        delays = [planned.node.delay for planned in self.nodes] if delays is None else delays
        lag = [0.0] * len(self.nodes)
        for planned in self.nodes:
            before = max((lag[edge.source] for edge in planned.inbound), default=0.0)
            lag[planned.index] = before + delays[planned.index]
        return max(lag)

    def close(self) -> None:
        """Close the nodes of a plan that never ran."""
        close_nodes(planned.node for planned in self.nodes)


def close_nodes(nodes: Iterable[AnyNode]) -> None:
    """Close every node, even if others raise."""
    for node in nodes:
        try:
            node.close()
        except Exception:  # logged, so that the other nodes are closed too
            _log.exception("closing a %s failed", type(node).__name__)
