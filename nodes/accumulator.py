"""Accumulator: several data items collected into one."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from nodes.contract import Data, Kind, Node, parameter

__all__ = ["Accumulator"]

_ITEM_BYTES = 512
"""Estimated size of a held item."""


@attrs.define
class Accumulator(Node):
    """Collect data items and emit one for all of them: `{"items": [value, ...], "count": n}`.

    The item is emitted when there are `count` of them, when they cover `seconds` (from the `at` of the first to the
    `until` of the last), and at the end of the stream. It lasts from the first to the last of them. To collect audio
    into longer blocks, use Chunker.
    """

    count: int = parameter(10, help="greatest number of items to collect", at_least=1, at_most=10_000)
    seconds: float | None = parameter(
        None, help="time to collect, in s; none: collect by count alone", above=0, at_most=86_400
    )
    _items: list[Data] = attrs.field(init=False, factory=list, repr=False)

    takes = Kind.DATA
    gives = Kind.DATA

    def process(self, item: Data) -> Iterable[Data]:
        """Add one item; emit all of them if they are complete."""
        self._items.append(item)
        return self.finish() if len(self._items) >= self.count or self._is_over() else ()

    def _is_over(self) -> bool:
        at, until = self._items[0].at, self._items[-1].until
        return self.seconds is not None and at is not None and until is not None and until - at >= self.seconds

    def finish(self) -> Iterable[Data]:
        """Emit the items collected so far."""
        items, self._items = self._items, []
        if not items:
            return ()
        values = [dict(item.value) for item in items]
        return (Data({"items": values, "count": len(values)}, items[0].at, items[-1].until),)

    def close(self) -> None:
        self._items = []

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the held items, estimated at half a kB each."""
        return len(self._items) * _ITEM_BYTES
