"""The sweep: one clock for the time limits of all sessions: row timeouts, missing numbers, ages, and periodic metrics.

It ticks every 50 ms and advances at most 100 ms per tick, so that a node that holds the event loop cannot make other
sessions time out. It sleeps while there are no sessions.
"""

from __future__ import annotations

from typing import Protocol

import trio

__all__ = ["MAX_STEP_S", "TICK_S", "Sweep"]

TICK_S = 0.05
MAX_STEP_S = 0.1


class Swept(Protocol):
    """An object that the sweep ticks: a session."""

    def tick(self, clock: float, step: float) -> None:
        """Check time limits; `clock` is the sweep's clock, `step` its advance since the last tick, both in seconds."""


class Sweep:
    """Clock that ticks every session while `run` is running.

    Attributes:
      clock: Time in seconds; it advances while there are sessions.
    """

    def __init__(self) -> None:
        self.clock = 0.0
        self._swept: dict[Swept, None] = {}
        self._wake = trio.Event()

    def add(self, swept: Swept) -> None:
        """Tick an object from now on."""
        self._swept[swept] = None
        self._wake.set()

    def remove(self, swept: Swept) -> None:
        """Stop ticking an object."""
        self._swept.pop(swept, None)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            if not self._swept:
                self._wake = trio.Event()
                await self._wake.wait()
            before = trio.current_time()
            await trio.sleep(TICK_S)
            step = min(trio.current_time() - before, MAX_STEP_S)
            self.clock += step
            self._tick_all(step)

    def _tick_all(self, step: float) -> None:
        """Tick every session. A frame of its own, so that no variable keeps a session alive while `run` sleeps."""
        for swept in list(self._swept):
            swept.tick(self.clock, step)
