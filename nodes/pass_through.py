"""PassThrough: what comes in goes out."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from nodes.contract import Item, Kind, Node

__all__ = ["PassThrough"]


@attrs.define
class PassThrough(Node):
    """Give every item as it came, audio and data alike: no copy, no delay, no state."""

    takes = Kind.BOTH
    gives = Kind.BOTH

    def process(self, item: Item) -> Iterable[Item]:
        """Give the very same item."""
        return (item,)
