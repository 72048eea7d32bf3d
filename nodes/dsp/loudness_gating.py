"""Integrated loudness: the gated mean of a whole programme, in memory that does not grow with its length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nodes.dsp.decibels import power

__all__ = ["OFFSET_DB", "GatedMean"]

OFFSET_DB = -0.691
"""Loudness in LUFS is the weighted power in dB plus this offset, which cancels the gain of the K-weighting at 1 kHz."""

_LOWEST_LUFS, _HIGHEST_LUFS, _BIN_LU = -70.0, 30.0, 0.1
_N_BINS = round((_HIGHEST_LUFS - _LOWEST_LUFS) / _BIN_LU)
_CENTRES = power(-OFFSET_DB) * 10.0 ** ((_LOWEST_LUFS + (np.arange(_N_BINS) + 0.5) * _BIN_LU) / 10.0)
_RELATIVE_GATE = power(-10.0)


class GatedMean:
    """Mean power of gating blocks by ITU-R BS.1770-4: of those above -70 LUFS, those above their mean less 10 LU.

    Blocks are counted in a histogram of 0.1 LU, with the sum of their powers, so the means are exact. Only the blocks
    in the bin that contains the relative gate are all included or all excluded, according to the middle of the bin.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_N_BINS, np.int64)
        self._sums = np.zeros(_N_BINS)

    def add(self, powers: NDArray[np.float64]) -> None:
        """Add the weighted powers of gating blocks, shape (n,)."""
        audible = powers[powers > 0.0]
        bins = np.floor((10.0 * np.log10(audible) + OFFSET_DB - _LOWEST_LUFS) / _BIN_LU).astype(np.int64)
        loud = bins >= 0
        bins, audible = np.minimum(bins[loud], _N_BINS - 1), audible[loud]
        np.add.at(self._counts, bins, 1)
        np.add.at(self._sums, bins, audible)

    def mean(self) -> float | None:
        """Return the gated mean; None before a block was above -70 LUFS."""
        blocks = int(self._counts.sum())
        if not blocks:
            return None
        first = int(np.searchsorted(_CENTRES, _RELATIVE_GATE * self._sums.sum() / blocks))
        return float(self._sums[first:].sum() / self._counts[first:].sum())

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the histogram."""
        return self._counts.nbytes + self._sums.nbytes
