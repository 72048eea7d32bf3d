"""Accumulator: one data item for several."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from nodes.contract import Data, Kind, Node, parameter

__all__ = ["Accumulator"]

_ITEM_BYTES = 512
"""What a held item is accounted with."""


@attrs.define
class Accumulator(Node):
    """Collect data items, and give one for all of them: `{"items": [value, ...], "count": n}`.

    That is done when there are `count` of them, when they cover `seconds` (from the first one's `at` to the last one's
    `until`), and at the end of the stream with what there is. The item lasts from the first to the last. For longer
    blocks of audio there is Chunker.
    """

    count: int = parameter(10, help="most items to collect", at_least=1, at_most=10_000)
    seconds: float | None = parameter(
        None, help="time to collect for, in s; none: by count alone", above=0, at_most=86_400
    )
    _items: list[Data] = attrs.field(init=False, factory=list, repr=False)

    takes = Kind.DATA
    gives = Kind.DATA

    def process(self, item: Data) -> Iterable[Data]:
        """Keep one item; give all if they are complete."""
        self._items.append(item)
        return self.finish() if len(self._items) >= self.count or self._is_over() else ()

    def _is_over(self) -> bool:
        at, until = self._items[0].at, self._items[-1].until
        return self.seconds is not None and at is not None and until is not None and until - at >= self.seconds

    def finish(self) -> Iterable[Data]:
        """Give what there is."""
        items, self._items = self._items, []
        if not items:
            return ()
        values = [dict(item.value) for item in items]
        return (Data({"items": values, "count": len(values)}, items[0].at, items[-1].until),)

    def close(self) -> None:
        """Let go of what is held."""
        self._items = []

    @property
    def memory_bytes(self) -> int:
        """The items held, each taken for half a kB."""
        return len(self._items) * _ITEM_BYTES
