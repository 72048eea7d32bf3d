"""The queue of a session's outgoing entries: rows that are done, refusals, metrics and the end.

The queue is bounded by the session's credits, which rows and refusals hold until they have been handed over. In
addition it holds at most one marker for periodic metrics and one for the end. A put never waits.

An entry's way, session → outbox → relay → session:

    session ── put(entry) ─────────> outbox
    session <─ events_of(entry) ──── outbox                        the session makes the entry's events
                                     outbox ── on_event/receive ─> relay (or another user): encodes and sends each
    session <─ handed_over(entry) ── outbox <─ next receive ────── relay: the session returns the entry's credits
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
"""Entries that `receive` takes without waiting before it lets other tasks run."""

Event = Result | EngineError | SessionMetrics


class Marker(enum.Enum):
    """An entry that is neither a row nor a refusal."""

    METRICS = "metrics are due"
    END = "the session is over"


Entry = Row | EngineError | Marker


class Outbox:
    """A bounded queue with one reader, which receives the events of one entry after another.

    Args:
      capacity: Credits of the session.
      events_of: Makes an entry's events.
      handed_over: Called with a row or refusal when the reader asks for the event after its last.

    Attributes:
      on_event: Called with each event as soon as it exists, while the reader waits for one. If it returns True, the
        event counts as received, and the reader's task is not woken.
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
        # Rows hold up to `capacity` credits; where chunks are dropped, there may be as many refusals on top. Two more
        # places are for the markers, and two are spare.
        self._capacity = 2 * capacity + 4
        self._events_of = events_of
        self._handed_over = handed_over
        self._entries: deque[Entry] = deque()
        self._events: deque[Event] = deque()  # events of the entry at hand, not received yet
        self._at_hand: Row | EngineError | None = None
        self._reader = Waiters()
        self._metrics_waiting = self._showing = self._over = False
        self._streak = 0

    def put_metrics(self) -> None:
        """Add a marker for metrics, unless one is waiting."""
        if not self._metrics_waiting:
            self._metrics_waiting = True
            self.put(Marker.METRICS)

    def put(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
          trio.WouldBlock: the queue is full, which a session's credits rule out.
        """
        if len(self._entries) >= self._capacity:
            raise trio.WouldBlock
        self._entries.append(entry)
        if self._reader.count and not self._showing and (self.on_event is None or not self._show(self.on_event)):
            self._reader.wake()

    async def receive(self) -> Event | None:
        """Return the next event, or None at the end. A call means that the previous event has been handed over."""
        self._hand_over()
        while not self._events and not self._over:
            if not self._entries:
                self._streak = 0
                await self._reader.wait()
                continue  # `on_event` may have left an event
            if self._streak >= FAIR_ENTRIES:
                self._streak = 0
                await trio.lowlevel.checkpoint()
            self._streak += 1
            self._open_next()
        return self._events.popleft() if self._events else None

    def discard(self, gone: Callable[[Row], None], *, received: bool) -> None:
        """Discard all entries and events.

        Args:
          gone: Called with each discarded row.
          received: Discard the row at hand even if all its events have been received.
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
        """Drop the references to the session, once nothing is left to receive."""
        self._events_of = _no_events
        self._handed_over = ignore

    def _show(self, takes: Callable[[Event], bool]) -> bool:
        """Pass events to `takes` here and now; return False if the reader must wake, for an event left or for the end.

        While `_showing` is True, only this loop takes entries. The callbacks may put entries, which are then only
        appended, and may call `discard`, which empties both queues.
        """
        self._showing = True
        entries, events = self._entries, self._events
        try:
            while entries:
                self._open_next()
                while events:
                    if not takes(events[0]):
                        return False
                    if events:  # empty if encoding failed and `fail_last_row` cleared it
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
