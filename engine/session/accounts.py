"""The accounts of one session: a ledger of its chunks, which must balance, its latencies, and its memory."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import attrs

from engine.errors import InternalFault, MemoryLimitExceeded
from engine.latency import LatencyHistogram
from engine.messages import NodeFigures, SessionMetrics
from engine.pipeline.memory import MemoryAccount
from engine.pipeline.row import Row

__all__ = ["Accounts", "Ledger"]


@attrs.define
class Ledger:
    """Counts of chunks by their fate. No chunk is ever lost silently.

    Attributes:
      received: Chunks that the client offered.
      accepted: Chunks taken; each becomes delivered, rejected, dropped or cancelled.
      refused: Chunks answered with an error instead of being taken.
      delivered: Chunks of rows whose response was handed over without an error.
      rejected: Chunks of rows that a node rejected.
      dropped: Chunks dropped by the overflow policy or for their age.
      cancelled: Chunks under way when the session ended early.
      missing: Numbers never received, counted for each source heard before.
      samples: Accepted samples, over all channels.
    """

    received: int = 0
    accepted: int = 0
    refused: int = 0
    delivered: int = 0
    rejected: int = 0
    dropped: int = 0
    cancelled: int = 0
    missing: int = 0
    samples: int = 0

    @property
    def in_flight(self) -> int:
        """Number of accepted chunks whose fate is still open."""
        return self.accepted - self.delivered - self.rejected - self.dropped - self.cancelled

    def check_closed(self) -> None:
        """Check that the account of an ended session balances.

        Raises:
          InternalFault: it does not balance, which is a bug in the engine.
        """
        if self.received != self.accepted + self.refused or self.in_flight:
            raise InternalFault("the session's ledger does not balance", context=attrs.asdict(self))


class Accounts:
    """Chunks, memory and latencies of one session.

    Args:
      limit_bytes: Limit of accounted memory.

    Attributes:
      ledger: Counts of chunks.
      memory: Accounted bytes.
      latencies: Times from reading a row's first chunk to handing its response over.
    """

    __slots__ = ("latencies", "ledger", "memory")

    def __init__(self, limit_bytes: int) -> None:
        self.ledger = Ledger()
        self.memory = MemoryAccount(limit_bytes)
        self.latencies = LatencyHistogram()

    def handed_over(self, row: Row) -> None:
        """Account for a row whose response has been handed over."""
        chunks = row.chunk_count
        if row.rejections:
            self.ledger.rejected += chunks
        else:
            self.ledger.delivered += chunks
        if chunks:
            self.latencies.record((perf_counter() - row.received_at) * 1e3)
        self.memory.release(row.nbytes)

    def lost(self, row: Row) -> None:
        """Account for a row that was under way and will not be delivered."""
        self.ledger.cancelled += row.chunk_count
        self.memory.release(row.nbytes)

    def hold(self, nbytes: int) -> None:
        """Account for bytes that the session's user keeps until its end.

        Raises:
          MemoryLimitExceeded: the bytes do not fit.
        """
        memory = self.memory
        if not memory.take(nbytes):
            raise MemoryLimitExceeded(
                f"{nbytes} bytes of inputs or outputs do not fit: {memory.used} of {memory.limit} accounted bytes"
                " are in use",
                context={"value": memory.used + nbytes, "limit": memory.limit},
            )

    def metrics(
        self, session_id: str, figures: Mapping[str, NodeFigures], delay_ms: float, *, final: bool
    ) -> SessionMetrics:
        """Return the current account.

        Args:
          session_id: Id of the session.
          figures: Node id → the node's figures.
          delay_ms: Delay of the longest path.
          final: True if the session has ended.
        """
        ledger, latencies = self.ledger, self.latencies
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
            delay_ms=delay_ms,
            figures=figures,
        )
