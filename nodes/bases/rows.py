"""Rows of a `Join`, picked apart by kind, and data items of several rows made into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from nodes.contract import Audio, Data, InvalidInput, Item

__all__ = ["end_to_end", "of_kind", "only_one"]

T = TypeVar("T", Audio, Data)


def of_kind(row: Mapping[str, Sequence[Item]], kind: type[T]) -> dict[str, list[T]]:
    """The items of a kind, by upstream node; without the nodes that gave none."""
    picked = {name: [item for item in items if isinstance(item, kind)] for name, items in row.items()}
    return {name: items for name, items in picked.items() if items}


def only_one(given: Mapping[str, list[T]], before: str | None, what: str) -> tuple[str | None, list[T]]:
    """The one upstream node that gives such items, now and before, and what it gives now.

    Raises:
      InvalidInput: there is more than one.
    """
    names = {*given, *(() if before is None else (before,))}
    if len(names) > 1:
        raise InvalidInput(f"{what} from more than one node: {', '.join(map(repr, sorted(names)))}")
    name = next(iter(names), None)
    return name, [] if name is None else given.get(name, [])


def end_to_end(items: Sequence[Data], fields: Sequence[str]) -> Data:
    """One item whose lists are those of all items, one after another; a single item is itself.

    Args:
      items: At least one, in the order of the stream.
      fields: What each of them has, all of them lists.
    """
    if len(items) == 1:
        return items[0]
    value = {field: [each for item in items for each in item.value[field]] for field in fields}
    return Data(value, items[0].at, items[-1].until)
