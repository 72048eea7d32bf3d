"""Placement of a node's work: on the event loop (`inline`) or in a thread (`thread`). This module runs the threads.

Further placements can be added here. A node in a thread has one call at a time, for all items that wait for it, so the
switch to the thread and back (about 0.1 ms) is paid once; the result of the first item waits at most about `BATCH_S`
for the others. A call cannot be interrupted. When its session is cancelled, the call is abandoned: it stops after its
current item, its node is closed, and only then is its slot free. While too many abandoned calls are running, no new
session is admitted.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol, TypeVar

import outcome
import trio

__all__ = ["BATCH_S", "Threads"]

BATCH_S = 0.005
"""A call that has run for this long returns after its current item; the remaining items wait for the next call."""

_log = logging.getLogger(f"headrace.{__name__}")

T = TypeVar("T")


class Owner(Protocol):
    """Owner of work that runs in a thread: a node task."""

    abandoned: bool
    """True once a call of this owner was abandoned; then the end of that call closes it, and nothing else does."""

    def close(self) -> None:
        """Free its resources."""


class _Call:
    """One call in a thread; `lock` settles whether it returned before its session abandoned it."""

    __slots__ = ("abandoned", "done", "lock", "returned", "value")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done = trio.Event()
        self.returned = False
        self.abandoned = False
        self.value: outcome.Outcome[list[outcome.Outcome[Any]]] | None = None

    def do(self, items: Sequence[Callable[[], T]]) -> list[outcome.Outcome[T]]:
        """Run items, in the thread, up to the first that raises or until the time is over; return their outcomes."""
        done: list[outcome.Outcome[T]] = []
        deadline = monotonic() + BATCH_S
        for item in items:
            done.append(outcome.capture(item))
            if self.abandoned or isinstance(done[-1], outcome.Error) or monotonic() > deadline:
                break
        return done


class Threads:
    """The threads that all sessions of an engine share.

    Args:
      slots: Calls that may run at once; further ones wait for a slot.
      stragglers: Number of abandoned calls still running at which no new session is admitted.

    Attributes:
      straggling: Number of abandoned calls still running.
    """

    def __init__(self, slots: int = 16, stragglers: int = 8) -> None:
        self._slots = trio.Semaphore(slots)
        self._max_stragglers = stragglers
        self.straggling = 0

    @property
    def is_full(self) -> bool:
        """True if so many abandoned calls are still running that no session should be admitted."""
        return self.straggling >= self._max_stragglers

    async def run(self, items: Sequence[Callable[[], T]], owner: Owner) -> list[outcome.Outcome[T]]:
        """Run items of work one after another in one thread. If cancelled, return at once and mark `owner` abandoned.

        Returns:
          Outcomes of the items that ran: at least the first, at most up to the first that raised.
        """
        await self._slots.acquire()
        call = _Call()
        token = trio.lowlevel.current_trio_token()

        def deliver(value: outcome.Outcome[list[outcome.Outcome[T]]]) -> None:
            with call.lock:
                call.returned = True
                call.value = value
            if call.abandoned:
                try:
                    owner.close()
                except Exception:  # logged, so that the slot is freed all the same
                    _log.exception("closing the node of an abandoned call failed")
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._returned, call)

        trio.lowlevel.start_thread_soon(lambda: call.do(items), deliver)
        try:
            await call.done.wait()
        except trio.Cancelled:
            with call.lock:
                call.abandoned = owner.abandoned = not call.returned
            self.straggling += call.abandoned
            raise
        assert call.value is not None
        return call.value.unwrap()

    def _returned(self, call: _Call) -> None:
        self._slots.release()
        self.straggling -= call.abandoned
        call.done.set()
