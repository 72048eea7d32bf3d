"""Compressor: less difference between loud and quiet passages."""

from __future__ import annotations

from math import exp

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.bases.filter_node import Filter, FilterNode
from nodes.contract import parameter
from nodes.dsp.decibels import FLOOR_DBFS, amplitude
from nodes.dsp.dynamics import HOP_MS, GainFilter, hop_frames

__all__ = ["Compressor"]

_Float64 = NDArray[np.float64]


class _FeedForward:
    """The compressor's `GainComputer`: level in decibels → static curve → smoothing → gain."""

    def __init__(self, node: Compressor, hop_ms: float) -> None:
        self._node = node
        self._kept_by_attack = _kept(hop_ms, node.attack_ms)
        self._kept_by_release = _kept(hop_ms, node.release_ms)
        self._change_db = 0.0
        self._first: list[float] = [0.0]

    def push(self, peaks: _Float64) -> _Float64:
        levels_db = 20.0 * np.log10(np.maximum(peaks, amplitude(FLOOR_DBFS)))
        changes_db = np.array(self._first + self._smooth(self._curve(levels_db)))
        self._first = []
        gains: _Float64 = 10.0 ** ((changes_db + self._node.makeup_db) / 20.0)
        return gains

    def flush(self) -> _Float64:
        return np.zeros(0)

    def _curve(self, levels_db: _Float64) -> _Float64:
        """Return the static curve's change of these levels: zero, a parabola in the knee, then a straight line."""
        knee_db, over_db = self._node.knee_db, levels_db - self._node.threshold_db
        counted_db = np.maximum(over_db - knee_db / 2, 0.0)
        if knee_db:
            counted_db += np.clip(over_db + knee_db / 2, 0.0, knee_db) ** 2 / (2 * knee_db)
        return (1.0 / self._node.ratio - 1.0) * counted_db

    def _smooth(self, wanted_db: _Float64) -> list[float]:
        smoothed, change_db = [], self._change_db
        for wanted in wanted_db.tolist():
            kept = self._kept_by_attack if wanted < change_db else self._kept_by_release
            change_db = wanted + (change_db - wanted) * kept
            smoothed.append(change_db)
        self._change_db = change_db
        return smoothed


def _kept(hop_ms: float, time_constant_ms: float) -> float:
    """Return the share of a difference that is left after a hop."""
    return exp(-hop_ms / time_constant_ms) if time_constant_ms else 0.0


@attrs.define
class Compressor(FilterNode):
    """Lower the gain while the level is above a threshold, so that loud and quiet passages come closer.

    The feed-forward design with a soft knee and a smooth branching detector in decibels (D. Giannoulis, M. Massberg,
    J. D. Reiss, "Digital Dynamic Range Compressor Design", J. Audio Eng. Soc. 60(6), 2012). The level is the peak
    over all channels in hops of a millisecond. All channels get the same gain, which is interpolated linearly between
    hops. Any format, rate and channel count. Samples keep their positions and come later by `delay`. Not a limiter:
    with `makeup_db`, peaks may exceed full scale; integer formats clip them.
    """

    threshold_db: float = parameter(-20.0, help="level above which the gain falls, in dBFS", at_least=-100, at_most=0)
    ratio: float = parameter(
        4.0, help="dB of input for each dB of output, above the threshold", at_least=1, at_most=1_000
    )
    knee_db: float = parameter(6.0, help="width of the bend around the threshold, in dB", at_least=0, at_most=40)
    attack_ms: float = parameter(5.0, help="time constant of falling gain, in ms", at_least=0, at_most=1_000)
    release_ms: float = parameter(100.0, help="time constant of recovering gain, in ms", at_least=0, at_most=10_000)
    makeup_db: float = parameter(0.0, help="make-up gain at all levels, in dB", at_least=-60, at_most=60)

    def make_filter(self, sample_rate: int, channels: int) -> Filter:
        return GainFilter(sample_rate, channels, _FeedForward(self, hop_frames(sample_rate) * 1000 / sample_rate))

    @property
    def delay(self) -> float:
        """Length of a hop, in seconds."""
        return HOP_MS / 1000
