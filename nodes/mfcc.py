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
    """Give the mel-frequency cepstral coefficients of every window (Davis and Mermelstein, 1980).

    The orthonormal DCT-II of the levels that MelSpectrogram gives, its first `coefficients`; the 0th is the overall
    level. Equal to librosa's `feature.mfcc` (`center=False`, `power_to_db(top_db=None)`, no lifter) and to
    `scipy.fft.dct(type=2, norm="ortho")` within its rounding. Windows lie every `hop_ms` from where the stream, or
    a stretch after a gap, began, however it is cut; what is less than a window is dropped. Several channels are
    averaged. Each block gives, if it completes a window:

    * `frames`: for each window a list of `coefficients` numbers, rounded to 0.001;
    * `times_ms`: for each window where it begins.
    """

    coefficients: int = parameter(13, help="how many; at most bands", at_least=1)

    decimals: ClassVar[int] = 3

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.coefficients > self.bands:
            raise ValueError(f"coefficients must be at most bands ({self.bands}), got {self.coefficients}")

    def features(self, power: Spectra, sample_rate: int) -> Spectra:
        """The coefficients."""
        cepstra: Spectra = super().features(power, sample_rate) @ dct_matrix(self.coefficients, self.bands).T
        return cepstra
