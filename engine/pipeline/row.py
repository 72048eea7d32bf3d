"""Rows, and the packets that carry them along edges: the engine's envelope around the items that nodes see.

A row is one sequence number's way through the graph. Every edge carries exactly one packet for every row, in order;
a packet may be empty. Nodes see neither rows nor packets.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import EngineError
from engine.messages import Chunk, NodeStatus
from nodes.contract import Audio, Item

__all__ = ["DATA_ITEM_BYTES", "Mark", "Packet", "Row", "items_bytes"]

DATA_ITEM_BYTES = 512
"""Accounted size of a data item between nodes; its real size is known only after encoding."""


def items_bytes(items: Sequence[Item]) -> int:
    """Return the accounted bytes of items."""
    if len(items) == 1:  # the usual case
        (item,) = items
        return item.frames.nbytes if isinstance(item, Audio) else DATA_ITEM_BYTES
    nbytes = 0
    for item in items:
        nbytes += item.frames.nbytes if isinstance(item, Audio) else DATA_ITEM_BYTES
    return nbytes


Mark = tuple[NodeStatus, float, float, int]
"""One node's part in one row: status, run time and queue time in seconds, and samples taken in. A bare tuple, because
one is made for every node of every row."""


class Row:
    """One row, from the acceptance of its chunks until its response has been handed over.

    Attributes:
      sequence: Its number; for a flush, the last row's number, or None if there was none.
      flush: True for a barrier: after its items every node finishes.
      final: True for the barrier of a CLOSE.
      items: Source id → items of its chunks; exactly one item, except for side inputs.
      chunk_count: Chunks in it, over all sources, as the ledger counts them.
      nbytes: Accounted bytes that the row itself holds: its chunks before it enters the graph, its outputs after.
      received_at: Time when its first chunk had been read (`time.perf_counter`).
      parse_s: Time spent parsing its chunks.
      timestamp_ms: Capture time of its first chunk.
      entered_clock: The sweep's clock when it entered the graph.
      ended: Sources known to send nothing in this row or later (only one-shot calls know).
      index: Number of rows that entered before it.
      waiting: Sinks that have not done it yet.
      cpu_s: Thread CPU time spent on it by scheduler runs and thread calls.
      marks: One per node, in topological order; None until that node has done it.
      has_skipped: True if a node had nothing to do in it.
      outputs: Node id → items, of the sinks and taps that emitted any.
      rejections: One error for each node that rejected it.
    """

    __slots__ = (
        "chunk_count",
        "cpu_s",
        "ended",
        "entered_clock",
        "final",
        "flush",
        "has_skipped",
        "index",
        "items",
        "marks",
        "nbytes",
        "outputs",
        "parse_s",
        "received_at",
        "rejections",
        "sequence",
        "timestamp_ms",
        "waiting",
    )

    def __init__(self, sequence: int | None, *, flush: bool = False, final: bool = False) -> None:
        self.sequence = sequence
        self.flush = flush
        self.final = final
        self.items: dict[str, list[Item]] = {}
        self.chunk_count = 0
        self.nbytes = 0
        self.received_at = 0.0
        self.parse_s = 0.0
        self.timestamp_ms = 0
        self.entered_clock = 0.0
        self.ended: frozenset[str] = frozenset()
        self.index = 0
        self.waiting = 0
        self.cpu_s = 0.0
        self.marks: list[Mark | None] = []
        self.has_skipped = False
        self.outputs: dict[str, Sequence[Item]] = {}
        self.rejections: list[EngineError] = []

    def take(self, chunk: Chunk, source: str, item: Item) -> None:
        """Add a chunk of a source; an audio item already has its position in the source's stream."""
        if not self.chunk_count:
            self.received_at = chunk.received_at
            self.timestamp_ms = chunk.timestamp_ms
        elif chunk.received_at < self.received_at:
            self.received_at = chunk.received_at
        self.items.setdefault(source, []).append(item)
        self.chunk_count += 1
        self.nbytes += chunk.nbytes
        self.parse_s += chunk.parse_s

    @property
    def credits(self) -> int:
        """Number of credits it holds: one for each chunk, and one for a flush."""
        return self.chunk_count + self.flush


class Packet:
    """One node's items for one row, shared by all edges that leave the node.

    The last reader to finish with a packet may reuse it for its own items.

    Attributes:
      items: Items of the packet; each reader keeps the kinds that its edge carries.
      sent_at: `time.perf_counter` when it was sent.
      nbytes: Accounted bytes, released by the last of its readers.
      readers: Number of nodes that have not finished with it.
    """

    __slots__ = ("items", "nbytes", "readers", "row", "sent_at")

    def __init__(self, row: Row, items: Sequence[Item], sent_at: float, nbytes: int, readers: int) -> None:
        self.row = row
        self.items = items
        self.sent_at = sent_at
        self.nbytes = nbytes
        self.readers = readers
