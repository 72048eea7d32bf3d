"""Run-to-completion scheduling of inline nodes.

The task that delivers a row runs it through the whole graph, so that a chunk does not cost a task switch for every
node (a switch polls all sockets, and takes some 30 us with cold caches). After `MAX_RUN_S` the run ends and leaves the
remaining rows to the nodes' own tasks, so that other tasks get their share of the event loop.

Rules kept here:
- Only one run at a time. Re-entrant calls only enqueue: a node scheduled during a run is run by that run.
- A run never waits.
- The CPU time of a run is charged to its rows, each part of it to exactly one row.
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

__all__ = ["MAX_RUN_S", "Runnable", "Scheduler"]

MAX_RUN_S = 0.001
"""Time after which a run starts no further row of a node."""


class Runnable(Protocol):
    """A node's task as the scheduler sees it."""

    inbox: Inbox

    def do_next(self) -> float:
        """Do the next row. Return the time when it was done (`perf_counter`), or 0.0 if there was no row to do."""
        ...


class Scheduler:
    """The queue of a session's inline nodes that have a row to do, and the runs that empty it.

    Args:
      on_end: Called at the end of each run, after its CPU time has been charged.
      watchdog: Sees the running node.

    Attributes:
      schedule: Enqueues a node that has one more row to do, for the current run or the next.
      row: The current run's row; None outside runs.
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
        """Run the enqueued nodes, and those that they enqueue; a re-entrant call returns at once."""
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
        """Leave the enqueued nodes to their own tasks; during a run, leave them to that run."""
        if not self._working:
            self._defer_due()

    def cancel(self) -> None:
        """Discard the queue."""
        self._due.clear()

    def release(self) -> None:
        """Drop the callback, at the end of the session."""
        self._on_end = ignore

    def cpu_s(self) -> float:
        """Return the thread CPU time, in seconds, since this run came to its current row."""
        return thread_time() - self._cpu

    def _do_due(self) -> None:
        due = self._due
        ends, self._cpu = perf_counter() + MAX_RUN_S, thread_time()
        while due:
            if due.popleft().do_next() > ends:
                break
        if self.row is not None:
            self._charge(self.row)
        if due:
            self._defer_due()

    def begin(self, row: Row, planned: PlannedNode) -> None:
        """Note that a node begins a row; if the row has changed, charge the CPU time so far to the previous row."""
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
        """Charge the CPU time since the last charge to this row."""
        now = thread_time()
        row.cpu_s += now - self._cpu
        self._cpu = now
