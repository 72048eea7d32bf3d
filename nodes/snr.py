"""SNR: estimated signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.bases.meter_node import Meter, MeterNode
from nodes.contract import Float32, parameter
from nodes.dsp.decibels import FLOOR_DBFS, power, power_db

__all__ = ["SNR"]

_LEAST_HOPS = 50
_LOWEST_DB = -10.0


class _SNRMeter:
    def __init__(self, window_hops: int, noise_share: float) -> None:
        self._window_hops, self._noise_share = window_hops, noise_share
        self.restart()

    def restart(self) -> None:
        self._powers: NDArray[np.float64] = np.zeros(0)

    def prepare(self, frames: Float32) -> NDArray[np.float64]:
        """Average the channels, shape (n,)."""
        mean: NDArray[np.float64] = frames.mean(axis=1, dtype=np.float64)
        return mean

    def measure(self, hops: NDArray[np.float64]) -> Mapping[str, Any]:
        self._powers = np.concatenate((self._powers, hops.var(axis=1)))[-self._window_hops :]
        if len(self._powers) < _LEAST_HOPS:
            return {"snr_db": None, "signal_dbfs": None, "noise_dbfs": None}
        lowest = int(len(self._powers) * self._noise_share)
        noise = max(float(np.partition(self._powers, lowest)[lowest]), power(FLOOR_DBFS))
        signal = float(self._powers.mean()) - noise
        return {
            "snr_db": round(max(_LOWEST_DB, power_db(signal / noise)), 2),
            "signal_dbfs": round(power_db(signal), 2),
            "noise_dbfs": round(power_db(noise), 2),
        }

    @property
    def memory_bytes(self) -> int:
        return self._powers.nbytes


@attrs.define
class SNR(MeterNode):
    """Estimate the signal-to-noise ratio of speech, or of another signal with pauses.

    Method: noise by a quantile over time (Stahl, Fischer and Bippus, "Quantile based noise estimation for spectral
    subtraction and Wiener filtering", ICASSP 2000), here of the power of hops of 20 ms instead of each frequency. The
    noise power is the quantile `noise_percentile` of the hops in the last `window_ms`. The signal power is the mean of
    these hops, pauses included, minus the noise power. So at least that share of the window must be pauses, and the
    noise must be steady; sound without pauses is taken for noise. Accurate to 1 dB from 0 to 20 dB for speech-like
    sound in white noise (see the tests). The mean of each hop is removed, so that an offset does not count. Several
    channels are averaged. After a gap the window begins again. A block that completes hops yields these levels,
    which are null until a second was heard:

    * `snr_db`: at least -10, because lower estimates are meaningless;
    * `signal_dbfs`, `noise_dbfs`: the two powers, at least -120.
    """

    window_ms: float = parameter(10_000.0, help="length of the window, in ms", at_least=1_000, at_most=120_000)
    noise_percentile: float = parameter(
        20.0, help="share of the window that certainly holds only noise, in percent", at_least=1, at_most=90
    )

    hop_ms = 20.0

    def make_meter(self, sample_rate: int, channels: int) -> Meter:
        return _SNRMeter(int(self.window_ms / self.hop_ms), self.noise_percentile / 100)
