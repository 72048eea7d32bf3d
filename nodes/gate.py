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
    """Pass items while a condition holds; while it does not, the nodes downstream get nothing and are skipped.

    The condition is a JMESPath expression (https://jmespath.org) on data items, with the result true, false or null. A
    data item passes if the condition holds for it. Audio passes, bit for bit and at its own positions, where the
    condition holds for the data about the same moment: `has_speech` of VAD, for example, or "rms_dbfs > `-40`" of
    AudioLevel. With `align` "position", a block is held until data cover it (`Data.at` to `Data.until`), and cut where
    the result changes. The node fails (`SkewTooGreat`) if audio and data are more than `max_skew_ms` apart. Audio that
    no data cover is discarded. With "arrival", a result is valid from its row until the next data, and nothing is held.
    The gate begins closed, so that a client can open it with data that it sends. (For speech segments with pre-roll,
    use SpeechGate.)

    Takes audio from one upstream node and data from one; they may be the same. The node adds no delay.
    """

    when: str = parameter(help="JMESPath condition: items pass where it is true")
    align: str = parameter("position", help="link between audio and data", choices=("position", "arrival"))
    max_skew_ms: float = parameter(
        5_000.0, help="greatest allowed skew between audio and data, in ms", above=0, at_most=600_000
    )
    _when: Expression = attrs.field(init=False, repr=False)
    _judged: AlignedDecisions = attrs.field(init=False, repr=False)

    takes = Kind.BOTH
    gives = Kind.BOTH

    def __attrs_post_init__(self) -> None:
        self._when = Expression(self.when)
        self.close()

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[Item]:
        """Pass the items for which the condition holds, and hold audio that is not decided yet.

        Raises:
          InvalidInput: audio or data come from two nodes, the condition cannot be applied or its result is not a truth
            value, data carry no time range, the audio changes its sample rate or channel count, or a block begins
            before the end of the previous one.
          SkewTooGreat: data or audio are too far behind.
        """
        return [item for judgement, item in self._judged.take(row) if judgement is not None]

    def ended(self, upstream: str) -> None:
        """Lift the skew limit, because an upstream node has ended."""
        self._judged.end()

    def finish(self) -> Iterable[Item]:
        """Discard audio that no data covered."""
        self.close()
        return ()

    def close(self) -> None:
        self._judged = AlignedDecisions(self._judge, None, self.align == "position", self.max_skew_ms)

    def _judge(self, value: Mapping[str, object]) -> Judgement:
        return "open" if self._when.holds(value) else None

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the audio that waits for data."""
        return self._judged.memory_bytes
