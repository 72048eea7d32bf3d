"""SilenceDetector: silences and dropouts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.bases.hop_analyser import HopAnalyser, Value, joined_db
from nodes.contract import Data, parameter
from nodes.dsp.decibels import FLOOR_DBFS, power_db, powers_db
from nodes.dsp.hysteresis import Alarm
from nodes.dsp.segments import Segment, milliseconds

__all__ = ["SilenceDetector"]

_MARGIN_DB = 3.0
_ROUNDING_MS = 1e-2


@attrs.define
class _Dropouts:
    """Finds holes in the sound, and notes when they are intermittent.

    Attributes:
      longest_ms: Greatest length of a hole.
      many: Number of holes within `window_ms` that makes them intermittent, until a window passes without any.
    """

    alarm: Alarm
    longest_ms: float
    many: int
    window_ms: float
    count: int = 0
    _start_ms: float | None = None
    _ends_ms: deque[float] = attrs.field(init=False)
    _are_many: bool = False
    _were_many: bool = False
    _found: list[Segment] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self._ends_ms = deque(maxlen=self.many)

    def push(self, levels: NDArray[np.float64], start_ms: float, hop_ms: float) -> None:
        """Take the levels of the next hops."""
        self._start_ms = start_ms if self._start_ms is None else self._start_ms
        self.alarm.push(-levels, start_ms, hop_ms)
        for hole_ms, end_ms in self.alarm.take():
            if hole_ms is None or end_ms is None or hole_ms <= self._start_ms + _ROUNDING_MS:
                continue  # still open, or without sound before it
            if end_ms - hole_ms <= self.longest_ms + _ROUNDING_MS:
                self._found.append([hole_ms, end_ms])
                self._count(end_ms)
        self._forget(start_ms + len(levels) * hop_ms)

    def _count(self, end_ms: float) -> None:
        self._forget(end_ms)
        self.count += 1
        self._ends_ms.append(end_ms)
        if len(self._ends_ms) == self.many and end_ms - self._ends_ms[0] <= self.window_ms:
            self._are_many = self._were_many = True

    def _forget(self, now_ms: float) -> None:
        if self._ends_ms and now_ms - self._ends_ms[-1] > self.window_ms:
            self._ends_ms.clear()
            self._are_many = False

    def take(self) -> tuple[list[Segment], bool]:
        """Return the holes since the last call, and True if they were intermittent at some time."""
        found, self._found = self._found, []
        were_many, self._were_many = self._were_many, self._are_many
        return found, were_many

    def end(self) -> None:
        """End the stretch; an open hole is not counted, because no sound follows it."""
        self.alarm.end()
        self.alarm.take()
        self._start_ms = None


@attrs.define
class SilenceDetector(HopAnalyser):
    """Detect silences and their length, and short dropouts.

    Method: the RMS of all channels in hops of 10 ms. Silence begins when it has been at most `threshold_db` for
    `hold_ms`, and ends when it has been more than 3 dB above that for `release_ms`. A dropout is a hole in the sound,
    as lost packets leave: at most `dropout_db` for no longer than `max_dropout_ms`, with sound on both sides. Any
    format, rate and channel count. A block that completes hops yields:

    * `rms_db`: over all channels, at least -120;
    * `is_silent`, `segments`: `[[start_ms, end_ms]]` of the silences since the last item; end null while one lasts;
      `silence_duration_ms`: longest of them so far; `is_sustained_silence`: it is at least `sustained_ms`;
    * `dropouts`: segments of the dropouts that ended since the last item; `dropout_count`: their number so far;
      `has_intermittent_dropouts`: there were `min_dropouts` within `dropout_window_ms`, and that time has not passed
      without one since;
    * `timestamp_ms`, `duration_ms`, `frames`: of the hops.
    """

    threshold_db: float = parameter(-50.0, help="greatest RMS of silence, in dBFS", at_least=FLOOR_DBFS, at_most=0)
    hold_ms: float = parameter(200.0, help="time that silence must last to count, in ms", at_least=0, at_most=60_000)
    release_ms: float = parameter(50.0, help="time of sound until silence ends, in ms", at_least=0, at_most=60_000)
    sustained_ms: float = parameter(3_000.0, help="length of a sustained silence, in ms", at_least=0, at_most=3_600_000)
    dropout_db: float = parameter(
        -80.0, help="greatest RMS of a dropout, in dBFS; at most threshold_db", at_least=FLOOR_DBFS, at_most=0
    )
    max_dropout_ms: float = parameter(200.0, help="longest dropout, in ms", above=0, at_most=60_000)
    min_dropouts: int = parameter(3, help="number of dropouts that counts as intermittent", at_least=1, at_most=1_000)
    dropout_window_ms: float = parameter(
        10_000.0, help="time within which they are counted, in ms", above=0, at_most=3_600_000
    )
    _silence: Alarm = attrs.field(init=False, repr=False)
    _dropouts: _Dropouts = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.dropout_db > self.threshold_db:
            raise ValueError(
                f"dropout_db must be at most threshold_db ({self.threshold_db:g}), got {self.dropout_db:g}"
            )
        self._silence = Alarm(-self.threshold_db, _MARGIN_DB, self.hold_ms, self.release_ms)
        self._dropouts = self._no_dropouts()

    def _no_dropouts(self) -> _Dropouts:
        alarm = Alarm(-self.dropout_db, _MARGIN_DB, 0.0, 0.0)
        return _Dropouts(alarm, self.max_dropout_ms, self.min_dropouts, self.dropout_window_ms)

    def alarms(self) -> Sequence[Alarm]:
        return (self._silence,)

    def end_stretch(self) -> None:
        """End silence at a gap or at the end of the stream; an open hole is not a dropout."""
        super().end_stretch()
        self._dropouts.end()

    def finish(self) -> Sequence[Data]:
        """End silence that is still on, and reset the count of dropouts."""
        items = tuple(super().finish())
        self._dropouts = self._no_dropouts()
        return items

    def measure(self, samples: NDArray[np.float64], start_ms: float, hop_ms: float) -> Value:
        """Measure the level."""
        mean_squares = np.square(samples).mean(axis=(1, 2))
        levels = powers_db(mean_squares)
        self._silence.push(-levels, start_ms, hop_ms)
        self._dropouts.push(levels, start_ms, hop_ms)
        return {"rms_db": power_db(float(mean_squares.mean()))}

    def states(self) -> Value:
        """Return the fields about silences and dropouts since the last call."""
        longest_ms, segments = self._silence.duration_ms, self._silence.take()
        for start_ms, end_ms in segments:
            if start_ms is not None and end_ms is not None:
                longest_ms = max(longest_ms, end_ms - start_ms)
        dropouts, are_intermittent = self._dropouts.take()
        return {
            "is_silent": bool(segments),
            "silence_duration_ms": milliseconds(longest_ms),
            "is_sustained_silence": bool(segments) and longest_ms >= self.sustained_ms - _ROUNDING_MS,
            "segments": segments,
            "dropout_count": self._dropouts.count,
            "has_intermittent_dropouts": are_intermittent,
            "dropouts": dropouts,
        }

    def joined(self, values: Sequence[Value]) -> Value:
        """Return the level over all hops, and the length of the longest silence."""
        longest_ms = max(value["silence_duration_ms"] for value in values)
        return {"rms_db": joined_db(values, "rms_db"), "silence_duration_ms": longest_ms}
