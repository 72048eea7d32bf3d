"""Gate: a branch that is open while a condition holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from nodes.bases.decisions import AlignedDecisions, Judgement
from nodes.bases.expression import Expression
from nodes.contract import Item, Join, Kind, parameter

__all__ = ["Gate"]


@attrs.define
class Gate(Join):
    """Pass what a condition holds for; while it does not, the nodes below have nothing to do and are skipped.

    The condition is a JMESPath expression (https://jmespath.org) on data items that gives true, or false or null. An
    item of data passes if the condition holds for it. Audio passes, bit for bit at its own positions, where it holds
    for the data about the same moment: VAD's `has_speech`, say, or AudioLevel's "rms_dbfs > `-40`". With `align`
    "position" a block is cut where the data change their mind, and held until data cover it (`Data.at` to
    `Data.until`), at most `max_skew_ms`; then the node fails (`SkewTooGreat`). Audio that no data cover is dropped.
    With "arrival" data count from their row on until the next say otherwise, nothing is held, and the gate is closed
    until it is told; so a client can open it by data of its own. (For speech segments with pre-roll use SpeechGate.)

    Takes audio from one upstream node and data from one, which may be the same. No delay of its own.
    """

    when: str = parameter(help="JMESPath: passes where this is true")
    align: str = parameter("position", help="what links audio to data", choices=("position", "arrival"))
    max_skew_ms: float = parameter(
        5_000.0, help="how far the data may be behind the audio or before it, in ms", above=0, at_most=600_000
    )
    _when: Expression = attrs.field(init=False, repr=False)
    _judged: AlignedDecisions = attrs.field(init=False, repr=False)

    takes = Kind.BOTH
    gives = Kind.BOTH

    def __attrs_post_init__(self) -> None:
        self._when = Expression(self.when)
        self.close()

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[Item]:
        """Pass what the condition is known to hold for, hold what is not known yet.

        Raises:
          InvalidInput: audio or data come from two nodes, the condition cannot be applied or gives no truth value,
            data belong to no stretch of time, or the audio changes its format or goes back.
          SkewTooGreat: data or audio are too far behind.
        """
        return [item for judgement, item in self._judged.take(row) if judgement is not None]

    def ended(self, upstream: str) -> None:
        """Wait no more for this upstream node."""
        self._judged.end()

    def finish(self) -> Iterable[Item]:
        """Drop what no data covered."""
        self.close()
        return ()

    def close(self) -> None:
        """Let go of what is held."""
        self._judged = AlignedDecisions(self._judge, None, self.align == "position", self.max_skew_ms)

    def _judge(self, value: Mapping[str, object]) -> Judgement:
        return "open" if self._when.holds(value) else None

    @property
    def memory_bytes(self) -> int:
        """The audio that waits for data."""
        return self._judged.memory_bytes
