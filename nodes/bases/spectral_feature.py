"""Base class of Spectrogram, MelSpectrogram and MFCC: one row of numbers for each window of the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from nodes.bases.window_analyser import WindowAnalyser
from nodes.contract import parameter
from nodes.dsp.spectra import Spectra, power_spectra
from nodes.dsp.windows import MonoWindows, Windows

__all__ = ["SpectralFeature"]


@attrs.define
class SpectralFeature(WindowAnalyser):
    """Yields one row of `frames` for each window; windows of `window_ms` begin every `hop_ms` of the stream."""

    window_ms: float = parameter(25.0, help="length of a window in ms", at_least=1, at_most=500)
    hop_ms: float = parameter(10.0, help="time from one window to the next in ms; at most window_ms", at_least=1)

    fields = ("frames",)
    decimals: ClassVar[int]

    def __attrs_post_init__(self) -> None:
        if self.hop_ms > self.window_ms:
            raise ValueError(f"hop_ms must be at most window_ms ({self.window_ms:g}), got {self.hop_ms:g}")
        self._windows = MonoWindows(self.window_ms, self.hop_ms)

    def features(self, power: Spectra, sample_rate: int) -> Spectra:
        """Compute rows of features, shape (count, n), from power spectra, shape (count, bins)."""
        raise NotImplementedError

    def measure(self, windows: Windows) -> Mapping[str, Sequence[Any]]:
        """Compute the features, rounded to `decimals`."""
        rows = np.round(self.features(power_spectra(windows.samples), windows.sample_rate), self.decimals)
        return {"frames": rows.tolist()}

    @property
    def delay(self) -> float:
        """Length of a window, in seconds."""
        return self.window_ms / 1000
