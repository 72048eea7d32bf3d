"""Breakdown of a chunk's latency: the stages that the server reports, and the rest."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from protos import streaming_pb2 as streaming

__all__ = ["Stage", "account"]


@attrs.frozen
class Stage:
    """Stage of a chunk's way, with its mean and longest time."""

    name: str
    mean_ms: float
    longest_ms: float | None = None


def account(kept: Sequence[bytes], mean_ms: float, nodes: Sequence[str]) -> list[Stage]:
    """Return the stages of a chunk's way.

    Nodes on parallel branches wait for one another, so the stages may add up to more than the whole.

    Args:
      kept: Final metrics of sessions, and a sample of their results.
      mean_ms: Mean latency, as the client measured it.
      nodes: Ids of the nodes, in the order of the stages.
    """
    messages = [streaming.StreamResponse.FromString(each) for each in kept]
    finals = [each.metrics for each in messages if each.HasField("metrics")]
    results = [each.result.metrics for each in messages if each.HasField("result")]
    chunks = sum(each.chunks_processed for each in finals)
    if not chunks:
        return []
    inside = sum(each.average_latency_ms * each.chunks_processed for each in finals) / chunks
    stages = [
        Stage("due to received, at the client", mean_ms),
        Stage("wire in and out, and the client", mean_ms - inside),
        Stage("read to answered, in the server", inside, max(each.max_latency_ms for each in finals)),
    ]
    if results:
        codec = [each.serialization_time_ms for each in results]
        stages.append(Stage("parse and build messages", float(np.mean(codec)), max(codec)))
    for node in nodes:
        figures = [each.node_metrics[node] for each in finals]
        rows = sum(each.chunks for each in figures) or 1
        stages.append(Stage(f"{node}: queue", sum(each.queue_time_ms for each in figures) / rows))
        run_ms = sum(each.execution_time_ms for each in figures) / rows
        stages.append(Stage(f"{node}: run", run_ms, max(each.max_execution_time_ms for each in figures)))
    return stages
