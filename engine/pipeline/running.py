"""A plan at work: one task per node, one bounded queue per edge, and what happens when a row is done or fails.

A queue holds as many packets as the session has credits, so to put one there never waits, and branches of unlike
speed cannot deadlock. Because every edge carries one packet for every row, in order, rows are done in order.
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
"""How often nodes are asked what they hold; to ask all of them costs as much as a short row."""

_log = logging.getLogger(f"headrace.{__name__}")


class RunningPipeline:
    """The running graph of one session.

    Args:
      plan: What to run; its nodes are this pipeline's to close.
      capacity: Packets that an edge holds; no more rows may be inside at once.
      memory: Where buffers in flight are accounted.
      timeout_s: What a row may take.
      threads: Where nodes placed in threads run.
      watchdog: Is told of inline nodes that hold the event loop.
      on_done: Told of each row that all sinks have done, in order.
      on_failed: Told once, with the error of the lowest row that failed, when all rows below it are done.
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
        """Run one task per node, until stopped or cancelled."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for task in self.tasks:
                    nursery.start_soon(task.run, name=f"node {task.planned.id}")

    def cancel(self) -> None:
        """End all tasks; what they were at is lost."""
        self._stopped = True
        self.scheduler.cancel()
        self.rows.clear()
        self._scope.cancel()

    def enter(self, rows: Sequence[Row], clock: float, *, at_once: bool = False) -> None:
        """Let rows in: every source gets a packet for each, empty if the row has nothing for it. Never waits.

        Args:
          rows: In order.
          clock: The sweep's.
          at_once: Take a turn on them here and now; else the nodes' tasks do.
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
        """One sink has done a row."""
        row.waiting -= 1
        if not row.waiting:
            self._finished.append(row)

    def _deliver_finished(self) -> None:
        """At the end of a turn: hand over the rows that all sinks have done."""
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
        """A row cannot be done. Rows below it still are; of several failures the lowest counts."""
        if self._failed is None or row.index < self._failed[0]:
            self._failed = row.index, error
            self._check_failed()

    def fail_now(self, error: EngineError) -> None:
        """A node has failed outside of any row: nothing is waited for."""
        self._on_failed(error)

    def _check_failed(self) -> None:
        if self._failed is not None and self._failed[0] <= self._done:
            self._on_failed(self._failed[1])

    def tick(self, clock: float, step: float) -> None:
        """Now and then note what the nodes hold; fail the oldest row, if its time is over.

        Args:
          clock: The sweep's, in seconds, on which rows have entered.
          step: By how much it has advanced.
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
        """Note what the nodes say they hold, if a row has come or gone since they were last asked."""
        if self._asked_at == (self._entered, self._done):
            return
        self._asked_at = self._entered, self._done
        self.memory.set_nodes(sum(task.memory_bytes() for task in self.tasks))

    def delay_s(self) -> float:
        """The delay of the longest path, as the nodes tell it now."""
        return self.plan.delay_s([task.delay_s() for task in self.tasks])

    def close(self) -> None:
        """Close every node once; one that an abandoned thread call still uses is closed when that call returns."""
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
        """Let go of those who have this pipeline, when all is over; what its nodes have cost can still be asked."""
        self.scheduler.release()
        self._on_done = self._on_failed = ignore
        for task in self.tasks:
            if not task.abandoned:
                task.release()
