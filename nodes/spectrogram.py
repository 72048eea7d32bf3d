"""Spectrogram: how strong each frequency is, over time."""

from __future__ import annotations

from typing import ClassVar

import attrs

from nodes.bases.spectral_feature import SpectralFeature
from nodes.contract import InvalidInput, parameter
from nodes.dsp.spectra import Spectra, decibels

__all__ = ["Spectrogram"]


@attrs.define
class Spectrogram(SpectralFeature):
    """Give the power spectrum of every window in dB: 10·log10 |FFT|², not below -100.

    Short-time Fourier transform under a periodic Hann window, zero-padded to a power of two N: bin k is the frequency
    k · rate / N. Equal to scipy's and librosa's one-shot formulas (`center=False`, `power_to_db(top_db=None)`) within
    its rounding. Windows lie every `hop_ms` from where the stream, or a stretch after a gap, began, however it is cut;
    what is less than a window is dropped. Several channels are averaged. Each block gives, if it completes a window:

    * `frames`: for each window a list of levels in dB, rounded to 0.01, from 0 Hz to `max_hz`;
    * `times_ms`: for each window where it begins.
    """

    max_hz: float | None = parameter(
        None, help="leave out what is above, in Hz; none: half the sample rate", above=0, at_most=384_000
    )

    decimals: ClassVar[int] = 2

    def require_rate(self, sample_rate: int) -> None:
        """Refuse a rate that has no such frequency.

        Raises:
          InvalidInput: half of it is below `max_hz`.
        """
        if self.max_hz is not None and self.max_hz > sample_rate / 2:
            raise InvalidInput(f"max_hz is {self.max_hz:g}, at {sample_rate} Hz there is nothing above half of that")

    def features(self, power: Spectra, sample_rate: int) -> Spectra:
        """The levels of the bins up to `max_hz`."""
        highest = sample_rate / 2 if self.max_hz is None else self.max_hz
        fft_size = 2 * (power.shape[1] - 1)
        return decibels(power[:, : int(highest * fft_size / sample_rate) + 1])
