"""Helpers that sort the items of a `Join`'s row by kind, and join data items of several rows into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from nodes.contract import Audio, Data, InvalidInput, Item

__all__ = ["end_to_end", "of_kind", "only_one"]

T = TypeVar("T", Audio, Data)


def of_kind(row: Mapping[str, Sequence[Item]], kind: type[T]) -> dict[str, list[T]]:
    """Return the items of a kind by upstream node, without the nodes that have none."""
    picked = {name: [item for item in items if isinstance(item, kind)] for name, items in row.items()}
    return {name: items for name, items in picked.items() if items}


def only_one(given: Mapping[str, list[T]], before: str | None, what: str) -> tuple[str | None, list[T]]:
    """Return the one upstream node that sends items of a kind, and its items in this row.

    Args:
      given: The items of the kind in this row, by upstream node.
      before: The node that sent them in earlier rows; None if there was none yet.
      what: Name of the kind, for the error.

    Raises:
      InvalidInput: there is more than one such node.
    """
    names = {*given, *(() if before is None else (before,))}
    if len(names) > 1:
        raise InvalidInput(f"{what} from more than one node: {', '.join(map(repr, sorted(names)))}")
    name = next(iter(names), None)
    return name, [] if name is None else given.get(name, [])


def end_to_end(items: Sequence[Data], fields: Sequence[str]) -> Data:
    """Return one item with the lists of all items, concatenated; a single item is returned as it is.

    Args:
      items: At least one, in the order of the stream.
      fields: Keys of the lists, present in every item.
    """
    if len(items) == 1:
        return items[0]
    value = {field: [each for item in items for each in item.value[field]] for field in fields}
    return Data(value, items[0].at, items[-1].until)
