"""The conformance kit, as this project's own tests import it, and a feed for nodes that join two streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nodes.conformance import Outcome, blocks_of, check_node, cut, run, signal
from nodes.contract import Audio

__all__ = ["Outcome", "blocks_of", "check_node", "cut", "late_by_one_row", "run", "signal"]


def late_by_one_row() -> Callable[[Audio | None], Mapping[str, Sequence[Audio]]]:
    """Make a feed that sends each block from "a" at once, and from "b" one row later."""
    waiting: list[Audio] = []

    def feed(block: Audio | None) -> Mapping[str, Sequence[Audio]]:
        late = waiting[:]
        waiting[:] = [] if block is None else [block]
        return {"a": waiting[:], "b": late}

    return feed
