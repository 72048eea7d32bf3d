"""Messages that cross the engine's borders: chunks in; results, errors and metrics out.

A `Chunk` comes from the codec or from a library user. A `Result` is made from a row that has run through the graph.
Times are seconds of `time.perf_counter` unless their name says otherwise.
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


@attrs.define  # not frozen: one is made for every chunk, and a frozen instance takes three times as long to fill
class Chunk:
    """One chunk of one source. Do not change it.

    Attributes:
      item: Audio or data. The session sets the `start` of an audio item.
      sequence: Number of the row, 0 to 2^64 - 1; rises by one from chunk to chunk, and all sources share the numbers.
      source: Id of the source node; "" is enough if the pipeline has only one source.
      timestamp_ms: Capture time, echoed in the result; 0 means none.
      received_at: Time at which its bytes had been read.
      parse_s: Time spent on parsing it.
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
    """A chunk that could not be parsed at the border; it is answered and counted like any other refused chunk.

    Attributes:
      error: Reason for the refusal.
      sequence: Its number, which then does not count as missing; None if it could not be read either.
      source: Id of the source node that it addressed.
    """

    error: ChunkRefused
    sequence: int | None = None
    source: str = ""

    @property
    def nbytes(self) -> int:
        """Always 0, because it is not kept."""
        return 0


class NodeStatus(enum.Enum):
    """Outcome of one node in one row."""

    SUCCESS = "success"
    SKIPPED = "skipped"
    FAILED = "failed"


class Status(enum.Enum):
    """Outcome of a row, or of a whole one-shot call."""

    SUCCESS = "success"
    PARTIAL_SUCCESS = "partial success"
    FAILED = "failed"


@attrs.define  # not frozen, like Chunk
class Output:
    """Output of one node in one result, its items joined. Do not change it."""

    audio: Audio | None = None
    data: Data | None = None


@attrs.frozen
class NodeOutcome:
    """Outcome of one node, in one row or in a whole one-shot call.

    Attributes:
      metadata: Host, Python runtime and placement of the node, as JSON text.
    """

    node_id: str
    status: NodeStatus
    error: EngineError | None = None
    metadata: str = ""


@attrs.define
class NodeFigures:
    """Costs of one node, in one row or since the session began.

    Attributes:
      run_ms: Wall-clock time in `process` and `finish`.
      queue_ms: Time that packets waited for the node.
      max_run_ms: Longest run of a single row.
      chunks: Rows in which the node had something to do.
      samples: Samples received, over all channels.
      memory_bytes: Memory that the node reports.
      custom_metrics: Metrics that the node reports, as JSON text; "" if there are none.
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
    """Result of one row. Do not change it.

    Attributes:
      sequence: Number of the row; for a flush, that of the last row, or None if there was none.
      flush: It answers a FLUSH or CLOSE and carries the nodes' tails.
      outputs: Node id → joined output, of the sinks and `is_output` nodes that emitted something.
      items: Node id → the same output as separate items.
      errors: One error for each node that rejected this row; they precede the result on the wire.
      status: SUCCESS if every node had something to do and none rejected the row, else PARTIAL_SUCCESS.
      nodes: One outcome per node, in topological order; empty in a lean session.
      figures: Node id → costs in this row; empty in a lean session.
      wall_ms: Time from the reading of the row's first chunk until this result was made.
      cpu_ms: Thread CPU time of the row's way through the graph: the nodes, and the engine's work between them.
      memory_bytes: Highest accounted bytes of the session so far.
      parse_ms: Time spent on parsing this row's chunks.
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
    """First message of a session, sent as soon as it can accept chunks."""

    session_id: str
    max_delay_ms: float
    input_capacity: int
    recommended_chunk_ms: float = 20.0


@attrs.frozen
class SessionMetrics:
    """Metrics of a session: sent periodically, and once more with `final` at its end.

    The counters balance: `received = accepted + refused`, and at the end
    `accepted = delivered + rejected + dropped + cancelled`. A latency is the time from the reading of a chunk until
    its response is handed over; percentiles are within 1 %.
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
