"""Who does a node's work, and for how long: whoever brings its row, at once, as long as the turn is short.

A turn follows a row through the whole graph, so that a chunk does not cost a task switch for every node (a switch is
a look at all sockets, and some 30 us when caches are cold). When a turn has taken `TURN_S`, what is still to do
is left to the nodes' own tasks, which take turns with everybody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Protocol

from engine.manifest.plan import PlannedNode
from engine.pipeline.inbox import Inbox
from engine.pipeline.row import Row
from engine.runtime.watchdog import Watchdog
from engine.teardown import ignore

__all__ = ["TURN_S", "Runnable", "Scheduler"]

TURN_S = 0.001


class Runnable(Protocol):
    """A node's task, as the scheduler sees it."""

    inbox: Inbox

    def do_next(self) -> float:
        """Do the next row, if there is one; return when it was done (`perf_counter`), 0.0 if nothing was."""
        ...


class Scheduler:
    """The inline nodes of a session that have a row to do, and the turns in which they do it.

    Args:
      on_end: Called when a turn is over, its CPU time accounted for.
      watchdog: May see which node is running.

    Attributes:
      schedule: Takes a node that has one more row to do; it runs in this turn, or in the next one.
      row: Which this turn is at, if any.
    """

    __slots__ = ("_cpu", "_due", "_on_end", "_watchdog", "_working", "row", "schedule")

    def __init__(self, on_end: Callable[[], None], watchdog: Watchdog) -> None:
        self._due: deque[Runnable] = deque()
        self.schedule = self._due.append
        self._watchdog = watchdog
        self._on_end = on_end
        self._working = False
        self.row: Row | None = None
        self._cpu = 0.0

    def run(self) -> None:
        """Take a turn, unless this is in one: do what is due, and what falls due by that."""
        if self._working:
            return
        self._working = True
        try:
            self._do_due()
        finally:
            self._working = False
            self.row = None
            self._watchdog.running = None
        self._on_end()

    def defer(self) -> None:
        """Leave what is due to the nodes' own tasks, unless this is in a turn."""
        if not self._working:
            self._defer_due()

    def cancel(self) -> None:
        """Nothing more is done."""
        self._due.clear()

    def release(self) -> None:
        """Tell nobody of a turn's end any more."""
        self._on_end = ignore

    def cpu_s(self) -> float:
        """Thread CPU time since the turn came to the row that it is at."""
        return thread_time() - self._cpu

    def _do_due(self) -> None:
        due = self._due
        ends, self._cpu = perf_counter() + TURN_S, thread_time()
        while due:
            if due.popleft().do_next() > ends:
                break
        if self.row is not None:
            self._charge(self.row)
        if due:
            self._defer_due()

    def begin(self, row: Row, planned: PlannedNode) -> None:
        """A node begins with a row; if that is another than before, the CPU time until now went into the one before."""
        if row is not self.row:
            if self.row is not None:
                self._charge(self.row)
            self.row = row
        self._watchdog.running = planned, row

    def _defer_due(self) -> None:
        for task in self._due:
            task.inbox.wake()
        self._due.clear()

    def _charge(self, row: Row) -> None:
        """Account for the CPU time since the last call: it went into this row."""
        now = thread_time()
        row.cpu_s += now - self._cpu
        self._cpu = now
