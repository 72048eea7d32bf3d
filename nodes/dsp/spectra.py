"""Spectra, mel bands and cepstra of windows, by their textbook formulas; all float64."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spectra", "dct_matrix", "decibels", "mel_filters", "power_spectra", "spectrum_size"]

Spectra = NDArray[np.float64]

_QUIETEST = 1e-10


def spectrum_size(window: int) -> int:
    """FFT length for a window: the next power of two."""
    return 1 << (window - 1).bit_length()


def power_spectra(windows: Spectra) -> Spectra:
    """|FFT|² of windows under a periodic Hann window, padded with zeros to a power of two.

    Args:
      windows: Shape (count, size).

    Returns:
      Shape (count, spectrum_size(size) / 2 + 1); bin k is k · rate / spectrum_size.
    """
    spectra = np.fft.rfft(windows * _hann(windows.shape[1]), spectrum_size(windows.shape[1]))
    power: Spectra = spectra.real**2 + spectra.imag**2
    return power


@functools.lru_cache(maxsize=16)
def _hann(size: int) -> Spectra:
    hann: Spectra = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    return hann


def decibels(power: Spectra) -> Spectra:
    """Convert power to dB, 10·log10, with a floor of -100 dB: librosa's `power_to_db(power, top_db=None)`."""
    levels: Spectra = 10.0 * np.log10(np.maximum(power, _QUIETEST))
    return levels


@functools.lru_cache(maxsize=16)
def mel_filters(sample_rate: int, fft_size: int, bands: int, min_hz: float, max_hz: float) -> Spectra:
    """Triangular filters, evenly spaced on the mel scale and of equal area, shape (bands, fft_size / 2 + 1).

    The scale and the area are those of Slaney's Auditory Toolbox (Technical Report 1998-010), as in librosa's
    `filters.mel`.
    """
    edges = _hz(np.linspace(_mel(min_hz), _mel(max_hz), bands + 2))
    bins = np.arange(fft_size // 2 + 1) * (sample_rate / fft_size)
    rising = (bins - edges[:-2, np.newaxis]) / (edges[1:-1] - edges[:-2])[:, np.newaxis]
    falling = (edges[2:, np.newaxis] - bins) / (edges[2:] - edges[1:-1])[:, np.newaxis]
    areas = 2.0 / (edges[2:] - edges[:-2])
    filters: Spectra = np.maximum(0.0, np.minimum(rising, falling)) * areas[:, np.newaxis]
    return filters


_LINEAR_HZ = 200.0 / 3  # Hz per mel below 1 kHz
_BREAK_HZ = 1_000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27  # per mel above


def _mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _hz(mel: Spectra) -> Spectra:
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, logarithmic)


@functools.lru_cache(maxsize=16)
def dct_matrix(coefficients: int, bands: int) -> Spectra:
    """Return the first rows of the orthonormal DCT-II (Ahmed, Natarajan and Rao, 1974), shape (coefficients, bands)."""
    rows = np.arange(coefficients)[:, np.newaxis]
    matrix: Spectra = np.cos(np.pi * rows * (2 * np.arange(bands) + 1) / (2 * bands)) * np.sqrt(2.0 / bands)
    matrix[0] /= np.sqrt(2.0)
    return matrix
