"""Tasks that wait to be woken. A parking lot whose count is a plain attribute, for who has to ask it for every row."""

from __future__ import annotations

import trio

__all__ = ["Waiters"]


class Waiters:
    """Those who wait for one thing.

    Attributes:
      count: How many wait; one that has been woken no longer does.
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
        """Wake all who wait."""
        if self.count:
            self.count = 0
            self._lot.unpark_all()
