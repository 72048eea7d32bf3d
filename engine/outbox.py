"""What waits to be received from a session: rows that are done, refusals, and the end.

It is bounded by the session's credits, which rows and refusals hold until they have been handed over; besides there
are at most one marker for periodic metrics and one for the end. Nothing put in ever waits.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable

import trio

from engine.errors import EngineError
from engine.row import Row

__all__ = ["FAIR_ENTRIES", "Entry", "Marker", "Outbox"]

FAIR_ENTRIES = 8
"""Entries that may be taken in one go before others get their turn."""


class Marker(enum.Enum):
    """An entry that is neither a row nor a refusal."""

    METRICS = "metrics are due"
    END = "the session is over"


Entry = Row | EngineError | Marker


class Outbox:
    """A bounded queue with one reader.

    Args:
      capacity: credits of the session; there may be as many refusals again where chunks are dropped.
    """

    def __init__(self, capacity: int) -> None:
        self._entries: deque[Entry] = deque()
        self._capacity = 2 * capacity + 4
        self._reader = trio.lowlevel.ParkingLot()
        self._metrics_waiting = False
        self._streak = 0

    @property
    def is_awaited(self) -> bool:
        """Whether the reader waits for an entry."""
        return bool(self._reader)

    def put(self, entry: Entry) -> None:
        """Add an entry, without waking the reader; of metrics at most one waits.

        Raises:
          trio.WouldBlock: it is full, which a session's credits rule out.
        """
        if entry is Marker.METRICS:
            if self._metrics_waiting:
                return
            self._metrics_waiting = True
        if len(self._entries) >= self._capacity:
            raise trio.WouldBlock
        self._entries.append(entry)

    def wake(self) -> None:
        """Have the reader look again, if it waits."""
        self._reader.unpark_all()

    def take_nowait(self) -> Entry | None:
        """The next entry, if there is one."""
        if not self._entries:
            return None
        entry = self._entries.popleft()
        if entry is Marker.METRICS:
            self._metrics_waiting = False
        return entry

    async def take(self) -> Entry | None:
        """The next entry; without one wait to be woken, and give None: what woke may have left something else."""
        if not self._entries:
            self._streak = 0
            await self._reader.park()
            return None
        if self._streak >= FAIR_ENTRIES:
            self._streak = 0
            await trio.lowlevel.checkpoint()
        self._streak += 1
        return self.take_nowait()

    def discard(self, gone: Callable[[Row], None]) -> None:
        """Throw everything away, telling of each row."""
        while (entry := self.take_nowait()) is not None:
            if isinstance(entry, Row):
                gone(entry)
