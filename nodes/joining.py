"""Making one data item of several that list what they found."""

from __future__ import annotations

from collections.abc import Sequence

from nodes.contract import Data

__all__ = ["end_to_end"]


def end_to_end(items: Sequence[Data], fields: Sequence[str]) -> Data:
    """One item whose lists are those of all items, one after another; a single item is itself.

    Args:
      items: at least one, in the order of the stream.
      fields: what each of them has, all of them lists.
    """
    if len(items) == 1:
        return items[0]
    value = {field: [each for item in items for each in item.value[field]] for field in fields}
    return Data(value, items[0].at, items[-1].until)
