"""The account that every session keeps: of chunks, which must balance, and of bytes, which are limited."""

from __future__ import annotations

import attrs

from engine.errors import InternalFault

__all__ = ["Ledger", "MemoryAccount"]


@attrs.define
class Ledger:
    """Chunks, counted. Nothing is ever lost silently.

    Attributes:
      received: offered by the client.
      accepted: taken; each becomes delivered, rejected, dropped or cancelled.
      refused: answered with an error instead of being taken.
      delivered: in a row whose response was handed over without an error.
      rejected: in a row that a node refused.
      dropped: by the overflow policy or for their age.
      cancelled: under way when the session ended early.
      missing: chunks that never came, one for each number and source that had spoken.
      samples: accepted, over all channels.
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


@attrs.define
class MemoryAccount:
    """Accounted bytes: buffers in flight and what nodes report. Python's own overhead is not in it.

    Attributes:
      limit: `ResourceLimits.max_memory_bytes`.
      buffers: bytes of audio and data in flight.
      nodes: bytes that the nodes reported last.
      peak: highest sum so far.
    """

    limit: int
    buffers: int = 0
    nodes: int = 0
    peak: int = 0

    @property
    def used(self) -> int:
        """Accounted bytes now."""
        return self.buffers + self.nodes

    def add(self, nbytes: int) -> None:
        """Account for buffers that have come to be."""
        self.buffers += nbytes
        if self.buffers + self.nodes > self.peak:
            self.peak = self.buffers + self.nodes

    def take(self, nbytes: int) -> bool:
        """Account for buffers that have come to be, if they stay within the limit; tell whether they do."""
        buffers = self.buffers + nbytes
        used = buffers + self.nodes
        if used > self.limit:
            return False
        self.buffers = buffers
        if used > self.peak:
            self.peak = used
        return True

    def release(self, nbytes: int) -> None:
        """Account for buffers that have gone."""
        self.buffers -= nbytes

    def set_nodes(self, nbytes: int) -> None:
        """Note what the nodes report."""
        self.nodes = nbytes
        self.add(0)

    def fits(self, nbytes: int) -> bool:
        """Whether so many bytes more stay within the limit."""
        return self.buffers + self.nodes + nbytes <= self.limit
