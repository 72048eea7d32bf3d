"""Events from values that waver: two thresholds, and a time for which a change has to last."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.dsp.segments import Segment, Segmenter, milliseconds

__all__ = ["Alarm"]


@attrs.define
class Alarm:
    """A state that goes on when values have been high for `hold_ms`, and off when they have been low for `release_ms`.

    A value is high from `threshold` up and low below `threshold - margin`; one in between, or NaN, is as the one before
    it, and low at the beginning. The times when it was on are segments, `[start_ms, end_ms or None]`, that begin with
    the first high value and end with the last: the hold and the release only put off when that is known.
    """

    threshold: float
    margin: float
    hold_ms: float
    release_ms: float
    _is_high: bool = attrs.field(init=False, default=False)
    _segmenter: Segmenter | None = attrs.field(init=False, default=None)
    _ended: list[Segment] = attrs.field(init=False, factory=list)

    def push(self, values: NDArray[np.float64], start_ms: float, hop_ms: float) -> None:
        """Take the values of the hops that follow, shape (n,), n > 0; the first of them begins at `start_ms`."""
        if self._segmenter is None:
            self._segmenter = Segmenter(self.hold_ms, self.release_ms, 0.0, start_ms)
        high = self._judged(values)
        last_of_runs = [*np.flatnonzero(high[1:] != high[:-1]).tolist(), len(high) - 1]
        for last in last_of_runs:
            end_ms = start_ms + (last + 1) * hop_ms
            if high[last]:
                self._segmenter.speech_until(end_ms)
            else:
                self._segmenter.silence_until(end_ms)

    def _judged(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the values are high."""
        above = values >= self.threshold
        known = above | (values < self.threshold - self.margin)
        latest = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
        high: NDArray[np.bool_] = np.where(latest < 0, self._is_high, above[latest])
        self._is_high = bool(high[-1])
        return high

    @property
    def duration_ms(self) -> float:
        """From its first high value to the last so far, if it is on; else 0."""
        segmenter = self._segmenter
        if segmenter is None or segmenter.open_ms is None:
            return 0.0
        return milliseconds(segmenter.settled_ms) - milliseconds(segmenter.open_ms)

    def take(self) -> list[Segment]:
        """The segments that ended since the last call, and the open one, if any."""
        taken, self._ended = self._ended, []
        return taken if self._segmenter is None else taken + self._segmenter.take()

    def end(self) -> None:
        """The stretch ends here: what is on goes off, and what follows begins anew."""
        if self._segmenter is not None:
            self._segmenter.end_at(self._segmenter.decided_ms)
            self._ended += self._segmenter.take()
        self._segmenter, self._is_high = None, False
