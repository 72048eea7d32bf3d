"""Accounted memory of a session: the bytes in flight and those that nodes report, held against a limit."""

from __future__ import annotations

import attrs

__all__ = ["MemoryAccount"]


@attrs.define
class MemoryAccount:
    """Accounted bytes: buffers in flight and what nodes report. Python's own overhead is not in it.

    Attributes:
      limit: `ResourceLimits.max_memory_bytes`.
      buffers: Bytes of audio and data in flight.
      nodes: Bytes that the nodes reported last.
      peak: Highest sum so far.
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
