"""What Spectrogram, MelSpectrogram and MFCC have in common: one row of numbers for each window of the stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import attrs
import numpy as np

from nodes.contract import Audio, Data, Kind, Node, parameter
from nodes.framing import MonoWindows, Windows
from nodes.joining import end_to_end
from nodes.spectra import Spectra, power_spectra
from nodes.speech import milliseconds

__all__ = ["SpectralFeature"]


@attrs.define
class SpectralFeature(Node):
    """Gives a row for each window: `window_ms` of the stream, every `hop_ms` from where it began.

    After a gap the windows begin anew. What is less than a window is dropped. Several channels are averaged.
    """

    window_ms: float = parameter(25.0, help="length of a window in ms", at_least=1, at_most=500)
    hop_ms: float = parameter(10.0, help="from one window to the next, in ms; at most window_ms", at_least=1)
    _windows: MonoWindows = attrs.field(init=False, repr=False)

    takes = Kind.AUDIO
    gives = Kind.DATA
    decimals: ClassVar[int]

    def __attrs_post_init__(self) -> None:
        if self.hop_ms > self.window_ms:
            raise ValueError(f"hop_ms must be at most window_ms ({self.window_ms:g}), got {self.hop_ms:g}")
        self._windows = MonoWindows(self.window_ms, self.hop_ms)

    def require_rate(self, sample_rate: int) -> None:
        """Refuse a rate for which the parameters make no sense.

        Raises:
          InvalidInput: they do not.
        """

    def features(self, power: Spectra, sample_rate: int) -> Spectra:
        """Rows of features, shape (count, n), of power spectra, shape (count, bins)."""
        raise NotImplementedError

    def process(self, item: Audio) -> Iterable[Data]:
        """Give the features of the windows that one block completes: an item, several if there are very many.

        Raises:
          InvalidInput: the rate or channel count is not the stream's, or does not fit the parameters, the block goes
            back, or holds NaN or infinity.
        """
        self.require_rate(item.sample_rate)
        return [self._told(windows) for windows in self._windows.push(item)]

    def _told(self, windows: Windows) -> Data:
        rate, count = windows.sample_rate, len(windows.samples)
        hop = self._windows.sizes(rate)[1]
        rows = np.round(self.features(power_spectra(windows.samples), rate), self.decimals)
        starts = [windows.position + k * hop for k in range(count)]
        value = {"frames": rows.tolist(), "times_ms": [milliseconds(start * 1000 / rate) for start in starts]}
        return Data(value, starts[0] / rate, (starts[-1] + hop) / rate)

    def finish(self) -> Iterable[Data]:
        """Drop what is less than a window."""
        self._windows.clear()
        return ()

    def close(self) -> None:
        """Let go of what is held."""
        self._windows.clear()

    def join(self, items: Sequence[Data]) -> Data:
        """All frames and their times, one after another."""
        return end_to_end(items, ("frames", "times_ms"))

    @property
    def delay(self) -> float:
        """The length of a window, in seconds."""
        return self.window_ms / 1000

    @property
    def memory_bytes(self) -> int:
        """The frames that wait for a whole window."""
        return self._windows.memory_bytes
