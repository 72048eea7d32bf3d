"""Base class of nodes that measure one window of the stream after another."""

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
    """Yields, for each window, the values that `measure` returns, and in `times_ms` the beginning of the window.

    After a gap the windows begin anew. A remainder of less than a window is dropped. Several channels are averaged. A
    subclass creates `_windows`, names its `fields`, and implements `measure`.
    """

    _windows: MonoWindows = attrs.field(init=False, repr=False)

    takes = Kind.AUDIO
    gives = Kind.DATA
    fields: ClassVar[tuple[str, ...]]

    def require_rate(self, sample_rate: int) -> None:
        """Reject a sample rate that does not fit the parameters.

        Raises:
          InvalidInput: it does not fit.
        """

    def measure(self, windows: Windows) -> Mapping[str, Sequence[Any]]:
        """Return each of `fields`, with one value for each window."""
        raise NotImplementedError

    def process(self, item: Audio) -> Iterable[Data]:
        """Measure the windows that one block completes; yield one item, or several if there are very many windows.

        Raises:
          InvalidInput: the sample rate or channel count is not the stream's, or does not fit the parameters, or the
            block begins before the end of the previous one, or holds NaN or infinity.
        """
        self.require_rate(item.sample_rate)
        return [self._item(windows) for windows in self._windows.push(item)]

    def _item(self, windows: Windows) -> Data:
        rate = windows.sample_rate
        hop = self._windows.sizes(rate)[1]
        starts = [windows.position + k * hop for k in range(len(windows.samples))]
        times_ms = [milliseconds(start * 1000 / rate) for start in starts]
        return Data({**self.measure(windows), "times_ms": times_ms}, starts[0] / rate, (starts[-1] + hop) / rate)

    def finish(self) -> Iterable[Data]:
        """Drop a remainder of less than a window, and forget the stream."""
        self._windows.clear()
        return ()

    def close(self) -> None:
        self._windows.clear()

    def join(self, items: Sequence[Data]) -> Data:
        """Concatenate the values and times of several items."""
        return end_to_end(items, (*self.fields, "times_ms"))

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the frames that wait for a whole window."""
        return self._windows.memory_bytes
