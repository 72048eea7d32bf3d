"""Switch: one of several branches, each with its condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from nodes.bases.decisions import AlignedDecisions, Judgement
from nodes.bases.expression import Expression
from nodes.contract import Item, Join, Kind, To, parameter

__all__ = ["Switch"]


@attrs.define
class Switch(Join):
    """Send each item to the first downstream node whose condition holds; the other branches are skipped.

    `cases` has a JMESPath condition (https://jmespath.org) for each downstream node, tried in this order. If none
    holds, the item goes to `default`; without a default it is discarded. Data are judged by themselves, audio by the
    data about the same moment, with `align` and `max_skew_ms` as in Gate: a block is cut where the result changes, and
    every sample goes to one branch at most. Audio that no data cover goes to `default`.

    Takes audio from one upstream node and data from one; they may be the same. The node adds no delay.
    """

    cases: dict[str, str] = parameter(help="downstream node id → JMESPath condition of its items")
    default: str | None = parameter(None, help="downstream node id for all other items; none: they are discarded")
    align: str = parameter("position", help="link between audio and data", choices=("position", "arrival"))
    max_skew_ms: float = parameter(
        5_000.0, help="greatest allowed skew between audio and data, in ms", above=0, at_most=600_000
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
        """Check that `cases` and `default` name the downstream nodes.

        Raises:
          ValueError: they name another node, or leave one out.
        """
        named = {*self.cases, *(() if self.default is None else (self.default,))}
        there = ", ".join(map(repr, downstreams)) or "none"
        for name in named.difference(downstreams):
            raise ValueError(f"cases and default: {name!r} is not downstream; downstream: {there}")
        for name in downstreams:
            if name not in named:
                raise ValueError(f"cases and default: {name!r} is downstream, but nothing can go there")

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[To]:
        """Send the items that are decided, and hold audio that is not decided yet.

        Raises:
          InvalidInput: audio or data come from two nodes, a condition cannot be applied or its result is not a truth
            value, data carry no time range, the audio changes its sample rate or channel count, or a block begins
            before the end of the previous one.
          SkewTooGreat: data or audio are too far behind.
        """
        return _sent(self._judged.take(row))

    def ended(self, upstream: str) -> None:
        """Lift the skew limit, because an upstream node has ended."""
        self._judged.end()

    def finish(self) -> Iterable[To]:
        """Send audio that no data covered to `default`."""
        rest = _sent(self._judged.finish())
        self.close()
        return rest

    def close(self) -> None:
        self._judged = AlignedDecisions(self._judge, self.default, self.align == "position", self.max_skew_ms)

    def _judge(self, value: Mapping[str, object]) -> Judgement:
        return next((name for name, condition in self._cases.items() if condition.holds(value)), self.default)

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the audio that waits for data."""
        return self._judged.memory_bytes


def _sent(judged: Sequence[tuple[Judgement, Item]]) -> list[To]:
    return [To(judgement, item) for judgement, item in judged if judgement is not None]
