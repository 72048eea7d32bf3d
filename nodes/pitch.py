"""Pitch: the fundamental frequency of a voice or an instrument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.bases.window_analyser import WindowAnalyser
from nodes.contract import InvalidInput, parameter
from nodes.dsp.windows import MonoWindows, Windows

__all__ = ["Pitch"]


@attrs.define
class Pitch(WindowAnalyser):
    """Estimate the fundamental frequency with YIN (de Cheveigné and Kawahara, JASA 111(4), 2002).

    Steps 1 to 5 of the paper: the difference function over a window of the longest period, through the FFT; its
    cumulative mean normalised form; the first dip below `threshold`; parabolic interpolation. Windows of
    twice the longest period begin every `hop_ms` from the beginning of the stream, or of a stretch after a gap, however
    it is cut. Several channels are averaged. A block that completes windows yields:

    * `pitch_hz`: for each window, the frequency, rounded to 0.01, or null if no period is found;
    * `confidence`: 1 minus the height of the dip, 0 to 1, rounded to 0.001; without a pitch, of the lowest dip;
    * `times_ms`: for each window, its beginning.
    """

    min_hz: float = parameter(60.0, help="lowest frequency to look for, in Hz", at_least=20, at_most=5_000)
    max_hz: float = parameter(500.0, help="highest frequency to look for, in Hz", above=20, at_most=10_000)
    hop_ms: float = parameter(10.0, help="time from one estimate to the next, in ms", at_least=1, at_most=100)
    threshold: float = parameter(
        0.15, help="greatest height of a dip, 0 to 1; 0 is a perfect period", above=0, at_most=1
    )

    fields = ("pitch_hz", "confidence")

    def __attrs_post_init__(self) -> None:
        if self.max_hz <= self.min_hz:
            raise ValueError(f"max_hz must be above min_hz ({self.min_hz:g}), got {self.max_hz:g}")
        if self.hop_ms > 2000 / self.min_hz:
            raise ValueError(f"hop_ms must be at most twice the longest period, {2000 / self.min_hz:g} ms")
        self._windows = MonoWindows(2000 / self.min_hz, self.hop_ms)

    def require_rate(self, sample_rate: int) -> None:
        """Reject a sample rate below four times `max_hz`."""
        if sample_rate < 4 * self.max_hz:
            raise InvalidInput(f"the sample rate must be at least four times max_hz, {4 * self.max_hz:g} Hz")

    def measure(self, windows: Windows) -> Mapping[str, Sequence[Any]]:
        """Estimate the frequency of each window, with its confidence."""
        rate = windows.sample_rate
        periods, dips = yin(windows.samples, max(2, int(rate / self.max_hz)), self.threshold)
        return {
            "pitch_hz": [round(rate / period, 2) if period else None for period in periods.tolist()],
            "confidence": np.round(np.clip(1.0 - dips, 0.0, 1.0), 3).tolist(),
        }

    @property
    def delay(self) -> float:
        """Twice the longest period, in seconds."""
        return 2 / self.min_hz


def yin(
    windows: NDArray[np.float64], shortest: int, threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the period of each window, in frames, 0 where there is none, and the height of its dip.

    Args:
      windows: Shape (count, size); periods of up to size / 2 frames are found.
      shortest: Shortest period, in frames.
      threshold: Height that a dip must stay below.
    """
    normalised = _normalised(_difference(windows))
    inside = normalised[:, shortest:-1]
    dips = (inside < threshold) & (inside <= normalised[:, shortest + 1 :])  # the first is the bottom of the first dip
    found, rows = dips.any(axis=1), np.arange(len(windows))
    places = shortest + np.where(found, dips.argmax(axis=1), inside.argmin(axis=1))
    before, here, after = (normalised[rows, places + step] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend > 0)
    return np.where(found, places + np.clip(shift, -0.5, 0.5), 0.0), here


def _difference(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum (x[j] - x[j + lag])² over half a window, for each lag up to half a window."""
    size = windows.shape[1]
    longest = size // 2
    width = size - longest
    fft_size = 1 << (size - 1).bit_length()
    spectra = np.fft.rfft(windows, fft_size)
    halves = np.fft.rfft(windows[:, :width], fft_size)
    products = np.fft.irfft(spectra * halves.conj(), fft_size)[:, : longest + 1]
    energies = np.pad(np.cumsum(windows**2, axis=1), ((0, 0), (1, 0)))
    moved = energies[:, width : width + longest + 1] - energies[:, : longest + 1]
    difference: NDArray[np.float64] = np.maximum(moved[:, :1] + moved - 2 * products, 0.0)
    return difference


def _normalised(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide the difference by its mean over the lags up to each; 1 at lag 0, and where there is only silence."""
    sums = np.cumsum(difference[:, 1:], axis=1)
    lags = np.arange(1, difference.shape[1])
    normalised = np.ones_like(difference)
    np.divide(difference[:, 1:] * lags, sums, out=normalised[:, 1:], where=sums > 0)
    return normalised
