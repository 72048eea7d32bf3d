"""What waits to be received from a session: rows that are done, refusals, metrics and the end.

It is bounded by the session's credits, which rows and refusals hold until they have been handed over; besides there
are at most one marker for periodic metrics and one for the end. Nothing put in ever waits.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable

import trio

from engine.errors import EngineError
from engine.messages import Result, SessionMetrics
from engine.pipeline.row import Row
from engine.session.waiters import Waiters
from engine.teardown import ignore

__all__ = ["FAIR_ENTRIES", "Entry", "Event", "Marker", "Outbox"]

FAIR_ENTRIES = 8
"""Entries that may be taken in one go before others get their turn."""

Event = Result | EngineError | SessionMetrics


class Marker(enum.Enum):
    """An entry that is neither a row nor a refusal."""

    METRICS = "metrics are due"
    END = "the session is over"


Entry = Row | EngineError | Marker


class Outbox:
    """A bounded queue with one reader, who receives the events of one entry after another.

    Args:
      capacity: Credits of the session; there may be as many refusals again where chunks are dropped.
      events_of: Makes an entry's events.
      handed_over: Told of a row or refusal when its reader asks for what comes after it.

    Attributes:
      on_event: Is shown each event as soon as it is there, while the reader waits for one; True takes it as received,
        without the reader's task being woken.
    """

    __slots__ = (
        "_at_hand",
        "_capacity",
        "_entries",
        "_events",
        "_events_of",
        "_handed_over",
        "_metrics_waiting",
        "_over",
        "_reader",
        "_showing",
        "_streak",
        "on_event",
    )

    def __init__(
        self,
        capacity: int,
        *,
        events_of: Callable[[Entry], Iterable[Event]],
        handed_over: Callable[[Row | EngineError], None],
    ) -> None:
        self.on_event: Callable[[Event], bool] | None = None
        self._capacity = 2 * capacity + 4
        self._events_of = events_of
        self._handed_over = handed_over
        self._entries: deque[Entry] = deque()
        self._events: deque[Event] = deque()  # of the entry at hand, and not received yet
        self._at_hand: Row | EngineError | None = None
        self._reader = Waiters()
        self._metrics_waiting = self._showing = self._over = False
        self._streak = 0

    def put_metrics(self) -> None:
        """Add a marker for metrics, unless one waits."""
        if not self._metrics_waiting:
            self._metrics_waiting = True
            self.put(Marker.METRICS)

    def put(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
          trio.WouldBlock: it is full, which a session's credits rule out.
        """
        if len(self._entries) >= self._capacity:
            raise trio.WouldBlock
        self._entries.append(entry)
        if self._reader.count and not self._showing and (self.on_event is None or not self._show(self.on_event)):
            self._reader.wake()

    async def receive(self) -> Event | None:
        """The next event, or None when all is over. Asking for it says that the last one has been handed over."""
        self._hand_over()
        while not self._events and not self._over:
            if not self._entries:
                self._streak = 0
                await self._reader.wait()
                continue  # there may be an event that `on_event` has left
            if self._streak >= FAIR_ENTRIES:
                self._streak = 0
                await trio.lowlevel.checkpoint()
            self._streak += 1
            self._open_next()
        return self._events.popleft() if self._events else None

    def discard(self, gone: Callable[[Row], None], *, received: bool) -> None:
        """Throw everything away, telling of each row.

        Args:
          gone: Told.
          received: Also of the row at hand if all its events have been received.
        """
        if self._events or received:
            self._events.clear()
            if isinstance(self._at_hand, Row):
                gone(self._at_hand)
            self._at_hand = None
        while self._entries:
            entry = self._entries.popleft()
            if isinstance(entry, Row):
                gone(entry)
        self._metrics_waiting = False

    def release(self) -> None:
        """Let go of the session, when nothing is left to be received."""
        self._events_of = _no_events
        self._handed_over = ignore

    def _show(self, takes: Callable[[Event], bool]) -> bool:
        """Have events received here and now; False if one was left, or they are over."""
        self._showing = True
        entries, events = self._entries, self._events
        try:
            while entries:
                self._open_next()
                while events:
                    if not takes(events[0]):
                        return False
                    if events:  # it is gone if telling it has spoiled its row
                        events.popleft()
                self._hand_over()
            return not self._over
        finally:
            self._showing = False

    def _open_next(self) -> None:
        entry = self._entries.popleft()
        if entry is Marker.METRICS:
            self._metrics_waiting = False
        elif entry is Marker.END:
            self._over = True
        else:
            self._at_hand = entry
        self._events.extend(self._events_of(entry))

    def _hand_over(self) -> None:
        if self._at_hand is not None and not self._events:
            handed, self._at_hand = self._at_hand, None
            self._handed_over(handed)


def _no_events(entry: Entry) -> Iterable[Event]:
    return ()
