"""Picking a row apart: what a `Join` that tells audio from data does first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from nodes.contract import Audio, Data, InvalidInput, Item

__all__ = ["of_kind", "only_one"]

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
