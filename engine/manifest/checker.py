"""Check a manifest against every rule, report all its faults with their paths, and make the plan of a valid one."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from engine.errors import Fault, ManifestInvalid
from engine.manifest.capabilities import Machine, probe_machine, unmet
from engine.manifest.manifest import Connection, Manifest, NodeSpec
from engine.manifest.parameters import build_node
from engine.manifest.plan import Caps, Edge, Plan, PlannedNode, Registry, close_nodes
from engine.strict_json import BadJson, load_json_object
from nodes.contract import AnyNode, Kind

__all__ = ["make_plan"]


def make_plan(
    manifest: Manifest, registry: Registry, *, caps: Caps | None = None, machine: Machine | None = None
) -> Plan:
    """Check a whole manifest, and build its nodes.

    Args:
      manifest: The requested pipeline.
      registry: Node type → class.
      caps: Limits on the size of the manifest.
      machine: Resources that nodes' capabilities are checked against; by default those of this machine.

    Raises:
      ManifestInvalid: the manifest has faults; all of them are listed.
    """
    checker = _Checker(manifest, registry, caps or Caps(), machine)
    plan = None
    try:
        plan = checker.check()
    finally:
        if plan is None:
            close_nodes(node for node in checker.built if node is not None)
    if plan is None:
        raise ManifestInvalid(checker.faults)
    return plan


class _Checker:
    """Check of one manifest; used once.

    Attributes:
      faults: Faults found so far.
      params: Parsed parameters of each node, in the manifest's order; empty if they have faults.
      built: Node of each spec, in the manifest's order; None if it could not be built.
    """

    def __init__(self, manifest: Manifest, registry: Registry, caps: Caps, machine: Machine | None) -> None:
        self.manifest = manifest
        self.registry = registry
        self.caps = caps
        self.machine = machine
        self.faults: list[Fault] = []
        self.params: list[Mapping[str, Any]] = []
        self.built: list[AnyNode | None] = []

    def fault(self, path: str, message: str) -> None:
        self.faults.append(Fault(path, message))

    def check(self) -> Plan | None:
        nodes, connections = self.manifest.nodes, self.manifest.connections
        if self.manifest.version != "v1":
            self.fault("version", f"must be 'v1', got {self.manifest.version!r:.80}")
        if not nodes:
            self.fault("nodes", "must hold at least one node")
        if len(nodes) > self.caps.nodes:
            self.fault("nodes", f"{len(nodes)} nodes; the limit is {self.caps.nodes}")
        if len(connections) > self.caps.edges:
            self.fault("connections", f"{len(connections)} connections; the limit is {self.caps.edges}")
        if len(nodes) > self.caps.nodes or len(connections) > self.caps.edges:
            return None
        self._check_ids(nodes)
        for i, spec in enumerate(nodes):
            self._check_node(f"nodes[{i}]", spec)
        places = {spec.id: i for i, spec in enumerate(nodes)}
        links = self._check_connections(places, connections)
        order = self._order(nodes, links)
        self._check_kinds(nodes, links)
        self._check_upstreams(nodes, links)
        if self.faults or order is None:
            return None
        return self._assemble(nodes, links, order)

    def _check_ids(self, nodes: Sequence[NodeSpec]) -> None:
        for i, spec in enumerate(nodes):
            size = len(spec.id.encode("utf-8", "replace"))
            if not spec.id:
                self.fault(f"nodes[{i}].id", "must not be empty")
            elif size > self.caps.id_bytes:
                self.fault(f"nodes[{i}].id", f"{size} bytes long; the limit is {self.caps.id_bytes}")
        first: dict[str, int] = {}
        for i, spec in enumerate(nodes):
            if spec.id and first.setdefault(spec.id, i) != i:
                self.fault(f"nodes[{i}].id", f"{spec.id!r} is already the id of nodes[{first[spec.id]}]")

    def _check_node(self, path: str, spec: NodeSpec) -> None:
        params = self._parse_params(path, spec)
        self.params.append(params or {})
        node_class = self.registry.get(spec.node_type)
        if node_class is None:
            known = ", ".join(sorted(self.registry)) or "none"
            self.fault(f"{path}.node_type", f"{spec.node_type!r:.80} is unknown; known are {known}")
        node = None
        if node_class is not None and params is not None:
            node = build_node(node_class, params, f"{path}.params", self.faults)
        self.built.append(node)
        if spec.capabilities is not None:
            self.machine = self.machine or probe_machine()
            for where, message in unmet(spec.capabilities, self.machine):
                self.fault(f"{path}.capabilities.{where}", message)

    def _parse_params(self, path: str, spec: NodeSpec) -> Mapping[str, Any] | None:
        text = spec.params
        if not isinstance(text, str):
            try:
                text = json.dumps(text, allow_nan=False)
            except (ValueError, TypeError, RecursionError) as error:
                self.fault(f"{path}.params", f"cannot be encoded as JSON: {error}")
                return None
        try:
            return load_json_object(text, max_bytes=self.caps.params_bytes)
        except BadJson as error:
            self.fault(f"{path}.params", str(error))
            return None

    def _check_connections(
        self, places: Mapping[str, int], connections: Sequence[Connection]
    ) -> list[tuple[int, int, int]]:
        """Return the connections that passed these checks, as (connection, source node, target node) by number."""
        links: list[tuple[int, int, int]] = []
        seen: set[tuple[str, str]] = set()
        for i, link in enumerate(connections):
            path = f"connections[{i}]"
            known = ", ".join(map(repr, places)) or "none"
            for end, name in (("from", link.source), ("to", link.target)):
                if name not in places:
                    self.fault(f"{path}.{end}", f"{name!r:.140} is not the id of a node; known are {known:.400}")
            if link.source not in places or link.target not in places:
                continue
            if link.source == link.target:
                self.fault(path, f"connects {link.source!r} to itself")
            elif (link.source, link.target) in seen:
                self.fault(path, f"connects {link.source!r} to {link.target!r} a second time")
            else:
                seen.add((link.source, link.target))
                links.append((i, places[link.source], places[link.target]))
        return links

    def _order(self, nodes: Sequence[NodeSpec], links: Iterable[tuple[int, int, int]]) -> list[int] | None:
        """Return the nodes' numbers in topological order, or None if there are cycles.

        Each cycle is reported, then its edges are removed to find the next.
        """
        edges = {(source, target) for _, source, target in links}
        cycles = 0
        while True:
            sorter: TopologicalSorter[int] = TopologicalSorter(dict.fromkeys(range(len(nodes)), ()))
            for source, target in sorted(edges):
                sorter.add(target, source)
            try:
                order = list(sorter.static_order())
            except CycleError as error:
                ring: list[int] = error.args[1]
                self.fault("connections", f"there is a cycle: {' → '.join(repr(nodes[i].id) for i in ring)}")
                edges -= set(pairwise(ring))
                cycles += 1
            else:
                return None if cycles else order

    def _check_kinds(self, nodes: Sequence[NodeSpec], links: Iterable[tuple[int, int, int]]) -> None:
        for i, source, target in links:
            giver, taker = self.built[source], self.built[target]
            if giver is not None and taker is not None and not giver.gives & taker.takes:
                self.fault(
                    f"connections[{i}]",
                    f"{nodes[source].id!r} ({nodes[source].node_type}) gives {giver.gives},"
                    f" but {nodes[target].id!r} ({nodes[target].node_type}) takes {taker.takes}",
                )

    def _check_upstreams(self, nodes: Sequence[NodeSpec], links: Sequence[tuple[int, int, int]]) -> None:
        for i, node in enumerate(self.built):
            if node is None:
                continue
            try:
                node.connect([nodes[source].id for _, source, target in links if target == i])
                node.connect_outputs([nodes[target].id for _, source, target in links if source == i])
            except ValueError as error:
                self.fault(f"nodes[{i}].params", str(error))
            except Exception as error:  # a bug in a node class must not bring the server down
                what = f"{type(node).__name__} cannot be connected: {type(error).__name__}: {error}"
                self.fault(f"nodes[{i}].params", what)

    def _assemble(self, nodes: Sequence[NodeSpec], links: Sequence[tuple[int, int, int]], order: Sequence[int]) -> Plan:
        inbound, outbound = self._edges(links, order)
        planned: list[PlannedNode] = []
        for index, number in enumerate(order):
            node, spec = self.built[number], nodes[number]
            assert node is not None
            above = [planned[edge.source].origins for edge in inbound[number]]
            planned.append(
                PlannedNode(
                    index,
                    spec.id,
                    spec.node_type,
                    node,
                    self.params[number],
                    frozenset().union(*above) if above else frozenset({spec.id}),
                    tuple(inbound[number]),
                    tuple(outbound[number]),
                    spec.is_output or not outbound[number],
                    _run_metadata(node),
                )
            )
        by_id = {each.id: each for each in planned}
        sources = {spec.id: by_id[spec.id] for spec in nodes if by_id[spec.id].is_source}
        return Plan(self.manifest.name, tuple(planned), sources)

    def _edges(
        self, links: Iterable[tuple[int, int, int]], order: Sequence[int]
    ) -> tuple[list[list[Edge]], list[list[Edge]]]:
        """Return the inbound and the outbound edges of each node, by its number in the manifest."""
        place = {number: index for index, number in enumerate(order)}
        inbound: list[list[Edge]] = [[] for _ in order]
        outbound: list[list[Edge]] = [[] for _ in order]
        for _, source, target in links:
            giver, taker = self.built[source], self.built[target]
            assert giver is not None
            assert taker is not None
            kinds = giver.gives & taker.takes
            edge = Edge(place[source], place[target], kinds, giver.gives & ~taker.takes != Kind(0))
            inbound[target].append(edge)
            outbound[source].append(edge)
        return inbound, outbound


def _run_metadata(node: AnyNode) -> str:
    return json.dumps(
        {
            "host": platform.node(),
            "runtime": platform.python_implementation().lower(),
            "python": platform.python_version(),
            "placement": node.placement,
        }
    )
