"""Loudness: perceived loudness of programme material, by EBU R 128."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.bases.meter_node import Meter, MeterNode
from nodes.contract import Float32, InvalidInput, parameter
from nodes.dsp.decibels import FLOOR_DBFS, power_db
from nodes.dsp.k_weighting import k_weighting
from nodes.dsp.loudness_gating import OFFSET_DB, GatedMean
from nodes.dsp.sos import SectionsFilter, scipy_signal

__all__ = ["Loudness"]

_MOMENTARY_HOPS, _SHORT_TERM_HOPS = 4, 30
_LEAST_RATE = 8_000
_SURROUND = 1.41
_USUAL_WEIGHTS: Mapping[int, Sequence[float]] = {
    5: (1.0, 1.0, 1.0, _SURROUND, _SURROUND),
    6: (1.0, 1.0, 1.0, 0.0, _SURROUND, _SURROUND),
}


class _LoudnessMeter:
    def __init__(self, sample_rate: int, weights: Sequence[float]) -> None:
        self._sections, self._weights = k_weighting(sample_rate), np.array(weights)
        self._gated = GatedMean()
        self._greatest_momentary = self._greatest_short_term = 0.0
        self.restart()

    def restart(self) -> None:
        self._filter = SectionsFilter(self._sections, len(self._weights))
        self._recent: NDArray[np.float64] = np.zeros(0)

    def prepare(self, frames: Float32) -> NDArray[np.float64]:
        """Return the weighted power of each frame, shape (n,)."""
        powers: NDArray[np.float64] = np.square(self._filter.run(frames)) @ self._weights
        return powers

    def measure(self, hops: NDArray[np.float64]) -> Mapping[str, Any]:
        recent = np.concatenate((self._recent, hops.mean(axis=1)))
        momentary = _last_means(recent, _MOMENTARY_HOPS, len(hops))
        short_term = _last_means(recent, _SHORT_TERM_HOPS, len(hops))
        self._recent = recent[1 - _SHORT_TERM_HOPS :]
        self._gated.add(momentary)
        self._greatest_momentary = max(self._greatest_momentary, momentary.max(initial=0.0))
        self._greatest_short_term = max(self._greatest_short_term, short_term.max(initial=0.0))
        return {
            "momentary_lufs": _lufs(momentary[-1]) if len(momentary) else None,
            "short_term_lufs": _lufs(short_term[-1]) if len(short_term) else None,
            "integrated_lufs": None if (mean := self._gated.mean()) is None else _lufs(mean),
            "max_momentary_lufs": _lufs(self._greatest_momentary),
            "max_short_term_lufs": _lufs(self._greatest_short_term),
        }

    @property
    def memory_bytes(self) -> int:
        return self._gated.memory_bytes + self._filter.memory_bytes + self._recent.nbytes


def _last_means(powers: NDArray[np.float64], size: int, count: int) -> NDArray[np.float64]:
    """Average each full window of `size` hops that ends with one of the last `count` hops."""
    latest = powers[-(count + size - 1) :]
    if len(latest) < size:
        return np.zeros(0)
    means: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(latest, size).mean(axis=1)
    return means


def _lufs(weighted_power: float) -> float:
    return max(FLOOR_DBFS, round(power_db(weighted_power) + OFFSET_DB, 2))


@attrs.define
class Loudness(MeterNode):
    """Measure perceived loudness in LUFS: momentary, short-term and integrated.

    EBU R 128 and Tech 3341 on ITU-R BS.1770-4: K-weighting at the stream's own rate (at least 8 kHz), run by SciPy;
    power over sliding windows in steps of 100 ms; for the integrated loudness, blocks of 400 ms gated at -70 LUFS and
    then 10 LU below their mean, in a histogram of 0.1 LU, so that a day takes as much memory as a second. A block that
    completes steps of 100 ms yields levels of at least -120:

    * `momentary_lufs` over the last 400 ms, `short_term_lufs` over the last 3 s: null until that much was heard without
      a gap; `max_momentary_lufs`, `max_short_term_lufs`: the greatest so far;
    * `integrated_lufs` since the session began, also over gaps; null until a block was above -70.

    Each channel counts once. With five (L R C Ls Rs) or six channels (L R C LFE Ls Rs), however, the surround channels
    count 1.41 times and the LFE not at all. Set `channel_weights` for other layouts.
    """

    extra = "dsp"

    channel_weights: list[float] = parameter(
        [], help="weight of each channel's power; if empty, by the number of channels"
    )

    def __attrs_post_init__(self) -> None:
        scipy_signal()
        if any(not 0 <= weight <= 100 for weight in self.channel_weights):
            raise ValueError(f"channel_weights must be 0 to 100 each, got {self.channel_weights}")

    def make_meter(self, sample_rate: int, channels: int) -> Meter:
        if sample_rate < _LEAST_RATE:
            raise InvalidInput(f"loudness is measured at {_LEAST_RATE} Hz and more, this is {sample_rate} Hz")
        weights = self.channel_weights or _USUAL_WEIGHTS.get(channels, (1.0,) * channels)
        if len(weights) != channels:
            raise InvalidInput(f"channel_weights has {len(weights)} numbers, the stream has {channels} channels")
        return _LoudnessMeter(sample_rate, weights)
