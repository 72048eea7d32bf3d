"""What is told when a node refuses, fails, or exceeds a limit: errors with their facts."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from engine.errors import MemoryLimitExceeded, NodeFailed, NodeRefused, TimeLimitExceeded
from engine.manifest.plan import PlannedNode
from engine.pipeline.memory import MemoryAccount
from nodes.contract import Audio, InvalidInput, Item

__all__ = ["node_failed", "node_refused", "too_large", "too_slow"]


def node_refused(planned: PlannedNode, error: InvalidInput, sequence: int | None, items: Sequence[Item]) -> NodeRefused:
    """The node has refused a row with these items."""
    return NodeRefused(
        f"node {planned.id!r} ({planned.node_type}) refused this: {error}",
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
    """The node has failed: at `what`, with which error, over which row and what that brought."""
    return NodeFailed(
        f"node {planned.id!r} ({planned.node_type}) {what}: {type(error).__name__}: {error}",
        node_id=planned.id,
        sequence=sequence,
        context=_context(planned, items),
        stack_trace="".join(traceback.format_exception(error)),
    )


def too_large(planned: PlannedNode, nbytes: int, sequence: int | None, memory: MemoryAccount) -> MemoryLimitExceeded:
    """What the node has made of a row does not fit."""
    return MemoryLimitExceeded(
        f"{nbytes} bytes from node {planned.id!r} do not fit: {memory.used} of {memory.limit} accounted"
        " bytes are in use",
        node_id=planned.id,
        sequence=sequence,
        context={"bytes": nbytes, "used": memory.used, "limit": memory.limit},
    )


def too_slow(planned: PlannedNode, seconds: float, sequence: int | None, limit_s: float) -> TimeLimitExceeded:
    """The node has taken too long over one row."""
    return TimeLimitExceeded(
        f"node {planned.id!r} ({planned.node_type}) took {seconds * 1e3:.0f} ms over one row;"
        f" the limit is {limit_s * 1e3:.0f} ms",
        node_id=planned.id,
        sequence=sequence,
        context={"limit_ms": limit_s * 1e3, "value_ms": seconds * 1e3},
    )


def _context(planned: PlannedNode, items: Sequence[Item] | None) -> dict[str, object]:
    facts: dict[str, object] = {"node_type": planned.node_type, "params": dict(planned.params)}
    return facts if items is None else {**facts, "inputs": [_words(item) for item in items]}


def _words(item: Item) -> str:
    if isinstance(item, Audio):
        return f"{item.frames.shape[0]}x{item.channels} {item.sample_format} at {item.sample_rate} Hz"
    return "data"
