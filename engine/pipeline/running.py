"""The running graph of a session: one task per node, one bounded queue per edge, and the rows' completion or failure.

A queue holds as many packets as the session has credits, so a put never waits, and branches of different speed cannot
deadlock. Because every edge carries one packet for every row, in order, rows are done in order.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter

import trio

from engine.errors import EngineError, TimeLimitExceeded
from engine.manifest.plan import Plan
from engine.pipeline.memory import MemoryAccount
from engine.pipeline.node_task import NodeTask
from engine.pipeline.row import Packet, Row
from engine.pipeline.scheduler import Scheduler
from engine.pipeline.single_input_task import make_task
from engine.runtime.placement import Threads
from engine.runtime.watchdog import Watchdog
from engine.teardown import ignore

__all__ = ["MEMORY_S", "RunningPipeline"]

MEMORY_S = 0.5
"""Interval at which nodes report their memory; asking all of them costs as much as a short row."""

_log = logging.getLogger(f"headrace.{__name__}")


class RunningPipeline:
    """The running graph of one session.

    Args:
      plan: The plan to run; the pipeline closes its nodes.
      capacity: Packets that an edge holds, and the most rows that may be inside at once.
      memory: Account of the buffers in flight.
      timeout_s: Longest time that a row may spend in the graph, and a node on one row.
      threads: Threads for the nodes that are placed there.
      watchdog: Notes inline nodes that hold the event loop.
      on_done: Called with each row that all sinks have done, in order.
      on_failed: Called with the error of the lowest failed row, once all rows below it are done.

    Attributes:
      rows: Rows inside the graph, in order.
      tasks: One task per node, in topological order.
    """

    __slots__ = (
        "_asked_at",
        "_closed",
        "_done",
        "_entered",
        "_failed",
        "_finished",
        "_on_done",
        "_on_failed",
        "_scope",
        "_since_asked",
        "_sinks",
        "_sources",
        "_stopped",
        "memory",
        "plan",
        "rows",
        "scheduler",
        "tasks",
        "threads",
        "timeout_s",
        "watchdog",
    )

    def __init__(
        self,
        plan: Plan,
        *,
        capacity: int,
        memory: MemoryAccount,
        timeout_s: float,
        threads: Threads,
        watchdog: Watchdog,
        on_done: Callable[[Row], None],
        on_failed: Callable[[EngineError], None],
    ) -> None:
        self.plan = plan
        self.memory = memory
        self.timeout_s = timeout_s
        self.threads = threads
        self.watchdog = watchdog
        self.rows: deque[Row] = deque()
        self._on_done = on_done
        self._on_failed = on_failed
        self._failed: tuple[int, EngineError] | None = None
        self._entered = 0
        self._done = 0
        self._asked_at = (-1, -1)  # rows entered and done
        self._since_asked = 0.0
        self._stopped = self._closed = False
        self._scope = trio.CancelScope()
        self._finished: list[Row] = []
        self.scheduler = Scheduler(self._deliver_finished, watchdog)
        self._connect(capacity)

    def _connect(self, capacity: int) -> None:
        """Make a task for each node, and connect the tasks along the edges."""
        self.tasks = [make_task(planned, self, capacity) for planned in self.plan.nodes]
        self._sinks = sum(planned.is_sink for planned in self.plan.nodes)
        self._sources = [(task.planned.id, task.inlet(0)) for task in self.tasks if task.planned.is_source]
        for task in self.tasks:
            for number, edge in enumerate(task.planned.inbound):
                self.tasks[edge.source].outlets.append(task.inlet(number))
                self.tasks[edge.source].downstreams.append(task.planned.id)

    async def run(self) -> None:
        """Run one task per node until `cancel` is called or the caller is cancelled."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for task in self.tasks:
                    nursery.start_soon(task.run, name=f"node {task.planned.id}")

    def cancel(self) -> None:
        """End all tasks at once, and discard the rows inside."""
        self._stopped = True
        self.scheduler.cancel()
        self.rows.clear()
        self._scope.cancel()

    def enter(self, rows: Sequence[Row], clock: float, *, at_once: bool = False) -> None:
        """Put rows into the graph. Never waits.

        Every source gets a packet for each row, empty if the row has no items for it.

        Args:
          rows: Rows in sequence order.
          clock: The sweep's clock, in seconds.
          at_once: Run the scheduler on them here and now; otherwise the nodes' own tasks do.
        """
        now = perf_counter()
        for row in rows:
            self._begin(row, clock)
            row.nbytes, nbytes = 0, row.nbytes
            for source, put in self._sources:
                put(Packet(row, row.items.get(source, ()), now, nbytes, 1))
                nbytes = 0
            row.items = {}
        if at_once:
            self.scheduler.run()
        else:
            self.scheduler.defer()

    def _begin(self, row: Row, clock: float) -> None:
        row.index = self._entered
        row.entered_clock = clock
        row.waiting = self._sinks
        row.marks = [None] * len(self.tasks)
        self._entered += 1
        self.rows.append(row)

    def sink_done(self, row: Row) -> None:
        """Note that a sink has done a row; when the last one has, the row is finished."""
        row.waiting -= 1
        if not row.waiting:
            self._finished.append(row)

    def _deliver_finished(self) -> None:
        """Hand over the rows that all sinks have done; called at the end of a scheduler run."""
        finished, self._finished = self._finished, []
        for row in finished:
            if self._stopped:
                return
            self.rows.popleft()
            self._done += 1
            if self._failed is None:
                self._on_done(row)
            elif row.index < self._failed[0]:
                self._on_done(row)
                self._check_failed()

    def fail(self, row: Row, error: EngineError) -> None:
        """Fail a row. Rows below it still finish; of several failures, the lowest row's counts."""
        if self._failed is None or row.index < self._failed[0]:
            self._failed = row.index, error
            self._check_failed()

    def fail_now(self, error: EngineError) -> None:
        """Fail the session at once, because a node has failed outside any row."""
        self._on_failed(error)

    def _check_failed(self) -> None:
        if self._failed is not None and self._failed[0] <= self._done:
            self._on_failed(self._failed[1])

    def tick(self, clock: float, step: float) -> None:
        """Poll the nodes' memory every `MEMORY_S`, and fail the oldest row if it has exceeded its time limit.

        Args:
          clock: The sweep's clock, in seconds, as in `enter`.
          step: Seconds since the last call.
        """
        self._since_asked += step
        if self._since_asked >= MEMORY_S:
            self._since_asked = 0.0
            self.poll_memory()
        if self.rows and clock - self.rows[0].entered_clock > self.timeout_s:
            row = self.rows[0]
            late = [task.planned.id for task in self.tasks if self._is_stuck(task, row)]
            limit, value = self.timeout_s * 1e3, (clock - row.entered_clock) * 1e3
            self.fail(
                row,
                TimeLimitExceeded(
                    f"the row has been in the graph for {value:.0f} ms; the limit is {limit:.0f} ms;"
                    f" it waits for {', '.join(map(repr, late))}",
                    node_id=late[0] if late else "",
                    sequence=row.sequence,
                    context={"limit_ms": limit, "value_ms": value, "waits_for": late},
                ),
            )

    def _is_stuck(self, task: NodeTask, row: Row) -> bool:
        before = (row.marks[edge.source] for edge in task.planned.inbound)
        return row.marks[task.planned.index] is None and all(mark is not None for mark in before)

    def poll_memory(self) -> None:
        """Account for the memory that nodes report, if a row has entered or left since the last poll."""
        if self._asked_at == (self._entered, self._done):
            return
        self._asked_at = self._entered, self._done
        self.memory.set_nodes(sum(task.memory_bytes() for task in self.tasks))

    def delay_s(self) -> float:
        """Return the delay of the longest path, from the nodes' current delays."""
        return self.plan.delay_s([task.delay_s() for task in self.tasks])

    def close(self) -> None:
        """Close every node once. A node that an abandoned thread call still uses is closed when that call returns."""
        if self._closed:
            return
        self._closed = True
        for task in self.tasks:
            if task.abandoned:
                continue
            try:
                task.close()
            except Exception:
                _log.exception("closing node %r failed", task.planned.id)

    def release(self) -> None:
        """Drop the references to the session at its end; the nodes' figures remain available."""
        self.scheduler.release()
        self._on_done = self._on_failed = ignore
        for task in self.tasks:
            if not task.abandoned:
                task.release()
