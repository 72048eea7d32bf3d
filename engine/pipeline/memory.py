"""Accounted memory of a session: the bytes in flight and the bytes that nodes report, against a limit."""

from __future__ import annotations

import attrs

__all__ = ["MemoryAccount"]


@attrs.define
class MemoryAccount:
    """Accounted bytes: buffers in flight and the memory that nodes report, without Python's own overhead.

    Attributes:
      limit: `ResourceLimits.max_memory_bytes`.
      buffers: Bytes of audio and data in flight.
      nodes: Bytes that the nodes last reported.
      peak: Highest sum so far.
    """

    limit: int
    buffers: int = 0
    nodes: int = 0
    peak: int = 0

    @property
    def used(self) -> int:
        """Number of accounted bytes."""
        return self.buffers + self.nodes

    def add(self, nbytes: int) -> None:
        """Account for new buffers, whatever the limit."""
        self.buffers += nbytes
        if self.buffers + self.nodes > self.peak:
            self.peak = self.buffers + self.nodes

    def take(self, nbytes: int) -> bool:
        """Account for new buffers if they stay within the limit; return False, accounting nothing, if not."""
        buffers = self.buffers + nbytes
        used = buffers + self.nodes
        if used > self.limit:
            return False
        self.buffers = buffers
        if used > self.peak:
            self.peak = used
        return True

    def release(self, nbytes: int) -> None:
        """Remove freed buffers from the account."""
        self.buffers -= nbytes

    def set_nodes(self, nbytes: int) -> None:
        """Replace the nodes' last report."""
        self.nodes = nbytes
        self.add(0)

    def fits(self, nbytes: int) -> bool:
        """Return True if this many further bytes stay within the limit."""
        return self.buffers + self.nodes + nbytes <= self.limit
