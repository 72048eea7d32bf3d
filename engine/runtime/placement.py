"""Where a node's work runs: on the event loop (`inline`), or in a thread (`thread`).

This is the seam for other places to come. A node in a thread has one call at a time, for as many items as wait for
it: the way there and back (about 0.1 ms) is paid once, and the first of them waits at most `BATCH_S` for the
others. A call cannot be interrupted. When its session is cancelled, the call, its node and its slot pass to a bounded
list that all sessions share; it stops after the item that it is at, and then the node is closed.
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
"""When a call has run for so long it gives back what it has done; what it has not is for the next call."""

_log = logging.getLogger(f"headrace.{__name__}")

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
        self.value: outcome.Outcome[list[outcome.Outcome[Any]]] | None = None

    def do(self, items: Sequence[Callable[[], T]]) -> list[outcome.Outcome[T]]:
        """In the thread: what each item gives or raises, up to the first that raises, or to where time is over."""
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
      slots: Calls that may run at once; further ones wait for their turn.
      stragglers: Abandoned calls that may be running; with so many, no new session is admitted.
    """

    def __init__(self, slots: int = 16, stragglers: int = 8) -> None:
        self._slots = trio.Semaphore(slots)
        self._max_stragglers = stragglers
        self.straggling = 0

    @property
    def is_full(self) -> bool:
        """Whether so many abandoned calls are running that no session should be admitted."""
        return self.straggling >= self._max_stragglers

    async def run(self, items: Sequence[Callable[[], T]], owner: Owner) -> list[outcome.Outcome[T]]:
        """Do items of work one after another in one thread. Cancelling returns at once, and leaves `owner` abandoned.

        Returns:
          What came of each, at least of the first. One that raised is the last; others may be left undone.
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
                except Exception:  # its own affair, and no reason to keep the slot
                    _log.exception("closing what an abandoned call used failed")
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
