"""Where a node's work runs: on the event loop (`inline`), or in a thread (`thread`).

This is the seam for other places to come. A thread call cannot be interrupted. When its session is cancelled, the
call, its node and its slot pass to a bounded list that all sessions share; the node is closed when the call returns.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

import outcome
import trio

__all__ = ["Threads"]

log = logging.getLogger("headrace.engine")

T = TypeVar("T")


class Owner(Protocol):
    """Whose work runs in a thread."""

    abandoned: bool
    """Set when a call of it was given up: it is then closed by the call's own end, and by nobody else."""

    def close(self) -> None:
        """Free what it holds."""


class _Call:
    """One call in a thread; `lock` decides whether it returned before its session gave it up."""

    __slots__ = ("abandoned", "done", "lock", "returned", "value")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done = trio.Event()
        self.returned = False
        self.abandoned = False
        self.value: outcome.Outcome[object] | None = None


class Threads:
    """The threads that all sessions of an engine share.

    Args:
      slots: calls that may run at once; further ones wait for their turn.
      stragglers: abandoned calls that may be running; with so many, no new session is admitted.
    """

    def __init__(self, slots: int = 16, stragglers: int = 8) -> None:
        self._slots = trio.Semaphore(slots)
        self._max_stragglers = stragglers
        self.straggling = 0

    @property
    def is_full(self) -> bool:
        """Whether so many abandoned calls are running that no session should be admitted."""
        return self.straggling >= self._max_stragglers

    async def run(self, work: Callable[[], T], owner: Owner) -> T:
        """Run `work` in a thread and give what it gives. Cancelling returns at once, and leaves `owner` abandoned."""
        await self._slots.acquire()
        call = _Call()
        token = trio.lowlevel.current_trio_token()

        def deliver(value: outcome.Outcome[T]) -> None:
            with call.lock:
                call.returned = True
                call.value = value
            if call.abandoned:
                try:
                    owner.close()
                except Exception:  # its own affair, and no reason to keep the slot
                    log.exception("closing what an abandoned call used failed")
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._returned, call)

        trio.lowlevel.start_thread_soon(work, deliver)
        try:
            await call.done.wait()
        except trio.Cancelled:
            with call.lock:
                call.abandoned = owner.abandoned = not call.returned
            self.straggling += call.abandoned
            raise
        assert call.value is not None
        return call.value.unwrap()  # type: ignore[return-value]

    def _returned(self, call: _Call) -> None:
        self._slots.release()
        self.straggling -= call.abandoned
        call.done.set()
