"""The bounded queues of the edges that lead to a node, and a parking lot for the node's task.

Each edge is a single-producer, single-consumer channel that does not decide which task runs the consumer. A trio
channel would reschedule the reader's task for each packet, whereas `engine.pipeline.scheduler` usually has the row
done at once, in the task that delivers it.
"""

from __future__ import annotations

from collections import deque

import trio

from engine.pipeline.row import Packet

__all__ = ["Inbox"]


class Inbox:
    """The packets that one node has not taken yet.

    Args:
      edges: Number of edges that lead to the node; a source has one, from the session.
      capacity: Packets that each edge holds.

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
        """Add a packet. Return True if a row is whole now, with a packet from every edge.

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
        """Number of rows that can be taken."""
        return min(map(len, self.queues))

    def take(self) -> list[Packet] | None:
        """Take the packets of the next row, in the order of the edges; None while the row is not whole."""
        if self._single is not None:
            return [self._single.popleft()] if self._single else None
        return [queue.popleft() for queue in self.queues] if all(self.queues) else None

    def wake(self) -> None:
        """Wake the node's task, so that it looks for rows."""
        self._waiting.unpark_all()

    async def wait(self) -> None:
        """Wait until a row can be taken; always a checkpoint."""
        if all(self.queues):
            await trio.lowlevel.checkpoint()
            return
        while not all(self.queues):
            await self._waiting.park()
