"""Spectrogram: power at each frequency, over time."""

from __future__ import annotations

from typing import ClassVar

import attrs

from nodes.bases.spectral_feature import SpectralFeature
from nodes.contract import InvalidInput, parameter
from nodes.dsp.spectra import Spectra, decibels

__all__ = ["Spectrogram"]


@attrs.define
class Spectrogram(SpectralFeature):
    """Compute the power spectrum of every window in dB: 10·log10 |FFT|², with a floor of -100.

    Short-time Fourier transform under a periodic Hann window, zero-padded to a power of two N: bin k is the frequency
    k · rate / N. Equal, within rounding, to the one-shot formulas of SciPy and librosa (`center=False`,
    `power_to_db(top_db=None)`). Windows begin every `hop_ms` from the beginning of the stream, or of a stretch after a
    gap, however it is cut; a remainder of less than a window is discarded. Several channels are averaged. A block that
    completes windows yields:

    * `frames`: for each window, a list of levels in dB, rounded to 0.01, from 0 Hz to `max_hz`;
    * `times_ms`: for each window, its beginning.
    """

    max_hz: float | None = parameter(
        None, help="highest frequency, in Hz; none: half the sample rate", above=0, at_most=384_000
    )

    decimals: ClassVar[int] = 2

    def require_rate(self, sample_rate: int) -> None:
        """Reject a sample rate that is too low for `max_hz`.

        Raises:
          InvalidInput: half of the rate is below `max_hz`.
        """
        if self.max_hz is not None and self.max_hz > sample_rate / 2:
            raise InvalidInput(f"max_hz is {self.max_hz:g} Hz, above half of the sample rate, {sample_rate} Hz")

    def features(self, power: Spectra, sample_rate: int) -> Spectra:
        """Compute the levels of the bins up to `max_hz`."""
        highest = sample_rate / 2 if self.max_hz is None else self.max_hz
        fft_size = 2 * (power.shape[1] - 1)
        return decibels(power[:, : int(highest * fft_size / sample_rate) + 1])
