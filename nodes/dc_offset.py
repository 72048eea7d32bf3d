"""DCOffset: constant offset of audio."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.bases.hop_analyser import HopAnalyser, Value
from nodes.contract import parameter
from nodes.dsp.decibels import amplitude_db
from nodes.dsp.hysteresis import Alarm

__all__ = ["DCOffset"]


@attrs.define
class DCOffset(HopAnalyser):
    """Detect a constant offset, as from bad converters and cables; DCBlock removes it.

    Method: the mean of each channel over the last `window_ms` (less at first and after a gap), in hops of 20 ms. An
    offset begins when the mean of a channel has been `threshold` or more, up or down, for `hold_ms`. It ends when all
    means have been below half of that for `release_ms`. Any format, rate and channel count. A block that completes hops
    yields:

    * `dc_offset`: mean of each channel after the last hop, as a share of full scale, -1 to 1;
    * `dc_offset_db`: the greatest of them in dBFS, at least -120;
    * `has_dc_offset`, `segments`: `[[start_ms, end_ms]]` of the offset since the last item; end null while it lasts;
    * `timestamp_ms`, `duration_ms`, `frames`: of the hops.
    """

    threshold: float = parameter(0.01, help="least offset that counts, as a share of full scale", above=0, at_most=1)
    window_ms: float = parameter(1_000.0, help="window of the mean, in ms", at_least=20, at_most=60_000)
    hold_ms: float = parameter(500.0, help="time that an offset must last to count, in ms", at_least=0, at_most=60_000)
    release_ms: float = parameter(500.0, help="time without an offset until it ends, in ms", at_least=0, at_most=60_000)
    _alarm: Alarm = attrs.field(init=False, repr=False)
    _recent: NDArray[np.float64] | None = attrs.field(init=False, default=None, repr=False)

    hop_ms = 20.0

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._alarm = Alarm(self.threshold, self.threshold / 2, self.hold_ms, self.release_ms)

    def alarms(self) -> Sequence[Alarm]:
        return (self._alarm,)

    def end_stretch(self) -> None:
        """Turn the alarm off, and forget the window."""
        super().end_stretch()
        self._recent = None

    def measure(self, samples: NDArray[np.float64], start_ms: float, hop_ms: float) -> Value:
        """Average each channel over the window."""
        offsets = self._smoothed(samples.mean(axis=2), max(1, round(self.window_ms / hop_ms)))
        self._alarm.push(np.abs(offsets).max(axis=1), start_ms, hop_ms)
        latest = offsets[-1]
        return {"dc_offset": latest.tolist(), "dc_offset_db": amplitude_db(float(np.abs(latest).max()))}

    def _smoothed(self, means: NDArray[np.float64], window: int) -> NDArray[np.float64]:
        """Average, for each hop, the up to `window` hops that end with it; shape (count, channels)."""
        hops = means if self._recent is None else np.concatenate((self._recent, means))
        self._recent = hops[-window:].copy()
        sums = np.cumsum(np.concatenate((np.zeros((1, hops.shape[1])), hops)), axis=0)
        stops = np.arange(len(hops) - len(means), len(hops)) + 1
        starts = np.maximum(stops - window, 0)
        smoothed: NDArray[np.float64] = (sums[stops] - sums[starts]) / (stops - starts)[:, None]
        return smoothed

    def states(self) -> Value:
        """Return the fields about offsets since the last call."""
        segments = self._alarm.take()
        return {"has_dc_offset": bool(segments), "segments": segments}

    def joined(self, values: Sequence[Value]) -> Value:
        """Return the means after the last hop."""
        return {name: values[-1][name] for name in ("dc_offset", "dc_offset_db")}

    @property
    def delay(self) -> float:
        """Greatest time from a change of the offset to its item, in seconds: a small one must first fill the window."""
        return super().delay + self.window_ms / 1000

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the hop means in the window, and of the frames that wait for a whole hop."""
        return super().memory_bytes + (0 if self._recent is None else self._recent.nbytes)
