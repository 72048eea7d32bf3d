"""A ParkingLot with its waiter count in a plain attribute, because the hot path reads it for every row."""

from __future__ import annotations

import trio

__all__ = ["Waiters"]


class Waiters:
    """Tasks that wait for the same event.

    Attributes:
      count: Number of waiting tasks, without those already woken.
    """

    __slots__ = ("_lot", "count")

    def __init__(self) -> None:
        self._lot = trio.lowlevel.ParkingLot()
        self.count = 0

    async def wait(self) -> None:
        """Wait until woken."""
        self.count += 1
        try:
            await self._lot.park()
        except BaseException:  # cancelled: `wake` did not count it out
            self.count -= 1
            raise

    def wake(self) -> None:
        """Wake all waiting tasks."""
        if self.count:
            self.count = 0
            self._lot.unpark_all()
