"""DCOffset: whether audio lies off the middle."""

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
    """Tell when audio has a constant offset, as bad converters and cables give it; DCBlock takes it out.

    Method: the mean of each channel over the last `window_ms`, at first and after a gap over what there is, in hops of
    20 ms. There is an offset when that of a channel has been `threshold` or more, up or down, for `hold_ms`, and
    none any more when all have been below half of it for `release_ms`. Any format, rate and channel count. A block that
    completes hops gives:

    * `dc_offset`: each channel's mean after the last of them, as a share of full scale, -1 to 1;
    * `dc_offset_db`: the greatest of them in dB of full scale, no less than -120;
    * `has_dc_offset`, `segments`: `[[start_ms, end_ms]]` of the offset since the last item; end null while it goes on;
    * `timestamp_ms`, `duration_ms`, `frames`: of the hops.
    """

    threshold: float = parameter(0.01, help="least offset that counts, as a share of full scale", above=0, at_most=1)
    window_ms: float = parameter(1_000.0, help="what the mean is taken over, in ms", at_least=20, at_most=60_000)
    hold_ms: float = parameter(500.0, help="how long it has to be so, in ms", at_least=0, at_most=60_000)
    release_ms: float = parameter(500.0, help="how long it must not be so any more, in ms", at_least=0, at_most=60_000)
    _alarm: Alarm = attrs.field(init=False, repr=False)
    _recent: NDArray[np.float64] | None = attrs.field(init=False, default=None, repr=False)

    hop_ms = 20.0

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._alarm = Alarm(self.threshold, self.threshold / 2, self.hold_ms, self.release_ms)

    def alarms(self) -> Sequence[Alarm]:
        """That of an offset."""
        return (self._alarm,)

    def end_stretch(self) -> None:
        """Forget the window, too."""
        super().end_stretch()
        self._recent = None

    def measure(self, samples: NDArray[np.float64], start_ms: float, hop_ms: float) -> Value:
        """Take the means."""
        offsets = self._smoothed(samples.mean(axis=2), max(1, round(self.window_ms / hop_ms)))
        self._alarm.push(np.abs(offsets).max(axis=1), start_ms, hop_ms)
        latest = offsets[-1]
        return {"dc_offset": latest.tolist(), "dc_offset_db": amplitude_db(float(np.abs(latest).max()))}

    def _smoothed(self, means: NDArray[np.float64], window: int) -> NDArray[np.float64]:
        """The mean of up to so many hops that end with each of these, shape (count, channels)."""
        hops = means if self._recent is None else np.concatenate((self._recent, means))
        self._recent = hops[-window:].copy()
        sums = np.cumsum(np.concatenate((np.zeros((1, hops.shape[1])), hops)), axis=0)
        stops = np.arange(len(hops) - len(means), len(hops)) + 1
        starts = np.maximum(stops - window, 0)
        smoothed: NDArray[np.float64] = (sums[stops] - sums[starts]) / (stops - starts)[:, None]
        return smoothed

    def states(self) -> Value:
        """The offset since the last call."""
        segments = self._alarm.take()
        return {"has_dc_offset": bool(segments), "segments": segments}

    def joined(self, values: Sequence[Value]) -> Value:
        """The means after the last hop."""
        return {name: values[-1][name] for name in ("dc_offset", "dc_offset_db")}

    @property
    def delay(self) -> float:
        """How long after it begins or ends an offset is told at most: a small one has to fill the window."""
        return super().delay + self.window_ms / 1000

    @property
    def memory_bytes(self) -> int:
        """The means of the window's hops, and the frames that wait for a whole one."""
        return super().memory_bytes + (0 if self._recent is None else self._recent.nbytes)
