"""The envelope that the engine keeps round what nodes see: rows, and the packets that carry them along edges.

A row is one sequence number's way through the graph. Every edge carries exactly one packet for every row, in order;
a packet may be empty. Nodes see neither.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import EngineError
from engine.messages import Chunk, NodeStatus
from nodes.contract import Audio, Item

__all__ = ["DATA_ITEM_BYTES", "Mark", "Packet", "Row", "items_bytes"]

DATA_ITEM_BYTES = 512
"""What a data item between nodes is accounted with; its real size would take encoding it."""


def items_bytes(items: Sequence[Item]) -> int:
    """Accounted bytes of some items."""
    if len(items) == 1:  # the usual case
        (item,) = items
        return item.frames.nbytes if isinstance(item, Audio) else DATA_ITEM_BYTES
    nbytes = 0
    for item in items:
        nbytes += item.frames.nbytes if isinstance(item, Audio) else DATA_ITEM_BYTES
    return nbytes


Mark = tuple[NodeStatus, float, float, int]
"""What one node did in one row: what became of it, run time and queue time in seconds, samples taken in. A bare tuple,
for one is made for every node of every row."""


class Row:
    """One row: from the moment its chunks have been accepted to the moment its response has been handed over.

    Attributes:
      sequence: Its number; of a flush, the last row's number, or None if there was none.
      flush: It is a barrier: after its items every node finishes.
      final: It is the barrier of a CLOSE.
      items: Source id → what its chunks brought; one item, but for data sources beside audio.
      chunk_count: Chunks in it, over all sources: what the ledger counts.
      nbytes: Accounted bytes it holds itself: its chunks' until it has entered, its outputs' later.
      received_at: When its first chunk had been read (`time.perf_counter`).
      parse_s: What parsing its chunks took.
      timestamp_ms: Capture time of its first chunk.
      entered_clock: The sweep's clock when it entered the graph.
      ended: Sources that give nothing in it nor after it, as far as is known (one-shot calls know).
      index: How many rows had entered before it.
      waiting: Sinks that have not done it yet.
      cpu_s: Thread CPU time of the turns, and of the thread calls, that it has gone through the graph in.
      marks: One per node, in topological order; None until that node has done it.
      has_skipped: A node had nothing to do in it.
      outputs: Node id → items, of sinks and taps that gave any.
      rejections: One per node that refused it.
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
        """Add a chunk, whose item has been given its place."""
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
        """Credits it holds: one for each chunk, and one for a flush."""
        return self.chunk_count + self.flush


class Packet:
    """What one node hands to the next for one row; shared by all edges that leave the node.

    When all its readers have done with it, it may go on with what one of them made of it.

    Attributes:
      items: What it carries; filtered by the reader to the kinds of its edge.
      sent_at: `time.perf_counter` when it was sent.
      nbytes: Accounted until the last of its `readers` has done with it.
    """

    __slots__ = ("items", "nbytes", "readers", "row", "sent_at")

    def __init__(self, row: Row, items: Sequence[Item], sent_at: float, nbytes: int, readers: int) -> None:
        self.row = row
        self.items = items
        self.sent_at = sent_at
        self.nbytes = nbytes
        self.readers = readers
