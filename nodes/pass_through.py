"""PassThrough: every item, unchanged."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from nodes.contract import Item, Kind, Node

__all__ = ["PassThrough"]


@attrs.define
class PassThrough(Node):
    """Pass every item unchanged, audio and data alike: no copy, no delay, no state."""

    takes = Kind.BOTH
    gives = Kind.BOTH

    def process(self, item: Item) -> Iterable[Item]:
        """Return the very same item."""
        return (item,)
