"""Gain that follows the peaks of the signal, for Limiter and Compressor.

The signal is cut into hops of one millisecond. The gain at each boundary between hops is computed from the peaks of the
hops, over all channels; between boundaries it follows a straight line. So NumPy does all the work per sample, and the
result does not depend on how the audio is cut into blocks.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nodes.dsp.windows import Framing
from nodes.items import Float32

__all__ = ["HOP_MS", "GainComputer", "GainFilter", "hop_frames"]

HOP_MS = 1

_Float64 = NDArray[np.float64]

_LARGEST = float(np.finfo(np.float32).max)


def hop_frames(sample_rate: int) -> int:
    """Length of a hop in frames; at least one, whatever the sample rate."""
    return max(1, sample_rate * HOP_MS // 1000)


def _rounded_down(value: float) -> np.float32:
    nearest = np.float32(value)
    return np.nextafter(nearest, np.float32(0.0)) if float(nearest) > value else nearest


class GainComputer(Protocol):
    """Computes gains from the peaks of hops: one at each boundary, the first before the first hop."""

    def push(self, peaks: _Float64) -> _Float64:
        """Take the linear peaks of the next hops; return the linear gains at the boundaries that are known now."""
        ...

    def flush(self) -> _Float64:
        """Return the remaining gains, up to the boundary after the last hop."""
        ...


class GainFilter:
    """A `Filter` that multiplies hops by the gains of a `GainComputer`.

    Args:
      sample_rate: In Hz.
      channels: Number of channels.
      computer: Source of the gains, fresh.
      ceiling: Greatest amplitude, linear; samples that rounding would leave above it are clipped.
    """

    def __init__(self, sample_rate: int, channels: int, computer: GainComputer, ceiling: float = _LARGEST) -> None:
        self._computer, self._channels = computer, channels
        self._size = hop_frames(sample_rate)
        self._ramp = np.arange(1, self._size + 1) / self._size
        self._ceiling = _rounded_down(ceiling)
        self._framing = Framing(self._size, self._size, 0)
        self._held = np.zeros((0, self._size, channels), np.float32)
        self._gains: _Float64 = np.zeros(0)

    def push(self, frames: Float32) -> Float32:
        _, samples, count = self._framing.push(frames)
        hops = samples[: count * self._size].reshape(count, self._size, self._channels)
        self._held = np.concatenate((self._held, hops))
        return self._apply(self._computer.push(np.abs(hops).max(axis=(1, 2)).astype(np.float64)))

    def flush(self) -> Float32:
        rest = self._framing.rest()
        missing = 0 if rest is None else self._size - len(rest)
        given = self.push(np.zeros((missing, self._channels), np.float32))
        whole = np.concatenate((given, self._apply(self._computer.flush())))
        return whole[: len(whole) - missing]

    def _apply(self, gains: _Float64) -> Float32:
        """Return the held hops whose gains at both ends are known, amplified."""
        self._gains = np.concatenate((self._gains, gains))
        count = len(self._gains) - 1
        if count < 1:
            return np.zeros((0, self._channels), np.float32)
        hops, self._held = self._held[:count], self._held[count:]
        lines = self._gains[:-1, None] + np.diff(self._gains)[:, None] * self._ramp
        self._gains = self._gains[-1:]
        amplified = (hops * lines[:, :, None]).reshape(-1, self._channels)
        return np.clip(amplified, -self._ceiling, self._ceiling).astype(np.float32)

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the hops whose gains are not known yet, and of the incomplete hop."""
        return self._held.nbytes + self._framing.memory_bytes
