"""What waits to be received from a session: rows that are done, refusals, and the end.

It is bounded by the session's credits, which rows and refusals hold until they have been handed over; besides there
are at most one marker for periodic metrics and one for the end. Nothing put in ever waits.
"""

from __future__ import annotations

import enum
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
        self._in, self._out = trio.open_memory_channel[Entry](2 * capacity + 4)
        self._metrics_waiting = False
        self._streak = 0

    def put(self, entry: Entry) -> None:
        """Add an entry; of metrics at most one waits."""
        if entry is Marker.METRICS:
            if self._metrics_waiting:
                return
            self._metrics_waiting = True
        self._in.send_nowait(entry)

    async def take(self) -> Entry:
        """The next entry; waits for it."""
        try:
            entry = self._out.receive_nowait()
        except trio.WouldBlock:
            self._streak = 0
            entry = await self._out.receive()
        else:
            self._streak += 1
            if self._streak >= FAIR_ENTRIES:
                self._streak = 0
                await trio.lowlevel.cancel_shielded_checkpoint()
        if entry is Marker.METRICS:
            self._metrics_waiting = False
        return entry

    def discard(self, gone: Callable[[Row], None]) -> None:
        """Throw everything away, telling of each row."""
        while True:
            try:
                entry = self._out.receive_nowait()
            except trio.WouldBlock:
                self._metrics_waiting = False
                return
            if isinstance(entry, Row):
                gone(entry)
