"""The books of one session: its chunks, its bytes and its latencies, and the account that is made of them."""

from __future__ import annotations

from time import perf_counter

from engine.errors import MemoryLimitExceeded
from engine.latency import LatencyHistogram
from engine.ledger import Ledger, MemoryAccount
from engine.packet import SessionMetrics
from engine.pipeline import RunningPipeline
from engine.row import Row

__all__ = ["Books"]


class Books:
    """What a session writes down.

    Args:
      limit_bytes: of accounted memory.

    Attributes:
      ledger: chunks.
      memory: accounted bytes.
      latencies: from a chunk's having been read to its response's having been handed over.
    """

    __slots__ = ("latencies", "ledger", "memory")

    def __init__(self, limit_bytes: int) -> None:
        self.ledger = Ledger()
        self.memory = MemoryAccount(limit_bytes)
        self.latencies = LatencyHistogram()

    def handed_over(self, row: Row) -> None:
        """A row's response has been handed over."""
        chunks = row.chunk_count
        if row.rejections:
            self.ledger.rejected += chunks
        else:
            self.ledger.delivered += chunks
        if chunks:
            self.latencies.record((perf_counter() - row.received_at) * 1e3)
        self.memory.release(row.nbytes)

    def lost(self, row: Row) -> None:
        """A row under way will not be delivered."""
        self.ledger.cancelled += row.chunk_count
        self.memory.release(row.nbytes)

    def hold(self, nbytes: int) -> None:
        """Account for bytes that the session's user keeps until its end.

        Raises:
          MemoryLimitExceeded: they do not fit.
        """
        memory = self.memory
        if not memory.take(nbytes):
            raise MemoryLimitExceeded(
                f"{nbytes} bytes of inputs or outputs do not fit: {memory.used} of {memory.limit} accounted bytes"
                " are in use",
                context={"value": memory.used + nbytes, "limit": memory.limit},
            )

    def metrics(self, session_id: str, pipeline: RunningPipeline, *, final: bool) -> SessionMetrics:
        """The account as it stands."""
        ledger, latencies = self.ledger, self.latencies
        pipeline.poll_memory()
        p50, p95, p99 = latencies.percentiles(0.5, 0.95, 0.99)
        return SessionMetrics(
            session_id=session_id,
            final=final,
            received=ledger.received,
            accepted=ledger.accepted,
            refused=ledger.refused,
            delivered=ledger.delivered,
            rejected=ledger.rejected,
            dropped=ledger.dropped,
            cancelled=ledger.cancelled,
            missing=ledger.missing,
            in_flight=ledger.in_flight,
            total_samples=ledger.samples,
            average_latency_ms=latencies.average_ms,
            p50_latency_ms=p50,
            p95_latency_ms=p95,
            p99_latency_ms=p99,
            max_latency_ms=latencies.max_ms,
            peak_memory_bytes=self.memory.peak,
            delay_ms=pipeline.delay_seconds() * 1e3,
            figures={task.planned.id: task.figures() for task in pipeline.tasks},
        )
