"""The accounts of one session: its chunks, which must balance, its latencies, and its memory."""

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
    """Chunks, counted. Nothing is ever lost silently.

    Attributes:
      received: Offered by the client.
      accepted: Taken; each becomes delivered, rejected, dropped or cancelled.
      refused: Answered with an error instead of being taken.
      delivered: In a row whose response was handed over without an error.
      rejected: In a row that a node refused.
      dropped: By the overflow policy or for their age.
      cancelled: Under way when the session ended early.
      missing: Chunks that never came, one for each number and source that had spoken.
      samples: Accepted, over all channels.
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
        """Accepted chunks whose fate is still open."""
        return self.accepted - self.delivered - self.rejected - self.dropped - self.cancelled

    def check_closed(self) -> None:
        """Check that the account of an ended session balances.

        Raises:
          InternalFault: it does not: a bug of the engine.
        """
        if self.received != self.accepted + self.refused or self.in_flight:
            raise InternalFault("the session's ledger does not balance", context=attrs.asdict(self))


class Accounts:
    """What a session writes down.

    Args:
      limit_bytes: Of accounted memory.

    Attributes:
      ledger: Chunks.
      memory: Accounted bytes.
      latencies: From a chunk's having been read to its response's having been handed over.
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

    def metrics(
        self, session_id: str, figures: Mapping[str, NodeFigures], delay_ms: float, *, final: bool
    ) -> SessionMetrics:
        """The account as it stands.

        Args:
          session_id: The session's.
          figures: Node id → what it has cost.
          delay_ms: Of the longest path.
          final: The session has ended.
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
