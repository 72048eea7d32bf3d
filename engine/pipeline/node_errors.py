"""Errors, with their facts, for a node that rejects its input, fails, or exceeds a limit."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from engine.errors import MemoryLimitExceeded, NodeFailed, NodeRefused, TimeLimitExceeded
from engine.manifest.plan import PlannedNode
from engine.pipeline.memory import MemoryAccount
from nodes.contract import Audio, InvalidInput, Item

__all__ = ["node_failed", "node_refused", "too_large", "too_slow"]


def node_refused(planned: PlannedNode, error: InvalidInput, sequence: int | None, items: Sequence[Item]) -> NodeRefused:
    """Make the error of a node that has rejected these items of a row."""
    return NodeRefused(
        f"node {planned.id!r} ({planned.node_type}) rejected its input: {error}",
        node_id=planned.id,
        sequence=sequence,
        context=_context(planned, items),
    )


def node_failed(
    planned: PlannedNode,
    what: str,
    error: Exception,
    sequence: int | None = None,
    items: Sequence[Item] | None = None,
) -> NodeFailed:
    """Make the error of a node that has failed.

    Args:
      planned: The node.
      what: The failed action, as a verb phrase after the node's name.
      error: The exception that the node raised.
      sequence: Number of the row, if the node was at one.
      items: Items that the row had for the node.
    """
    return NodeFailed(
        f"node {planned.id!r} ({planned.node_type}) {what}: {type(error).__name__}: {error}",
        node_id=planned.id,
        sequence=sequence,
        context=_context(planned, items),
        stack_trace="".join(traceback.format_exception(error)),
    )


def too_large(planned: PlannedNode, nbytes: int, sequence: int | None, memory: MemoryAccount) -> MemoryLimitExceeded:
    """Make the error of a node whose items exceed the memory limit."""
    return MemoryLimitExceeded(
        f"{nbytes} bytes from node {planned.id!r} do not fit: {memory.used} of {memory.limit} accounted"
        " bytes are in use",
        node_id=planned.id,
        sequence=sequence,
        context={"bytes": nbytes, "used": memory.used, "limit": memory.limit},
    )


def too_slow(planned: PlannedNode, seconds: float, sequence: int | None, limit_s: float) -> TimeLimitExceeded:
    """Make the error of a node that took too long for one row."""
    return TimeLimitExceeded(
        f"node {planned.id!r} ({planned.node_type}) took {seconds * 1e3:.0f} ms for one row;"
        f" the limit is {limit_s * 1e3:.0f} ms",
        node_id=planned.id,
        sequence=sequence,
        context={"limit_ms": limit_s * 1e3, "value_ms": seconds * 1e3},
    )


def _context(planned: PlannedNode, items: Sequence[Item] | None) -> dict[str, object]:
    facts: dict[str, object] = {"node_type": planned.node_type, "params": dict(planned.params)}
    return facts if items is None else {**facts, "inputs": [_describe(item) for item in items]}


def _describe(item: Item) -> str:
    if isinstance(item, Audio):
        return f"{item.frames.shape[0]}x{item.channels} {item.sample_format} at {item.sample_rate} Hz"
    return "data"
