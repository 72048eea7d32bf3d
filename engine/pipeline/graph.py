"""The running graph as the nodes' tasks see it, implemented by `RunningPipeline`."""

from __future__ import annotations

from typing import Protocol

from engine.errors import EngineError
from engine.manifest.plan import Plan
from engine.pipeline.memory import MemoryAccount
from engine.pipeline.row import Row
from engine.pipeline.scheduler import Scheduler
from engine.runtime.placement import Threads
from engine.runtime.watchdog import Watchdog

__all__ = ["Graph"]


class Graph(Protocol):
    """The part of a pipeline that a node's task uses."""

    plan: Plan
    memory: MemoryAccount
    timeout_s: float
    threads: Threads
    watchdog: Watchdog
    scheduler: Scheduler

    def sink_done(self, row: Row) -> None:
        """Note that a sink has done a row."""
        ...

    def fail(self, row: Row, error: EngineError) -> None:
        """Fail a row. Rows below it still finish; of several failures, the lowest row's counts."""
        ...

    def fail_now(self, error: EngineError) -> None:
        """Fail the session at once, because a node has failed outside any row."""
        ...
