"""What the nodes that measure one window of the stream after another have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from nodes.bases.rows import end_to_end
from nodes.contract import Audio, Data, Kind, Node
from nodes.dsp.segments import milliseconds
from nodes.dsp.windows import MonoWindows, Windows

__all__ = ["WindowAnalyser"]


@attrs.define
class WindowAnalyser(Node):
    """Gives of each window what `measure` makes of it, and as `times_ms` where it begins.

    After a gap the windows begin anew. What is less than a window is dropped. Several channels are averaged. A subclass
    makes `_windows`, names its `fields`, and measures.
    """

    _windows: MonoWindows = attrs.field(init=False, repr=False)

    takes = Kind.AUDIO
    gives = Kind.DATA
    fields: ClassVar[tuple[str, ...]]

    def require_rate(self, sample_rate: int) -> None:
        """Refuse a rate for which the parameters make no sense.

        Raises:
          InvalidInput: they do not.
        """

    def measure(self, windows: Windows) -> Mapping[str, Sequence[Any]]:
        """Each of `fields`, a value for each window."""
        raise NotImplementedError

    def process(self, item: Audio) -> Iterable[Data]:
        """Measure the windows that one block completes: an item, several if there are very many.

        Raises:
          InvalidInput: the rate or channel count is not the stream's, or does not fit the parameters, the block goes
            back, or holds NaN or infinity.
        """
        self.require_rate(item.sample_rate)
        return [self._told(windows) for windows in self._windows.push(item)]

    def _told(self, windows: Windows) -> Data:
        rate = windows.sample_rate
        hop = self._windows.sizes(rate)[1]
        starts = [windows.position + k * hop for k in range(len(windows.samples))]
        times_ms = [milliseconds(start * 1000 / rate) for start in starts]
        return Data({**self.measure(windows), "times_ms": times_ms}, starts[0] / rate, (starts[-1] + hop) / rate)

    def finish(self) -> Iterable[Data]:
        """Drop what is less than a window."""
        self._windows.clear()
        return ()

    def close(self) -> None:
        """Let go of what is held."""
        self._windows.clear()

    def join(self, items: Sequence[Data]) -> Data:
        """What was measured and when, one after another."""
        return end_to_end(items, (*self.fields, "times_ms"))

    @property
    def memory_bytes(self) -> int:
        """The frames that wait for a whole window."""
        return self._windows.memory_bytes
