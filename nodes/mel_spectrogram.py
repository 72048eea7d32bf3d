"""MelSpectrogram: power in mel bands, over time."""

from __future__ import annotations

from typing import ClassVar

import attrs

from nodes.bases.spectral_feature import SpectralFeature
from nodes.contract import InvalidInput, parameter
from nodes.dsp.spectra import Spectra, decibels, mel_filters

__all__ = ["MelSpectrogram"]


@attrs.define
class MelSpectrogram(SpectralFeature):
    """Compute the power of every window in mel bands, in dB: 10·log10, with a floor of -100.

    Power spectra as in Spectrogram, through triangular filters that are evenly spaced on Slaney's mel scale and have
    equal areas (Auditory Toolbox, 1998). Equal, within rounding, to librosa's `filters.mel` and
    `power_to_db(top_db=None)`. Windows begin every `hop_ms` from the beginning of the stream, or of a stretch after a
    gap, however it is cut; a remainder of less than a window is discarded. Several channels are averaged. A block that
    completes windows yields:

    * `frames`: for each window, a list of `bands` levels in dB, rounded to 0.01;
    * `times_ms`: for each window, its beginning.
    """

    bands: int = parameter(40, help="number of mel bands", at_least=1, at_most=256)
    min_hz: float = parameter(0.0, help="lower edge of the lowest band, in Hz", at_least=0, at_most=384_000)
    max_hz: float | None = parameter(
        None, help="upper edge of the highest band, in Hz; none: half the sample rate", above=0, at_most=384_000
    )

    decimals: ClassVar[int] = 2

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.max_hz is not None and self.max_hz <= self.min_hz:
            raise ValueError(f"max_hz must be above min_hz ({self.min_hz:g}), got {self.max_hz:g}")

    def require_rate(self, sample_rate: int) -> None:
        """Reject a sample rate that is too low for the bands.

        Raises:
          InvalidInput: half of the rate is below `max_hz`, or not above `min_hz`.
        """
        if (self.max_hz or 0.0) > sample_rate / 2 or self.min_hz >= sample_rate / 2:
            raise InvalidInput(f"the bands reach beyond {sample_rate / 2:g} Hz, half of the sample rate")

    def features(self, power: Spectra, sample_rate: int) -> Spectra:
        """Compute the levels of the bands."""
        highest = sample_rate / 2 if self.max_hz is None else self.max_hz
        fft_size = 2 * (power.shape[1] - 1)
        return decibels(power @ mel_filters(sample_rate, fft_size, self.bands, self.min_hz, highest).T)
