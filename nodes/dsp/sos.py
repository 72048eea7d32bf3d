"""Recursive filters of any order as second-order sections, run by SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodes.dsp.blocks import bounded
from nodes.items import Float32
from nodes.libraries.extras import require

__all__ = ["Sections", "SectionsFilter", "scipy_signal"]

Sections = NDArray[np.float64]
"""Shape (sections, 6): b0, b1, b2, a0, a1, a2 of each, as `scipy.signal.sosfilt` takes them."""

_TINY = 1e-200


def scipy_signal() -> Any:
    """Import scipy.signal.

    Raises:
      ValueError: SciPy is not installed; the message names the extra.
    """
    return require("scipy.signal", "dsp")


class SectionsFilter:
    """A `Filter` of second-order sections in float64, for each channel separately, at rest before the first frame."""

    def __init__(self, sections: Sections, channels: int) -> None:
        self._sosfilt = scipy_signal().sosfilt
        self._sections = sections
        self._state = np.zeros((len(sections), 2, channels))

    def run(self, frames: Float32) -> NDArray[np.float64]:
        """Filter shape (n, channels) without rounding to float32."""
        filtered: NDArray[np.float64]
        filtered, self._state = self._sosfilt(self._sections, frames, axis=0, zi=self._state)
        self._state[np.abs(self._state) < _TINY] = 0.0  # denormals, in which silence would end, are slow on some CPUs
        return filtered

    def push(self, frames: Float32) -> Float32:
        return bounded(self.run(frames)).astype(np.float32)

    def flush(self) -> Float32:
        return np.zeros((0, self._state.shape[2]), np.float32)

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the state: two float64 numbers for each section and channel."""
        return self._state.nbytes
