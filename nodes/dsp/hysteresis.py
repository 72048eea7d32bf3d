"""Alarms on values that waver, with two thresholds and a time for which a change must last."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.dsp.segments import Segment, Segmenter, milliseconds

__all__ = ["Alarm"]


@attrs.define
class Alarm:
    """A state that turns on when values were high for `hold_ms`, and off when they were low for `release_ms`.

    A value is high from `threshold` up, and low below `threshold - margin`. A value in between, or NaN, counts like the
    one before it, or as low at the beginning. The times when the state is on are segments, `[start_ms, end_ms or
    None]`, that begin with the first high value and end with the last one: the hold and the release only delay the
    moment when that is known.
    """

    threshold: float
    margin: float
    hold_ms: float
    release_ms: float
    _is_high: bool = attrs.field(init=False, default=False)
    _segmenter: Segmenter | None = attrs.field(init=False, default=None)
    _ended: list[Segment] = attrs.field(init=False, factory=list)

    def push(self, values: NDArray[np.float64], start_ms: float, hop_ms: float) -> None:
        """Take the values of the next hops, shape (n,), n > 0; the first of them begins at `start_ms`."""
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
        """Return True for each value that is high, shape (n,)."""
        above = values >= self.threshold
        known = above | (values < self.threshold - self.margin)
        latest = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
        high: NDArray[np.bool_] = np.where(latest < 0, self._is_high, above[latest])
        self._is_high = bool(high[-1])
        return high

    @property
    def duration_ms(self) -> float:
        """Time from the first high value to the last so far, in ms; 0 while the state is off."""
        segmenter = self._segmenter
        if segmenter is None or segmenter.open_ms is None:
            return 0.0
        return milliseconds(segmenter.settled_ms) - milliseconds(segmenter.open_ms)

    def take(self) -> list[Segment]:
        """Return the segments that ended since the last call, and the open one, if any."""
        taken, self._ended = self._ended, []
        return taken if self._segmenter is None else taken + self._segmenter.take()

    def end(self) -> None:
        """End the stretch: turn the state off, and begin anew with the next values."""
        if self._segmenter is not None:
            self._segmenter.end_at(self._segmenter.decided_ms)
            self._ended += self._segmenter.take()
        self._segmenter, self._is_high = None, False
