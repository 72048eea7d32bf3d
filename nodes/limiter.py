"""Limiter: no sample above a ceiling."""

from __future__ import annotations

from math import exp

import attrs
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nodes.bases.filter_node import Filter, FilterNode
from nodes.contract import parameter
from nodes.dsp.decibels import amplitude
from nodes.dsp.dynamics import HOP_MS, GainFilter, hop_frames

__all__ = ["Limiter"]

_Float64 = NDArray[np.float64]


class _LookAhead:
    """The limiter's `GainComputer`.

    The need of a boundary between hops is the gain that keeps the hops on both sides at the ceiling. The least of the
    next `hops_ahead` needs, released slowly, is averaged over as many boundaries. The gain is smooth, and never above
    the need of its own boundary, because each averaged value is at most that need.
    """

    def __init__(self, ceiling: float, hops_ahead: int, release_hops: float) -> None:
        self._ceiling, self._ahead = ceiling, hops_ahead
        self._kept_by_release = exp(-1.0 / release_hops)
        self._needs: _Float64 = np.zeros(0)
        self._last_hop_need = 1.0
        self._released: _Float64 | None = None
        self._gain = 1.0

    def push(self, peaks: _Float64) -> _Float64:
        hop_needs = self._ceiling / np.maximum(peaks, self._ceiling)
        before = np.concatenate(([self._last_hop_need], hop_needs))
        self._last_hop_need = float(before[-1])
        return self._gains(np.minimum(before[:-1], hop_needs))

    def flush(self) -> _Float64:
        return self._gains(np.array([self._last_hop_need] + [1.0] * (self._ahead - 1)))

    def _gains(self, needs: _Float64) -> _Float64:
        self._needs = np.concatenate((self._needs, needs))
        count = len(self._needs) - self._ahead + 1
        if count <= 0:
            return np.zeros(0)
        least = sliding_window_view(self._needs, self._ahead).min(axis=1)
        self._needs = self._needs[count:]
        return self._smooth(least)

    def _smooth(self, least: _Float64) -> _Float64:
        if self._released is None:
            self._released = np.full(self._ahead - 1, least[0])
        self._released = np.concatenate((self._released, self._release(least)))
        gains: _Float64 = sliding_window_view(self._released, self._ahead).mean(axis=1)
        self._released = self._released[len(gains) :]
        return gains

    def _release(self, least: _Float64) -> list[float]:
        released, gain = [], self._gain
        for need in least.tolist():
            gain = min(need, 1.0 - (1.0 - gain) * self._kept_by_release)
            released.append(gain)
        self._gain = gain
        return released


@attrs.define
class Limiter(FilterNode):
    """Lower the gain before peaks, so that no sample exceeds a ceiling.

    A look-ahead peak limiter: the least gain that the next `lookahead_ms` need, recovering exponentially, smoothed by
    a moving average of the same length (P. Hämäläinen, "Smoothing of the Control Signal Without Clipped Output in
    Digital Peak Limiters", DAFx 2002). The gain is computed in hops of a millisecond and interpolated linearly. All
    channels get the same gain. Audio that needs no limiting passes bit for bit. Any format, rate and channel count.
    Samples keep their positions and come later by `delay`.

    The ceiling applies to samples, not to the waveform that a converter draws between them (true peak). In integer
    formats it holds to the nearest step.
    """

    ceiling_db: float = parameter(-1.0, help="greatest amplitude of the output, in dBFS", at_least=-60, at_most=0)
    lookahead_ms: float = parameter(
        5.0, help="time before a peak when the gain begins to fall, in ms", at_least=1, at_most=50
    )
    release_ms: float = parameter(100.0, help="time constant of the gain's recovery, in ms", at_least=1, at_most=10_000)

    def make_filter(self, sample_rate: int, channels: int) -> Filter:
        hop_ms = hop_frames(sample_rate) * 1000 / sample_rate
        ceiling, hops_ahead = amplitude(self.ceiling_db), max(1, int(self.lookahead_ms / hop_ms))
        computer = _LookAhead(ceiling, hops_ahead, self.release_ms / hop_ms)
        return GainFilter(sample_rate, channels, computer, ceiling=ceiling)

    @property
    def delay(self) -> float:
        """Look-ahead plus a hop, in seconds."""
        return (self.lookahead_ms + HOP_MS) / 1000
