"""Watchdog: report inline nodes that hold the event loop, because no other session makes progress while one runs.

Run times are measured anyway; the watchdog is called only for the long ones. A node that never returns has no run time,
so a separate thread looks once a second at the node that is running.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import attrs

from engine.manifest.plan import PlannedNode

__all__ = ["Holds", "Watchdog"]

_log = logging.getLogger(f"headrace.{__name__}")

_SLOW = 'a slow node should set placement = "thread"'
_WAITED = 'the machine was busy, or it waits for something and should set placement = "thread"'

LOG_INTERVAL_S = 10.0
LOOK_INTERVAL_S = 1.0


@attrs.define
class Holds:
    """Number of times that a node held the event loop beyond the limit, and the longest time."""

    count: int = 0
    longest_ms: float = 0.0

    def note(self, ms: float) -> None:
        """Record one hold of this length."""
        self.count += 1
        self.longest_ms = max(self.longest_ms, ms)


@attrs.define
class _LoggedHolds(Holds):
    """Holds of one node type, with the time of its last log record and the number of holds since then."""

    logged_at: float = -LOG_INTERVAL_S
    unlogged: int = 0


@attrs.define
class Watchdog:
    """Counter of the holds in a process; it logs each node type at most once in ten seconds.

    Attributes:
      limit_ms: A run that takes longer than this is noted; 0 turns the watchdog off.
      holds: Node type → its holds; the registry bounds their number.
      running: Node running on the event loop, with its row; a new tuple for each run, None if the scheduler is idle.
    """

    limit_ms: float = 20.0
    holds: dict[str, _LoggedHolds] = attrs.field(factory=dict)
    running: tuple[PlannedNode, Any] | None = None

    @property
    def limit_s(self) -> float:
        """The limit in seconds; infinite if the watchdog is off."""
        return self.limit_ms / 1e3 if self.limit_ms else float("inf")

    def note(self, node_id: str, node_type: str, run: float, cpu: float) -> None:
        """Record a run beyond the limit, and log it unless its node type was logged in the last ten seconds.

        Args:
          node_id: Id of the node.
          node_type: Type of the node.
          run: Length of the run, in seconds.
          cpu: CPU time of this thread in the run, in seconds; for the rest it was blocked or preempted.
        """
        holds = self.holds.setdefault(node_type, _LoggedHolds())
        holds.note(run * 1e3)
        holds.unlogged += 1
        if (now := monotonic()) - holds.logged_at < LOG_INTERVAL_S:
            return
        _log.warning(
            "node %r (%s) held the event loop for %.1f ms, %.1f of them CPU time; the limit is %g ms;"
            " %d such runs of this type since the last such message; %s",
            node_id, node_type, run * 1e3, cpu * 1e3, self.limit_ms, holds.unlogged,
            _SLOW if cpu * 1e3 > self.limit_ms else _WAITED,
        )  # fmt: skip
        holds.logged_at, holds.unlogged = now, 0

    def figures(self) -> dict[str, dict[str, float]]:
        """Return node type → number of holds and the longest in milliseconds."""
        return {name: {"count": holds.count, "longest_ms": holds.longest_ms} for name, holds in self.holds.items()}

    @contextmanager
    def watching(self, interval_s: float = LOOK_INTERVAL_S) -> Iterator[None]:
        """Until the block is left, log a node that is still in the same run as at the look before.

        Enter it in the thread of the event loop. It does nothing if the watchdog is off.

        Args:
          interval_s: Time between two looks, in seconds; at least the limit is used.
        """
        over = threading.Event()
        arguments = (threading.get_ident(), over, max(interval_s, self.limit_s))
        thread = threading.Thread(target=self._watch, args=arguments, name="headrace-watchdog", daemon=True)
        if self.limit_ms:
            thread.start()
        try:
            yield
        finally:
            over.set()

    def _watch(self, loop_thread: int, over: threading.Event, interval_s: float) -> None:
        seen = logged = None
        while not over.wait(interval_s):
            running = self.running
            if running is not None and running is seen and running is not logged:
                node, _ = logged = running
                _log.error(
                    "node %r (%s) has held the event loop for more than %g s, and still does;"
                    " no session makes progress. Its stack:\n%s",
                    node.id, node.node_type, interval_s, _place(loop_thread),
                )  # fmt: skip
            seen = running


def _place(thread: int) -> str:
    """Return the innermost calls of a thread's current stack, as text."""
    return "".join(traceback.format_stack(sys._current_frames()[thread], limit=5)).rstrip()
