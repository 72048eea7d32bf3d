"""Where packets wait for a node: a bounded queue for each edge that leads to it, and a place for its task to wait.

A channel with one writer and one reader that leaves to others who does the work: a trio channel would reschedule the
reader's task for each packet, where `engine.pipeline.scheduler` mostly has the work done at once.
"""

from __future__ import annotations

from collections import deque

import trio

from engine.pipeline.row import Packet

__all__ = ["Inbox"]


class Inbox:
    """The packets that one node has not taken yet.

    Args:
      edges: How many lead to it; a source has one, from the session.
      capacity: Packets that each of them holds.

    Attributes:
      queues: The packets of each edge.
    """

    __slots__ = ("_capacity", "_single", "_waiting", "queues")

    def __init__(self, edges: int, capacity: int) -> None:
        self._capacity = capacity
        self.queues: list[deque[Packet]] = [deque() for _ in range(edges)]
        self._single = self.queues[0] if edges == 1 else None
        self._waiting = trio.lowlevel.ParkingLot()

    def put(self, edge: int, packet: Packet) -> bool:
        """Add a packet; tell if there is a whole row now, with a packet of every edge.

        Raises:
          trio.WouldBlock: the edge is full, which a session's credits rule out.
        """
        queue = self.queues[edge]
        if len(queue) >= self._capacity:
            raise trio.WouldBlock
        queue.append(packet)
        return self._single is not None or all(self.queues)

    @property
    def whole_rows(self) -> int:
        """Rows that can be taken."""
        return min(map(len, self.queues))

    def take(self) -> list[Packet] | None:
        """The packets of the next row, in the order of the edges; None while it is not whole."""
        if self._single is not None:
            return [self._single.popleft()] if self._single else None
        return [queue.popleft() for queue in self.queues] if all(self.queues) else None

    def wake(self) -> None:
        """Have the node's task look for rows."""
        self._waiting.unpark_all()

    async def wait(self) -> None:
        """Wait for a whole row, if only for one turn of the scheduler."""
        if all(self.queues):
            await trio.lowlevel.checkpoint()
            return
        while not all(self.queues):
            await self._waiting.park()
