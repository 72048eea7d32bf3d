"""Switch: one of several branches, by a condition each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from nodes.bases.decisions import AlignedDecisions, Judgement
from nodes.bases.expression import Expression
from nodes.contract import Item, Join, Kind, To, parameter

__all__ = ["Switch"]


@attrs.define
class Switch(Join):
    """Send each item to one downstream node: the first whose condition holds; the nodes of the others are skipped.

    `cases` has a JMESPath condition (https://jmespath.org) for each downstream node, tried in this order; where none
    holds the item goes to `default`, or nowhere. Data are judged by themselves, audio by the data about the same
    moment, exactly as in Gate, whose `align` and `max_skew_ms` these are: a block is cut where the data change their
    mind, and every sample goes to one branch at most. Audio that no data cover goes to `default`.

    Takes audio from one upstream node and data from one, which may be the same. No delay of its own.
    """

    cases: dict[str, str] = parameter(help="downstream node id → JMESPath: what goes there")
    default: str | None = parameter(None, help="downstream node id for all else; none: it is dropped")
    align: str = parameter("position", help="what links audio to data", choices=("position", "arrival"))
    max_skew_ms: float = parameter(
        5_000.0, help="how far the data may be behind the audio or before it, in ms", above=0, at_most=600_000
    )
    _cases: dict[str, Expression] = attrs.field(init=False, repr=False)
    _judged: AlignedDecisions = attrs.field(init=False, repr=False)

    takes = Kind.BOTH
    gives = Kind.BOTH
    routes = True

    def __attrs_post_init__(self) -> None:
        self._cases = {}
        for name, text in self.cases.items():
            try:
                self._cases[name] = Expression(text)
            except ValueError as error:
                raise ValueError(f"cases[{name!r}]: {error}") from None
        self.close()

    def connect_outputs(self, downstreams: Sequence[str]) -> None:
        """Check that cases and downstream nodes are the same.

        Raises:
          ValueError: they are not.
        """
        named = {*self.cases, *(() if self.default is None else (self.default,))}
        there = ", ".join(map(repr, downstreams)) or "none"
        for name in named.difference(downstreams):
            raise ValueError(f"cases and default: {name!r} is not downstream; downstream: {there}")
        for name in downstreams:
            if name not in named:
                raise ValueError(f"cases and default: {name!r} is downstream, but nothing can go there")

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[To]:
        """Send on what is decided, hold what is not yet.

        Raises:
          InvalidInput: audio or data come from two nodes, a condition cannot be applied or gives no truth value,
            data belong to no stretch of time, or the audio changes its format or goes back.
          SkewTooGreat: data or audio are too far behind.
        """
        return _sent(self._judged.take(row))

    def ended(self, upstream: str) -> None:
        """Wait no more for this upstream node."""
        self._judged.end()

    def finish(self) -> Iterable[To]:
        """Send what no data covered to `default`."""
        rest = _sent(self._judged.finish())
        self.close()
        return rest

    def close(self) -> None:
        """Let go of what is held."""
        self._judged = AlignedDecisions(self._judge, self.default, self.align == "position", self.max_skew_ms)

    def _judge(self, value: Mapping[str, object]) -> Judgement:
        return next((name for name, condition in self._cases.items() if condition.holds(value)), self.default)

    @property
    def memory_bytes(self) -> int:
        """The audio that waits for data."""
        return self._judged.memory_bytes


def _sent(judged: Sequence[tuple[Judgement, Item]]) -> list[To]:
    return [To(judgement, item) for judgement, item in judged if judgement is not None]
