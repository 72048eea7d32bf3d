"""What crosses the engine's borders: chunks in; results, errors and metrics out.

`Chunk` comes from the codec or from a library user. A `Result` is made of a row that has run through the graph.
Times are seconds of `time.perf_counter`, unless their name says otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from time import perf_counter

import attrs

from engine.errors import ChunkRefused, EngineError
from nodes.contract import Audio, Data, Item

__all__ = [
    "BadChunk",
    "Chunk",
    "NodeFigures",
    "NodeOutcome",
    "NodeStatus",
    "Output",
    "Ready",
    "Result",
    "SessionMetrics",
    "Status",
]


@attrs.define  # not frozen: one is made for every chunk, and a frozen class takes three times as long to fill
class Chunk:
    """One chunk of one source; not to be changed.

    Attributes:
      item: Audio or data. An audio item's `start` is given by the session.
      sequence: 0 to 2^64 - 1; rises by one from chunk to chunk, shared by all sources.
      source: The source node's id; "" where the pipeline has just one source.
      timestamp_ms: Capture time, echoed in the result; 0 is none.
      received_at: When its bytes had been read.
      parse_s: What parsing it took.
      data_bytes: Length of a data item's JSON text, for the accounts.
      nbytes: Accounted bytes.
    """

    item: Item
    sequence: int
    source: str = ""
    timestamp_ms: int = 0
    received_at: float = attrs.field(factory=perf_counter)
    parse_s: float = 0.0
    data_bytes: int = 0
    nbytes: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.nbytes = self.item.frames.nbytes if isinstance(self.item, Audio) else self.data_bytes


@attrs.frozen
class BadChunk:
    """A chunk that could not be made sense of at the border; it is answered and counted like any that is refused.

    Attributes:
      error: What is wrong with it.
      sequence: Its number, which is then no hole; None if even that is unknown.
      source: The node it was for.
    """

    error: ChunkRefused
    sequence: int | None = None
    source: str = ""

    @property
    def nbytes(self) -> int:
        """It is not kept."""
        return 0


class NodeStatus(enum.Enum):
    """What became of a node in a row."""

    SUCCESS = "success"
    SKIPPED = "skipped"
    FAILED = "failed"


class Status(enum.Enum):
    """What became of a row, or of a whole call."""

    SUCCESS = "success"
    PARTIAL_SUCCESS = "partial success"
    FAILED = "failed"


@attrs.define  # not frozen, like Chunk
class Output:
    """What one node gives back in one result, joined; not to be changed."""

    audio: Audio | None = None
    data: Data | None = None


@attrs.frozen
class NodeOutcome:
    """What became of one node: in one row, or in a whole call.

    Attributes:
      metadata: Where and on what it ran, as JSON text.
    """

    node_id: str
    status: NodeStatus
    error: EngineError | None = None
    metadata: str = ""


@attrs.define
class NodeFigures:
    """What one node cost: in one row, or since the session began.

    Attributes:
      run_ms: In `process` and `finish`, wall clock.
      queue_ms: Packets waited this long for the node.
      max_run_ms: The longest single row.
      chunks: Rows that gave it something to do.
      samples: Taken in, over all channels.
      memory_bytes: As the node reports.
      custom_metrics: As the node reports, JSON text; "" is none.
    """

    run_ms: float = 0.0
    queue_ms: float = 0.0
    max_run_ms: float = 0.0
    chunks: int = 0
    samples: int = 0
    memory_bytes: int = 0
    custom_metrics: str = ""


@attrs.define  # not frozen, like Chunk
class Result:
    """What a row gives back; not to be changed.

    Attributes:
      sequence: The row's number; of a flush, the last row's, or None if there was none.
      flush: It answers a FLUSH or CLOSE and has the nodes' tails.
      outputs: Node id → what it gave; sinks and `is_output` nodes that gave something.
      items: Node id → the same, before they were joined.
      errors: One for each node that refused this row; they precede the result on the wire.
      status: SUCCESS if every node did something, else PARTIAL_SUCCESS.
      nodes: One outcome per node in topological order; empty when lean.
      figures: Node id → figures of this row; empty when lean.
      wall_ms: From the first chunk's having been read until this was made.
      cpu_ms: Thread CPU time of its way through the graph: the nodes, and what the engine does between them.
      memory_bytes: Highest accounted bytes of the session so far.
      parse_ms: Parsing this row's chunks.
      timestamp_ms: Capture time of the row's first chunk.
    """

    sequence: int | None
    flush: bool
    outputs: Mapping[str, Output]
    items: Mapping[str, Sequence[Item]] = attrs.field(factory=dict)
    errors: Sequence[EngineError] = ()
    status: Status = Status.SUCCESS
    nodes: Sequence[NodeOutcome] = ()
    figures: Mapping[str, NodeFigures] = attrs.field(factory=dict)
    wall_ms: float = 0.0
    cpu_ms: float = 0.0
    memory_bytes: int = 0
    parse_ms: float = 0.0
    timestamp_ms: int = 0


@attrs.frozen
class Ready:
    """What a session tells as soon as it can take chunks."""

    session_id: str
    max_delay_ms: float
    input_capacity: int
    recommended_chunk_ms: float = 20.0


@attrs.frozen
class SessionMetrics:
    """A session's account of itself: periodic, and once more, `final`, at its end.

    The ledger: `received = accepted + refused`, and in the end
    `accepted = delivered + rejected + dropped + cancelled`. Latencies run from a chunk's having been read to its
    response's having been handed over; percentiles are within 1 %.
    """

    session_id: str
    final: bool
    received: int
    accepted: int
    refused: int
    delivered: int
    rejected: int
    dropped: int
    cancelled: int
    missing: int
    in_flight: int
    total_samples: int
    average_latency_ms: float
    p50_latency_ms: float
    p95_latency_ms: float
    p99_latency_ms: float
    max_latency_ms: float
    peak_memory_bytes: int
    delay_ms: float
    figures: Mapping[str, NodeFigures]
