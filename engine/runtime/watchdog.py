"""Names the inline nodes that hold the event loop: while one runs, no other session of the process gets its turn.

A node's run time is measured anyway; this only looks at those that were long. One that does not return at all has no
run time, so a thread of its own looks once a second at what is running.
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

_SLOW = 'a slow node should say placement = "thread"'
_WAITED = 'the machine was busy, or it waits for something and should say placement = "thread"'

LOG_INTERVAL_S = 10.0
LOOK_INTERVAL_S = 1.0


@attrs.define
class Holds:
    """How often a node has held the event loop beyond the limit, and for how long at most."""

    count: int = 0
    longest_ms: float = 0.0

    def note(self, ms: float) -> None:
        """It has, for so long."""
        self.count += 1
        self.longest_ms = max(self.longest_ms, ms)


@attrs.define
class _Told(Holds):
    """What has been noted of a node type, and when the log last said so."""

    at: float = -LOG_INTERVAL_S
    untold: int = 0


@attrs.define
class Watchdog:
    """Keeps account of them for a process, and logs each node type at most once in ten seconds.

    Attributes:
      limit_ms: A run of a node that takes longer is noted; 0 notes none.
      holds: By node type, so no more than there are in the registry.
      running: The node that holds the event loop now, and something that no other run of a node has.
    """

    limit_ms: float = 20.0
    holds: dict[str, _Told] = attrs.field(factory=dict)
    running: tuple[PlannedNode, Any] | None = None

    @property
    def limit_s(self) -> float:
        """The limit; infinite if there is none."""
        return self.limit_ms / 1e3 if self.limit_ms else float("inf")

    def note(self, node_id: str, node_type: str, run: float, cpu: float) -> None:
        """A node has held the loop beyond the limit.

        Args:
          node_id: Which.
          node_type: Its type.
          run: For so long, in seconds.
          cpu: So much of it was CPU time of this thread, in seconds; the rest it was blocked, or preempted.
        """
        told = self.holds.setdefault(node_type, _Told())
        told.note(run * 1e3)
        told.untold += 1
        if (now := monotonic()) - told.at < LOG_INTERVAL_S:
            return
        _log.warning(
            "node %r (%s) held the event loop for %.1f ms, %.1f of them CPU time; the limit is %g ms;"
            " %d such runs of this type since last told; %s",
            node_id, node_type, run * 1e3, cpu * 1e3, self.limit_ms, told.untold,
            _SLOW if cpu * 1e3 > self.limit_ms else _WAITED,
        )  # fmt: skip
        told.at, told.untold = now, 0

    def figures(self) -> dict[str, dict[str, float]]:
        """By node type: how often one has held the loop, and for how long at most."""
        return {name: {"count": told.count, "longest_ms": told.longest_ms} for name, told in self.holds.items()}

    @contextmanager
    def watching(self, interval_s: float = LOOK_INTERVAL_S) -> Iterator[None]:
        """Until the block is left, look now and then whether a node still runs that did so at the look before.

        To be entered in the thread of the event loop. Nobody is watched if there is no limit, and no look comes sooner
        than that.
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
        seen = told = None
        while not over.wait(interval_s):
            running = self.running
            if running is not None and running is seen and running is not told:
                node, _ = told = running
                _log.error(
                    "node %r (%s) has held the event loop for more than %g s, and still does; no session goes on."
                    " It is at:\n%s",
                    node.id, node.node_type, interval_s, _place(loop_thread),
                )  # fmt: skip
            seen = running


def _place(thread: int) -> str:
    """Where a thread is now: the innermost calls of its stack."""
    return "".join(traceback.format_stack(sys._current_frames()[thread], limit=5)).rstrip()
