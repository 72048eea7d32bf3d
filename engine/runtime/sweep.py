"""The one clock that watches all sessions' limits: row times, holes, ages, metrics.

It ticks every 50 ms and advances at most 100 ms a tick, so that one node that holds the event loop cannot time out
the sessions of strangers. While there are no sessions it sleeps.
"""

from __future__ import annotations

from typing import Protocol

import trio

__all__ = ["MAX_STEP_S", "TICK_S", "Sweep"]

TICK_S = 0.05
MAX_STEP_S = 0.1


class Swept(Protocol):
    """What is looked after."""

    def tick(self, clock: float, step: float) -> None:
        """Look at limits; `clock` is the sweep's, `step` what it has advanced, in seconds."""


class Sweep:
    """Looks after sessions, once `run` has been started.

    Attributes:
      clock: Seconds, advancing while there are sessions.
    """

    def __init__(self) -> None:
        self.clock = 0.0
        self._swept: dict[Swept, None] = {}
        self._wake = trio.Event()

    def add(self, swept: Swept) -> None:
        """Look after this from now on."""
        self._swept[swept] = None
        self._wake.set()

    def remove(self, swept: Swept) -> None:
        """Look after this no longer."""
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
        """In a frame of its own, which does not keep the last one alive while `run` sleeps."""
        for swept in list(self._swept):
            swept.tick(self.clock, step)
