"""ClippingDetector: audio that is cut off at full scale."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.bases.hop_analyser import HopAnalyser, Value, joined_db, joined_mean
from nodes.contract import parameter
from nodes.dsp.decibels import amplitude, amplitude_db, power_db
from nodes.dsp.hysteresis import Alarm

__all__ = ["ClippingDetector"]


@attrs.define
class ClippingDetector(HopAnalyser):
    """Detect clipping: too many samples at full scale, for too long to be an accident.

    Method: the share of samples at or above `ceiling_db` in hops of 20 ms (each covers a period of any voice), in the
    channel with the greatest share. Clipping begins when it has been at least `min_saturation` for `hold_ms`, and ends
    when it has been below half of that for `release_ms`. Any format, rate and channel count. A block that completes
    hops yields:

    * `saturation_ratio`: share of samples at the ceiling, over all channels, 0 to 1;
    * `rms_db`, `peak_db`: over all channels, at least -120; `crest_factor_db`: peak minus RMS, 3 for a sine, 0 for a
      square wave or silence; speech has 12 or more, and less when it is clipped;
    * `is_clipping`, `segments`: `[[start_ms, end_ms]]` of the clipping since the last item; end null while it lasts;
    * `timestamp_ms`, `duration_ms`, `frames`: of the hops.
    """

    ceiling_db: float = parameter(
        -0.01, help="level from which a sample counts as cut off, in dBFS", at_least=-20, at_most=-0.001
    )
    min_saturation: float = parameter(
        0.01, help="share of a hop's samples at the ceiling that counts as clipping", above=0, at_most=1
    )
    hold_ms: float = parameter(60.0, help="time that clipping must last to count, in ms", at_least=0, at_most=60_000)
    release_ms: float = parameter(500.0, help="time without clipping until it ends, in ms", at_least=0, at_most=60_000)
    _alarm: Alarm = attrs.field(init=False, repr=False)

    hop_ms = 20.0

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._alarm = Alarm(self.min_saturation, self.min_saturation / 2, self.hold_ms, self.release_ms)

    def alarms(self) -> Sequence[Alarm]:
        return (self._alarm,)

    def measure(self, samples: NDArray[np.float64], start_ms: float, hop_ms: float) -> Value:
        """Count the samples at the ceiling."""
        magnitudes = np.abs(samples)
        shares = np.count_nonzero(magnitudes >= amplitude(self.ceiling_db), axis=2) / samples.shape[2]
        self._alarm.push(shares.max(axis=1), start_ms, hop_ms)
        peak_db, rms_db = amplitude_db(float(magnitudes.max())), power_db(float(np.square(magnitudes).mean()))
        return _value(float(shares.mean()), rms_db, peak_db)

    def states(self) -> Value:
        """Return the fields about clipping since the last call."""
        segments = self._alarm.take()
        return {"is_clipping": bool(segments), "segments": segments}

    def joined(self, values: Sequence[Value]) -> Value:
        """Return the share, level and crest factor over all hops."""
        share = joined_mean(values, (value["saturation_ratio"] for value in values))
        return _value(share, joined_db(values, "rms_db"), max(value["peak_db"] for value in values))


def _value(share: float, rms_db: float, peak_db: float) -> Value:
    return {"saturation_ratio": share, "rms_db": rms_db, "peak_db": peak_db, "crest_factor_db": peak_db - rms_db}
