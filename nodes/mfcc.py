"""MFCC: the shape of the spectrum in a few numbers, over time."""

from __future__ import annotations

from typing import ClassVar

import attrs

from nodes.contract import parameter
from nodes.dsp.spectra import Spectra, dct_matrix
from nodes.mel_spectrogram import MelSpectrogram

__all__ = ["MFCC"]


@attrs.define
class MFCC(MelSpectrogram):
    """Compute the mel-frequency cepstral coefficients of every window (Davis and Mermelstein, 1980).

    The first `coefficients` of the orthonormal DCT-II of MelSpectrogram's levels; the 0th is the overall level. Equal,
    within rounding, to librosa's `feature.mfcc` (`center=False`, `power_to_db(top_db=None)`, no lifter) and to
    `scipy.fft.dct(type=2, norm="ortho")`. Windows begin every `hop_ms` from the beginning of the stream, or of a
    stretch after a gap, however it is cut; a remainder of less than a window is discarded. Several channels are
    averaged. A block that completes windows yields:

    * `frames`: for each window, a list of `coefficients` numbers, rounded to 0.001;
    * `times_ms`: for each window, its beginning.
    """

    coefficients: int = parameter(13, help="number of coefficients; at most bands", at_least=1)

    decimals: ClassVar[int] = 3

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.coefficients > self.bands:
            raise ValueError(f"coefficients must be at most bands ({self.bands}), got {self.coefficients}")

    def features(self, power: Spectra, sample_rate: int) -> Spectra:
        """Compute the coefficients."""
        cepstra: Spectra = super().features(power, sample_rate) @ dct_matrix(self.coefficients, self.bands).T
        return cepstra
